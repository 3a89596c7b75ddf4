"""Labels that predictions contradict, by confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068).

A class counts as confidently predicted where its probability reaches the mean probability of the class over the rows with its
label, so that the threshold of a class that models are less sure of is lower. A row is suspect where its most probable confident
class is not its label. Predictions must be out of fold: a model that was trained on a row has learnt its label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.errors import UserError


@dataclass(frozen=True)
class Suspects:
    """Suspect rows, the surest first (smallest margin); arrays of equal length S."""

    rows: np.ndarray  # int64, among the N that were given
    suggested: np.ndarray  # int64 class numbers
    margins: np.ndarray  # float64: probability of the row's label minus that of the suggested class
    thresholds: np.ndarray  # float64 [C]


def find_suspects(labels: np.ndarray, probabilities: np.ndarray) -> Suspects:
    """The suspect rows of class numbers int [N] and out-of-fold probabilities float [N, C].

    Raises:
      UserError: a class without a row, whose threshold nobody knows.
    """
    labels, probabilities = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts == 0).any():
        raise UserError(f"class number {int(np.argmin(counts))} has no row; an audit needs rows of every class")
    thresholds = np.array([probabilities[labels == c, c].mean() for c in range(probabilities.shape[1])])
    confident = np.where(probabilities >= thresholds[None], probabilities, -1.0)
    best = confident.argmax(axis=1)
    rows = np.flatnonzero((confident.max(axis=1) >= 0) & (best != labels))
    margins = probabilities[rows, labels[rows]] - probabilities[rows, best[rows]]
    order = np.argsort(margins, kind="stable")
    return Suspects(rows[order], best[rows][order], margins[order], thresholds)
