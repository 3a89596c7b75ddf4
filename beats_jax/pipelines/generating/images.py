"""The images of a run: every window of every row that has one label, by split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.audio.spectrogram_images import Transform
from beats_jax.config import Experiment, FilterbankConfig, GenerativeConfig
from beats_jax.config.models import BEATsConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.stream import NO_ROW, window_batches
from beats_jax.pipelines.training.preparation import PreparedData

MOST_BYTES = 4 * 2**30  # of all images, which stay in memory
UNLABELLED = "sound"
WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class LabelledImages:
    """Images in dB, float32 [N, bands, frames], and their classes, text [N]; `padded` of them are of shorter sounds."""

    images: np.ndarray
    labels: np.ndarray
    padded: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def transform_of(experiment: Experiment) -> Transform:
    """The transform of an experiment's windows. Raises `UserError` as `Transform` does."""
    config, rate = experiment.objective, experiment.audio.sample_rate
    assert isinstance(config, GenerativeConfig)
    return Transform(config.image, rate, round(experiment.data.window_seconds * rate))


def require_generative(experiment: Experiment) -> None:
    """Raises `UserError` for settings that a generator does not heed, or that leave it nothing to read."""
    name = experiment.objective.name
    if experiment.model != BEATsConfig():
        raise UserError(f"objective {name} has its own network, of objective.width; config.model has no effect: leave it out")
    if experiment.audio.filterbank != FilterbankConfig(sample_rate=experiment.audio.sample_rate):
        raise UserError(
            f"objective {name} makes its images by objective.image; of config.audio.filterbank it heeds sample_rate alone"
        )
    if experiment.data.multi_label:
        raise UserError(f"objective {name} draws images of one class; data.multi_label has several: use False")
    transform_of(experiment)


def read_images(experiment: Experiment, data: PreparedData, split: str) -> LabelledImages:
    """The images of the rows of a split; windows follow each other, and the last one ends where the sound ends.

    Recordings that cannot be read are listed in errors.csv.

    Raises:
      UserError: rows with several labels, rows with and without one, or more images than fit into memory.
    """
    transform, settings = transform_of(experiment), experiment.data
    rows = data.manifest.split(split)
    names = _labels_of(rows)
    grid = Grid(settings.window_seconds, settings.hop_seconds)
    kept: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    bytes_ = padded = 0
    for batch in window_batches(
        rows, grid, experiment.audio, WINDOWS_AT_ONCE, samples=transform.samples, threads=max(1, settings.num_workers)
    ):
        for _, error in batch.errors:
            data.errors.add(error.path, error.reason)
        real = batch.row != NO_ROW
        images = transform.images(batch.waveforms[real])
        bytes_ += images.nbytes
        if bytes_ > MOST_BYTES:
            raise UserError(
                f"the images of the {split} rows take more than {MOST_BYTES / 2**30:.0f} GB; take longer windows "
                "(data.window_seconds, data.hop_seconds), fewer pixels (objective.image) or fewer recordings"
            )
        kept.append(images)
        owners.append(batch.row[real])
        padded += int((batch.lengths[real] < transform.samples - transform.hop).sum())
    if not kept:
        size = transform.config.bands, transform.config.frames
        return LabelledImages(np.zeros((0, *size), np.float32), np.zeros(0, "U1"))
    return LabelledImages(np.concatenate(kept), names[np.concatenate(owners)], padded)


def _labels_of(rows: Manifest) -> np.ndarray:
    """The class of each row, text [N]; `UNLABELLED` for all where none has a label."""
    counts = rows.labels.per_row
    if not counts.any():
        return np.full(len(rows), UNLABELLED)
    if (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise UserError(f"{rows.files[row]} has {counts[row]} labels; a generator needs one for each row, or none at all")
    return np.array([rows.labels[row][0] for row in range(len(rows))])
