"""Predictions of a model for the rows of a manifest, their loss, and predictions for files without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.config import DataConfig
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.evaluation.metrics.calibration import negative_log_likelihood
from beats_jax.evaluation.metrics.classification import truth_of
from beats_jax.evaluation.predictions import PROBABILITY_PREFIX, predicted_names
from beats_jax.inference.files import file_scores, probabilities
from beats_jax.inference.grid import Grid, evaluation_grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.model import Model
from beats_jax.inference.program import Program
from beats_jax.inference.reduce import MeanLogits
from beats_jax.inference.tables import recordings_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RowPredictions:
    """Predictions for the rows that could be read."""

    rows: np.ndarray  # int64 [N], indices into the manifest, ascending
    logits: np.ndarray  # float64 [N, C], mean over the row's windows
    peaks: np.ndarray  # float64 [N, C], start of the window with the largest logit of each class, in seconds of the file
    errors: tuple[AudioError, ...]  # files that could not be read

    def probabilities(self, multi_label: bool) -> np.ndarray:
        """float64 [N, C]: sigmoid for several labels a row, softmax for one."""
        return probabilities(self.logits, multi_label)


def predict_rows(program: Program, manifest: Manifest, grid: Grid, num_classes: int, **options: Any) -> RowPredictions:
    """Runs a program that gives `logits` over the windows of every row; the processes of a job share them.

    Args:
      num_classes: C, for a manifest of which nothing can be read.
      options: of `inference.job.answer_rows`.
    """
    found = answer_rows(program, manifest, grid, MeanLogits(), shared=True, **options)
    good = [row for row in found if row.value is not None]
    shape = (len(good), num_classes)
    return RowPredictions(
        np.array([row.row for row in good], np.int64),
        np.array([row.value.logits for row in good], np.float64).reshape(shape),
        np.array([row.value.peaks for row in good], np.float64).reshape(shape),
        tuple(row.error for row in found if row.error is not None),
    )


def encode_labels(manifest: Manifest, vocabulary: LabelVocabulary, rows: np.ndarray, multi_label: bool) -> np.ndarray:
    """int32 [N] or float32 [N, C]: the labels of `rows`."""
    return np.stack([vocabulary.encode(manifest.labels[int(row)], multi_label) for row in rows])


def cross_entropy(labels: np.ndarray, logits: np.ndarray, multi_label: bool) -> float:
    """Mean over rows of -log softmax at the label, or over rows and classes of the binary cross-entropy; NaN without rows."""
    if not len(logits):
        return float("nan")
    return negative_log_likelihood(logits, truth_of(labels, logits, multi_label), multi_label)


def predict_files(
    model: Model, files: Sequence[str | os.PathLike[str]], data: DataConfig, *, threshold: float = 0.5
) -> pd.DataFrame:
    """A row for every file, in their order: file, prediction, `p:<class>` for each class, error.

    Args:
      data: windows, quiet ends, batches and threads, as in evaluation.
      threshold: of several labels a file: probability from which a class counts as predicted.
    Returns:
      `error` is empty, or the reason why the file could not be read; then prediction is empty and the probabilities are NaN.
    Raises:
      UserError: no files, or a model without a head.
    """
    import pandas as pd

    names, _ = recordings_of(files)
    reading = {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "trim_below_dbfs": data.trim_below_dbfs}
    found = file_scores(model, names, grid=evaluation_grid(data, model.audio), **reading)
    probabilities = np.full((len(names), len(model.labels)), np.nan)
    good = np.array([row.row for row in found if row.value is not None], np.int64)
    if len(good):
        probabilities[good] = np.stack([row.value for row in found if row.value is not None])
    predictions = np.full(len(names), "", object)
    predictions[good] = predicted_names(probabilities[good], model.labels, multi_label=model.multi_label, threshold=threshold)
    table = {"file": names, "prediction": predictions}
    table |= {PROBABILITY_PREFIX + label: probabilities[:, i] for i, label in enumerate(model.labels)}
    reasons = {row.row: row.error.reason for row in found if row.error is not None}
    return pd.DataFrame({**table, "error": [reasons.get(row, "") for row in range(len(names))]})
