"""Masks as boxes: hysteresis, closing of gaps, connected components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALL_EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel


@dataclass(frozen=True)
class Boxes:
    """Bounds of components in pixels: first and last frame, first and last row, int64 [N] each, all included."""

    first: np.ndarray
    last: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: np.ndarray) -> Boxes:
        """The given ones (int [R] or bool [N])."""
        return Boxes(self.first[rows], self.last[rows], self.low[rows], self.high[rows])


@dataclass(frozen=True)
class Threshold:
    """What belongs to a region, as powers over the background.

    A region reaches above `seed`; its pixels lie above `edge`, and above the largest of theirs over `depth`.
    """

    seed: float
    edge: float
    depth: float  # infinite: no such rule


def hysteresis(level: np.ndarray, rule: Threshold, open_end: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that belong to regions.

    Args:
      level: float32 [T, F], powers over the background.
      open_end: the sound goes on: components that touch the last frame are kept whatever they reach.
    Returns:
      (bool [T, F] kept, int [P] flat places of the pixels of components that touch the last frame).
    """
    kept = np.zeros(level.shape, bool)
    loud = level > rule.edge
    if not (open_end and loud[-1].any()) and not (level > rule.seed).any():
        return kept, np.zeros(0, np.int64)
    labels, count = _label(loud)
    places = np.flatnonzero(loud)
    names, levels = labels.ravel()[places], level.ravel()[places]
    largest = np.zeros(count + 1, np.float32)
    np.maximum.at(largest, names, levels)
    least = np.where(largest > rule.seed, largest / np.float32(rule.depth), np.float32(np.inf))
    touching = np.zeros(count + 1, bool)
    if open_end:
        touching[labels[-1]] = True
        touching[0] = False
        least[touching] = 0
    kept.ravel()[places] = levels > least[names]
    return kept, places[touching[names]]


def close_gaps(mask: np.ndarray, frames: int, rows: int, to_border: bool = False) -> np.ndarray:
    """Morphological closing of a mask [T, F] by a rectangle of half-sizes `frames` and `rows`.

    Outside the mask there is nothing; with `to_border` (upstream's) anything, so that pixels near a border reach it.
    """
    halves = (frames, rows)
    for axis, half in enumerate(halves):
        mask = _over_windows(np.logical_or, _pad(mask, axis, half if to_border else 2 * half, False), axis, half)
    for axis, half in enumerate(halves):
        mask = _over_windows(np.logical_and, _pad(mask, axis, half, True) if to_border else mask, axis, half)
    return mask


def components(mask: np.ndarray) -> tuple[np.ndarray, Boxes]:
    """Labels int32 [T, F] of the connected pixels of a mask (0 = none), and the box of label n + 1 at n."""
    from scipy.ndimage import find_objects

    labels = np.zeros(mask.shape, np.int32)
    frames, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(frames):
        return labels, Boxes(*np.zeros((4, 0), np.int64))
    inner = slice(frames[0], frames[-1] + 1), slice(rows[0], rows[-1] + 1)
    labels[inner], count = _label(mask[inner])
    bounds = np.array([(t.start, t.stop - 1, f.start, f.stop - 1) for t, f in find_objects(labels[inner], count)], np.int64)
    return labels, Boxes(*(bounds + np.repeat([frames[0], rows[0]], 2)).T)


def _label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Components of a mask: their numbers from 1 on, int32, and how many there are."""
    from scipy.ndimage import label

    labels = np.empty(mask.shape, np.int32)
    return labels, int(label(mask, ALL_EIGHT, labels))  # type: ignore[arg-type]  with an output it gives the number alone


def _over_windows(combine: np.ufunc, mask: np.ndarray, axis: int, half: int) -> np.ndarray:
    """`combine` of each 2 * half + 1 neighbours along an axis, which becomes 2 * half shorter: windows double step by step."""
    size, window = 1, 2 * half + 1
    while size < window:
        step = min(size, window - size)
        length = mask.shape[axis] - step
        mask = combine(_cut(mask, axis, 0, length), _cut(mask, axis, step, step + length))
        size += step
    return mask


def _cut(mask: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    return mask[start:stop] if axis == 0 else mask[:, start:stop]


def _pad(mask: np.ndarray, axis: int, width: int, value: bool) -> np.ndarray:
    return np.pad(mask, [(width, width) if axis == place else (0, 0) for place in (0, 1)], constant_values=value)
