"""What a model predicts for the rows of a manifest, and the loss of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.inference.files import probabilities
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.program import Program
from beats_jax.inference.reduce import MeanLogits


@dataclass(frozen=True)
class RowPredictions:
    """What the model predicts for the rows that could be read.

    Attributes:
      rows: int64 [N], indices into the manifest, ascending.
      logits: float64 [N, C], mean over the row's windows.
      peaks: float64 [N, C], where the window with the largest logit of each class starts, in seconds of the file.
      errors: files that could not be read.
    """

    rows: np.ndarray
    logits: np.ndarray
    peaks: np.ndarray
    errors: tuple[AudioError, ...]

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
    """Mean over rows of -log softmax at the label, or of the binary cross-entropy over classes too; NaN without rows."""
    if not len(logits):
        return float("nan")
    if multi_label:
        return float(np.mean(np.logaddexp(0, logits) - labels * logits))
    highest = logits.max(axis=1)
    log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - logits[np.arange(len(labels)), labels]))
