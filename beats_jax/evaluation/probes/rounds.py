"""The examples that train and those that are held out, round by round, for a nested cross-validation that trains nothing twice.

Rounds that leave out one fold measure every choice once on all examples. A round that leaves out a pair of folds serves twice:
for the test fold i the fold j of the pair validates, for the test fold j the fold i. So a nested cross-validation of K folds
needs K (K - 1) / 2 rounds for its choices and K for its figures, not K (K - 1) and K.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from beats_jax.errors import UserError

PADDING = -1


class Rounds(NamedTuple):
    """S rounds, padded to the longest."""

    train: np.ndarray  # int32 [S, n], rows of the data; padding repeats row 0
    weights: np.ndarray  # float32 [S, n], 1 = an example, 0 = padding
    held: np.ndarray  # int32 [S, m], rows that are held out
    part: np.ndarray  # int32 [S, m], the held fold of the round that a row belongs to (0, 1); -1 = padding
    folds: np.ndarray  # int32 [S, P], the held folds

    @property
    def number(self) -> np.ndarray:
        """Held-out examples, int64 [S, P]."""
        return np.stack([(self.part == part).sum(axis=1) for part in range(self.folds.shape[1])], axis=1)


def single_rounds(folds: np.ndarray) -> Rounds:
    """One round a fold, which is held out. folds: int [N], 0 .. K-1; -1 = in no round. UserError: an empty fold, or only one."""
    return _rounds(folds, [(fold,) for fold in range(_number(folds, 2))])


def pair_rounds(folds: np.ndarray) -> Rounds:
    """One round for every pair of folds, both held out. Arguments and errors as `single_rounds`, three folds at least."""
    return _rounds(folds, list(combinations(range(_number(folds, 3)), 2)))


def _number(folds: np.ndarray, least: int) -> int:
    counts = np.bincount(folds[folds >= 0])
    if len(counts) < least:
        raise UserError(f"there are {len(counts)} folds; choosing and testing a probe needs at least {least}")
    if not counts.all():
        raise UserError(f"fold {int(np.flatnonzero(counts == 0)[0]) + 1} of {len(counts)} has no example; take fewer folds")
    return len(counts)


def _rounds(folds: np.ndarray, held: list[tuple[int, ...]]) -> Rounds:
    training = [np.flatnonzero((folds >= 0) & ~np.isin(folds, some)) for some in held]
    out = [np.flatnonzero(np.isin(folds, some)) for some in held]
    parts = [np.argmax(folds[rows][:, None] == np.array(some)[None], axis=1) for rows, some in zip(out, held, strict=True)]
    return Rounds(
        train=_pad(training, 0),
        weights=_pad([np.ones(len(rows)) for rows in training], 0).astype(np.float32),
        held=_pad(out, 0),
        part=_pad(parts, PADDING),
        folds=np.array(held, np.int32),
    )


def _pad(rows: list[np.ndarray], value: int) -> np.ndarray:
    """int32 [S, longest]."""
    result = np.full((len(rows), max(map(len, rows))), value, np.int32)
    for line, found in zip(result, rows, strict=True):
        line[: len(found)] = found
    return result
