"""Mean and standard deviation of the training recordings' filterbanks, for front-ends that are normalised by their own data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import Experiment, FilterbankConfig
from beats_jax.datasets.loader import evaluation_batches
from beats_jax.errors import UserError
from beats_jax.pipelines.preparation import PreparedData
from beats_jax.pipelines.workdir import read_json, write_json

STATISTICS_FILE = "statistics.json"


def with_statistics(experiment: Experiment, data: PreparedData, workdir: Path) -> Experiment:
    """The experiment with the mean and std of its training rows, where `data.statistics` is "training"; else as it is.

    They are kept in statistics.json, so that a resumed run has the same.
    """
    if experiment.data.statistics == "given":
        return experiment
    path = workdir / STATISTICS_FILE
    if not path.is_file():
        write_json(path, training_statistics(experiment, data))
    found = read_json(path)
    print(f"filterbank of the training rows: mean {found['mean']:.4f}, standard deviation {found['std']:.4f}", flush=True)
    settings = replace(experiment.audio.filterbank, mean=found["mean"], std=found["std"])
    return replace(experiment, audio=replace(experiment.audio, filterbank=settings))


def training_statistics(experiment: Experiment, data: PreparedData) -> dict[str, float | int]:
    """`mean` and `std` of all values of the raw filterbank in real frames of the training rows, and their `frames`.

    AST's own script averages the means and deviations of single clips, padding included; here every value counts alike.

    Raises:
      UserError: there is no frame, or all values are the same.
    """
    raw = replace(experiment.audio.filterbank, mean=0.0, std=0.5, target_frames=0)
    sums = jax.jit(partial(_sums, config=raw))
    total, squares, frames = 0.0, 0.0, 0
    rows = data.manifest.split("train")
    for batch in evaluation_batches(rows, data.vocabulary, experiment.data, experiment.audio):
        lengths = np.where(batch.arrays["example_mask"], batch.arrays["lengths"], 0)
        one, two, number = (np.asarray(value, np.float64) for value in sums(batch.arrays["waveforms"], lengths))
        total, squares, frames = total + one.sum(), squares + two.sum(), frames + int(number.sum())
    values = frames * raw.num_mel_bins
    if not values:
        raise UserError("data.statistics is 'training' but no training row holds a whole frame of sound")
    offset = total / values
    variance = squares / values - offset**2
    if variance < 1e-6:  # rounding
        raise UserError("data.statistics is 'training' but every filterbank value of the training rows is the same")
    return {"mean": offset + _centre(raw), "std": float(np.sqrt(variance)), "frames": frames}


def _centre(config: FilterbankConfig) -> float:
    """A value near the mean of real recordings; sums are taken around it, so that squares lose no digits."""
    return 15.0 if config.waveform_scale > 1 else -5.0


def _sums(waveforms: jax.Array, lengths: jax.Array, config: FilterbankConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sum, sum of squares (both around the centre) and number of real frames, [B] each."""
    fbank, frame_mask = filterbank(waveforms, lengths, config)
    real = jnp.where(frame_mask[:, :, None], fbank - _centre(config), 0.0)
    return jnp.sum(real, (1, 2)), jnp.sum(real**2, (1, 2)), jnp.sum(frame_mask, 1)
