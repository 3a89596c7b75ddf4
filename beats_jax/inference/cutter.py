"""Cuts one stretch of sound into the windows of a grid while its blocks arrive from the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from beats_jax.inference.grid import Grid


class Cut(NamedTuple):
    """One window of a stretch."""

    row: int  # of the stretch
    number: int  # of the window in its stretch, from 0
    start: int  # samples from the start of the file
    sound: np.ndarray  # float32 [samples]


class Cutter:
    """The windows of one stretch. Keeps two windows of sound at most, because a stretch may last a day.

    Attributes:
      row: number of the stretch. first, end: its bounds in samples of the file; an end of None is the end of the sound.
    """

    def __init__(self, row: int, start_seconds: float, end_seconds: float, grid: Grid, sample_rate: int) -> None:
        """Prepares a stretch; a bound of NaN is that of the file."""
        self.row = row
        self.first = 0 if np.isnan(start_seconds) else round(start_seconds * sample_rate)
        self.end = None if np.isnan(end_seconds) else max(round(end_seconds * sample_rate), self.first + 1)
        self._grid, self._rate, self._window = grid, sample_rate, grid.window_samples(sample_rate)
        self._held, self._held_from = np.zeros(0, np.float32), self.first
        self._given = 0
        self._covered = self.first  # where the last window ended

    def feed(self, position: int, block: np.ndarray) -> Iterator[Cut]:
        """Takes the sound that starts at sample `position` of the file; gives the windows that are full now."""
        low = max(self.first - position, 0)
        high = len(block) if self.end is None else min(len(block), self.end - position)
        if low >= high:
            return
        self._held = np.concatenate([self._held, block[low:high]])
        reached = self._held_from + len(self._held)
        while (start := self._next_start()) + self._window <= reached:
            yield self._cut(start, start + self._window)
        kept = min(self._next_start(), reached - self._window)  # what the next window needs, or one that ends here
        if kept > self._held_from:
            self._held, self._held_from = self._held[kept - self._held_from :].copy(), kept

    def finish(self) -> Iterator[Cut]:
        """Gives the window behind the last full one, where `Grid.tail` wants one."""
        reached = self._held_from + len(self._held)
        start = self._grid.tail_start(self._given, self._covered - self.first, reached - self.first, self._rate)
        if start is not None:
            yield self._cut(self.first + start, reached)

    @property
    def is_empty(self) -> bool:
        """Whether no window was given."""
        return not self._given

    def _next_start(self) -> int:
        return self.first + self._grid.start_sample(self._given, self._rate)

    def _cut(self, start: int, end: int) -> Cut:
        cut = Cut(self.row, self._given, start, self._held[start - self._held_from : end - self._held_from].copy())
        self._given, self._covered = self._given + 1, end
        return cut
