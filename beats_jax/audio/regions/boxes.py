"""Levels as boxes: hysteresis, closing of gaps, connected components."""

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


def hysteresis(level: np.ndarray, edge_db: float, seed_db: float, open_end: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of components above `edge_db` that reach above `seed_db`.

    Args:
      level: float32 [T, F], dB above the background.
      open_end: the sound goes on: components that touch the last frame are kept whatever they reach.
    Returns:
      (bool [T, F] kept, bool [T, F] those of components that touch the last frame).
    """
    from scipy.ndimage import label

    labels, count = label(level > edge_db, ALL_EIGHT)
    kept = np.zeros(count + 1, bool)
    kept[labels[level > seed_db]] = True
    touching = np.zeros(count + 1, bool)
    if open_end:
        touching[labels[-1]] = True
    kept[0] = touching[0] = False
    return (kept | touching)[labels], touching[labels]


def close_gaps(mask: np.ndarray, frames: int, rows: int, to_border: bool = False) -> np.ndarray:
    """Morphological closing of a mask [T, F] by a rectangle of half-sizes `frames` and `rows`.

    Outside the mask there is nothing; with `to_border` (upstream's) anything, so that pixels near a border reach it.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    margins = (0, 0) if to_border else (frames, rows)
    closed = np.pad(mask.view(np.uint8), [(margin, margin) for margin in margins])
    for axis, half in enumerate((frames, rows)):
        closed = maximum_filter1d(closed, 2 * half + 1, axis=axis, mode="constant", cval=0)
    for axis, half in enumerate((frames, rows)):
        closed = minimum_filter1d(closed, 2 * half + 1, axis=axis, mode="constant", cval=1)
    return closed[margins[0] : margins[0] + len(mask), margins[1] : margins[1] + mask.shape[1]].view(bool)


def components(mask: np.ndarray) -> tuple[np.ndarray, Boxes]:
    """Labels int32 [T, F] of the connected pixels of a mask (0 = none), and the box of label n + 1 at n."""
    from scipy.ndimage import find_objects, label

    labels, _ = label(mask, ALL_EIGHT)
    slices = [found for found in find_objects(labels) if found is not None]
    bounds = np.array([(t.start, t.stop - 1, f.start, f.stop - 1) for t, f in slices], np.int64).reshape(-1, 4)
    return labels, Boxes(*bounds.T)
