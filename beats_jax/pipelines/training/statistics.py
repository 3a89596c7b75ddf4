"""Mean and standard deviation of the training recordings' filterbanks, for `data.statistics` "training"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from beats_jax.config import Experiment, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.program import FilterbankProgram
from beats_jax.inference.reduce import Moments
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.training.preparation import PreparedData
from beats_jax.pipelines.training.workdir import read_json, write_json

STATISTICS_FILE = "statistics.json"


def with_statistics(experiment: Experiment, data: PreparedData, workdir: Path) -> Experiment:
    """The experiment, with the mean and std of its training rows where `data.statistics` is "training".

    They are kept in statistics.json, so that a resumed run has the same. Raises `UserError` for images, and as
    `training_statistics`.
    """
    if experiment.data.statistics == "given":
        return experiment
    kind = experiment.audio.filterbank.kind
    if experiment.audio.filterbank.is_image:
        raise UserError(f"data.statistics 'training' is for spectra; filterbank.kind {kind!r} stretches each image: use 'given'")
    path = workdir / STATISTICS_FILE
    if not call_on_main(path.is_file):
        computed = training_statistics(experiment, data)
        call_on_main(lambda: write_json(path, computed))
    found = call_on_main(lambda: read_json(path, {"mean": float, "std": float}, remedy="delete it, it is made again"))
    print(f"filterbank of the training rows: mean {found['mean']:.4f}, standard deviation {found['std']:.4f}", flush=True)
    settings = replace(experiment.audio.filterbank, mean=found["mean"], std=found["std"])
    return replace(experiment, audio=replace(experiment.audio, filterbank=settings))


def training_statistics(experiment: Experiment, prepared: PreparedData) -> dict[str, float | int]:
    """`mean` and `std` of all values of the raw filterbank in real frames of the training rows, and their `frames`.

    Every value counts alike. AST's own script averages the statistics of padded clips, which depend on the padding.

    Raises:
      UserError: there is no frame, or all values are the same.
    """
    raw = replace(experiment.audio, filterbank=replace(experiment.audio.filterbank, mean=0.0, std=0.5, target_frames=0))
    data, rows = experiment.data, prepared.manifest.split("train")
    program = FilterbankProgram(raw, centre=_centre(raw.filterbank))
    reading = {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "on_error": "rest"}
    found = answer_rows(program, rows, Grid(data.heard_seconds, data.hop_seconds), Moments(), shared=True, **reading)
    moments = [row.value for row in found if row.value is not None and row.value["count"] > 0]
    if not moments:
        raise UserError("data.statistics is 'training' but no training row holds a whole frame of sound")
    counts = np.array([one["count"] for one in moments])[:, None]
    means, squares = np.stack([one["mean"][0] for one in moments]), np.stack([one["m2"][0] for one in moments])
    frames = counts.sum()
    offset = float((counts * means).sum() / (frames * means.shape[1]))
    variance = float((squares + counts * (means - offset) ** 2).sum() / (frames * means.shape[1]))
    if variance < 1e-6:  # rounding
        raise UserError("data.statistics is 'training' but every filterbank value of the training rows is the same")
    return {"mean": offset + program.centre, "std": float(np.sqrt(variance)), "frames": int(frames)}


def _centre(config: FilterbankConfig) -> float:
    """A value near the mean of real recordings; sums are taken around it, so that squares lose no digits."""
    return 15.0 if config.waveform_scale > 1 else -5.0
