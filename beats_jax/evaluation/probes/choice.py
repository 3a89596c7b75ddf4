"""Which layer, pooling and setting: chosen on validation folds only, for the test folds and for use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from beats_jax.evaluation.probes.rounds import Rounds
from beats_jax.evaluation.probes.sweep import SweepScores


class Choice(NamedTuple):
    """One probe of a sweep, and what validation says of it."""

    kind: str
    embedding: int  # place among the embeddings (layer x pooling)
    setting: int  # place among the settings of the kind
    score: float
    loss: float


class Averages(NamedTuple):
    """Means over held-out examples: float64 [J, R]."""

    score: np.ndarray
    loss: np.ndarray


def averages(scores: SweepScores, rounds: Rounds, test_fold: int | None = None) -> Averages:
    """Means over the validation folds, weighted by their examples.

    Args:
      test_fold: pairs of folds as rounds: only the rounds that hold this fold out, and in them only the other fold; the test fold
        itself is never looked at. None: all that is held out.
    """
    counted = scores.number.astype(np.float64)
    if test_fold is not None:
        inside = (rounds.folds == test_fold).any(axis=1, keepdims=True)
        counted = counted * (inside & (rounds.folds != test_fold))
    shares = counted / counted.sum()
    return Averages(
        np.einsum("jrsp,sp->jr", scores.score.astype(np.float64), shares),
        np.einsum("jrsp,sp->jr", scores.loss.astype(np.float64), shares),
    )


def best(kind: str, means: Averages) -> Choice:
    """The highest score; of equal ones the smallest loss, then the earlier setting (the simpler model), then the first layer."""
    score = np.round(means.score, 9)
    embedding, setting = np.indices(score.shape)
    order = np.lexsort((embedding.ravel(), setting.ravel(), means.loss.ravel(), -score.ravel()))
    place = np.unravel_index(order[0], score.shape)
    return Choice(kind, int(place[0]), int(place[1]), float(means.score[place]), float(means.loss[place]))


def best_of(choices: Mapping[str, Choice]) -> Choice:
    """The best among kinds; of equal scores the kind that stands first, because losses of different kinds do not compare."""
    return max(choices.values(), key=lambda choice: round(choice.score, 9))
