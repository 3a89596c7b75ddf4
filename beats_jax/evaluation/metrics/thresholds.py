"""The score from which a class counts as found, chosen on validation data for a wanted precision or recall, or the best F1.

Each class stands alone (one against the rest, in single-label data too): it is found in every example whose score is >= its
threshold. Only scores that occur in the validation data are thresholds, so examples of equal score come together. Validation
figures of a threshold are optimistic, because it was chosen there; `threshold_results` gives those on test data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.metrics.classification import ratio, truth_of

GOALS = ("precision", "recall", "f1")
_ROUNDING = 1e-12  # a wanted 0.9 is reached by 9 of 10


@dataclass(frozen=True)
class ThresholdResult:
    """A class at a threshold. None: precision without a find, recall without an example, F1 without either."""

    threshold: float | None  # None = the goal cannot be reached: the class is never found
    precision: float | None
    recall: float | None
    f1: float | None
    n: int  # examples that truly hold the class
    found: int  # examples whose score reaches the threshold
    why: str = ""  # the reason where the threshold is None


def choose_thresholds(
    labels: np.ndarray, scores: np.ndarray, *, multi_label: bool, goal: str, wanted: float | None = None
) -> tuple[ThresholdResult, ...]:
    """The threshold of every class on validation data.

    Args:
      labels: int [N] class numbers, or 0/1 [N, C] if `multi_label`.
      scores: float [N, C], larger = more likely.
      goal: "precision": of the thresholds that reach it, the one of most recall. "recall": of the thresholds that reach it, the
        one of most precision. "f1": the one of best F1. Of equals the highest threshold.
      wanted: the precision or recall, above 0 and at most 1; None for "f1".
    Returns:
      C results with what each threshold gives on these data; `threshold` None and the reason where it cannot be reached.
    Raises:
      ValueError: an unknown goal, `wanted` out of range, labels or scores that do not fit.
    """
    if goal not in GOALS:
        raise ValueError(f"goal is {goal!r}; known: {', '.join(GOALS)}")
    if (wanted is None) != (goal == "f1"):
        raise ValueError("wanted is the precision or recall to reach, and belongs to these two goals only")
    if wanted is not None and not 0 < wanted <= 1:
        raise ValueError(f"wanted is {wanted}; a {goal} to reach lies above 0 and at most at 1")
    truth, scores = _check(labels, scores, multi_label)
    return tuple(_choose(truth[:, i], scores[:, i], goal, wanted or 0.0) for i in range(scores.shape[1]))


def _choose(truth: np.ndarray, scores: np.ndarray, goal: str, wanted: float) -> ThresholdResult:
    """The threshold of one class; truth bool [N], scores [N]."""
    positives = int(truth.sum())
    if not positives:
        return ThresholdResult(None, None, None, None, 0, 0, "no example of the class in the validation data")
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # an example is the last of its score
    hits, found = np.cumsum(truth[order])[last], np.flatnonzero(last) + 1
    precision, recall = hits / found, hits / positives
    f1 = 2 * hits / (found + positives)
    reached, best = {
        "precision": (precision >= wanted - _ROUNDING, recall),
        "recall": (recall >= wanted - _ROUNDING, precision),
        "f1": (np.ones(len(hits), bool), f1),
    }[goal]
    if not reached.any():  # the best threshold there is would look like the wanted one: the class gets none, and the reason
        why = f"the highest {goal} is {precision.max():.3f}"
        return ThresholdResult(None, None, 0.0, 0.0, positives, 0, why)
    place = int(np.argmax(np.where(reached, best, -1.0)))  # the first of equals has the highest threshold
    return at_threshold(truth, scores, float(scores[order][last][place]))


def at_threshold(truth: np.ndarray, scores: np.ndarray, threshold: float | None) -> ThresholdResult:
    """The figures of one class at a threshold, None = nothing is found; truth bool [N], scores [N]."""
    chosen = np.zeros(len(scores), bool) if threshold is None else scores >= threshold
    n, found, hits = int(truth.sum()), int(chosen.sum()), int((truth & chosen).sum())
    values = (ratio(np.array(above), np.array(below)) for above, below in ((hits, found), (hits, n), (2 * hits, found + n)))
    precision, recall, f1 = (None if np.isnan(value) else float(value) for value in values)
    return ThresholdResult(threshold, precision, recall, f1, n, found)


def threshold_results(
    labels: np.ndarray, scores: np.ndarray, thresholds: Sequence[float | None], *, multi_label: bool
) -> tuple[ThresholdResult, ...]:
    """The figures of each class on these (test) data at thresholds chosen elsewhere; arguments as in `choose_thresholds`, N may
    be 0.

    Raises:
      ValueError: labels, scores or thresholds that do not fit.
    """
    truth, scores = _check(labels, scores, multi_label)
    chosen = apply_thresholds(scores, thresholds)  # refuses another number of thresholds
    return tuple(at_threshold(truth[:, i], scores[:, i], thresholds[i]) for i in range(chosen.shape[1]))


def apply_thresholds(scores: np.ndarray, thresholds: Sequence[float | None]) -> np.ndarray:
    """bool [N, C]: which classes are found. Raises ValueError unless there is one threshold per class."""
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] != len(thresholds):
        raise ValueError(f"{len(thresholds)} thresholds for scores of shape {scores.shape}; give one per class")
    # Compared in the type of the scores: a threshold read from float32 scores finds its own example again.
    limits = np.array([np.inf if limit is None else limit for limit in thresholds], np.result_type(scores.dtype, np.float32))
    return (scores >= limits) & np.array([limit is not None for limit in thresholds], bool)


def _check(labels: np.ndarray, scores: np.ndarray, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """(truth bool [N, C], scores). Raises ValueError where they do not fit."""
    scores = np.asarray(scores)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise ValueError(f"scores of shape {scores.shape} must be [N, C] and without NaN")
    return truth_of(labels, scores, multi_label), scores
