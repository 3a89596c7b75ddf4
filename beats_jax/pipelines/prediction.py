"""From windows to one answer a row: the mean of the logits of a row's windows, then the model's own rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.datasets.loader import Batch
from beats_jax.datasets.manifest import LabelVocabulary, Manifest

# (arrays of a batch) -> float32 [B, C], rows that could not be read included
LogitsFunction = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class RowPredictions:
    """What the model says of the rows that could be read.

    Attributes:
      rows: int64 [N], indices into the manifest, ascending.
      logits: float64 [N, C], mean over the row's windows.
      errors: files that could not be read.
    """

    rows: np.ndarray
    logits: np.ndarray
    errors: tuple[AudioError, ...]

    def probabilities(self, multi_label: bool) -> np.ndarray:
        """float64 [N, C]: sigmoid for several labels a row, softmax for one."""
        if multi_label:
            return 0.5 * (1 + np.tanh(0.5 * self.logits))
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)


def predict_rows(logits_of: LogitsFunction, batches: Iterable[Batch], num_rows: int, num_classes: int) -> RowPredictions:
    """Runs a model over every window once.

    Args:
      logits_of: the model; called with the arrays of each batch.
      batches: from `datasets.loader.evaluation_batches`.
      num_rows: rows of the manifest.
    """
    total = np.zeros((num_rows, num_classes))
    windows = np.zeros(num_rows, np.int64)
    errors: list[AudioError] = []
    for batch in batches:
        real = batch.arrays["example_mask"]
        rows = batch.arrays["rows"][real]
        np.add.at(total, rows, np.asarray(logits_of(batch.arrays), np.float64)[real])
        np.add.at(windows, rows, 1)
        errors += batch.errors
    seen = np.flatnonzero(windows)
    return RowPredictions(seen, total[seen] / windows[seen, None], tuple(errors))


def encoded_labels(manifest: Manifest, vocabulary: LabelVocabulary, rows: np.ndarray, multi_label: bool) -> np.ndarray:
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
