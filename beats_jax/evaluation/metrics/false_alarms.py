"""Recall where a detector may raise only so many false alarms an hour: what a listener of long recordings asks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RecallAtRate:
    """Attributes:
    recall: share of positives above every threshold of the rate; None without positives or background.
    allowed: false alarms that the background may raise; 0 where it is shorter than an hour at one an hour, so that the recall is
      that above every background clip. hours: of background.
    """

    recall: float | None
    allowed: int
    hours: float


def recall_at_rate(truth: np.ndarray, scores: np.ndarray, seconds: np.ndarray, per_hour: float = 1.0) -> RecallAtRate:
    """Recall at the lowest threshold that raises at most `per_hour` false alarms an hour of background.

    Args:
      truth: bool [N]. scores: float [N], larger = more likely. seconds: float [N], length of each clip.
    Raises:
      ValueError: a rate that is not positive.
    """
    if not per_hour > 0:
        raise ValueError(f"{per_hour} false alarms an hour; the rate must be positive")
    hours = float(seconds[~truth].sum()) / 3600
    allowed = math.floor(per_hour * hours + 1e-9)
    if not truth.any() or truth.all():
        return RecallAtRate(None, allowed, hours)
    negatives = np.sort(scores[~truth])[::-1]
    limit = negatives[allowed] if allowed < len(negatives) else -np.inf  # this one must not be found
    return RecallAtRate(float((scores[truth] > limit).mean()), allowed, hours)
