"""Which windows a stretch of sound has. One rule for all doors, so that a file gives the same numbers by each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from beats_jax.config import AudioConfig, DataConfig
from beats_jax.config.rules import require, require_one_of

TAILS = ("shift", "pad", "drop")


@dataclass(frozen=True)
class Grid:
    """Windows start every hop from the start of a stretch; a stretch of at most one window has one.

    Attributes:
      window_seconds: length of a window.
      hop_seconds: from one start to the next; 0 = the length of a window.
      tail: what becomes of the sound behind the last full window. shift: one more window, which ends where the sound ends, so
        that no sound is left out and every window is full; pad: one more, shorter, at its place in the grid; drop: none.
    Raises:
      UserError: a length that is not positive, another tail.
    """

    window_seconds: float
    hop_seconds: float = 0.0
    tail: Literal["shift", "pad", "drop"] = "shift"

    def __post_init__(self) -> None:
        require(0 < self.window_seconds < float("inf"), f"the window is {self.window_seconds} s long; it must be positive")
        require(0 <= self.hop_seconds < float("inf"), f"the hop is {self.hop_seconds} s; it must be positive, or 0 (the window)")
        require_one_of("tail", self.tail, TAILS)

    def window_samples(self, sample_rate: int) -> int:
        """Samples of a window, one at least."""
        return max(1, round(self.window_seconds * sample_rate))

    def start_sample(self, number: int, sample_rate: int) -> int:
        """Where window `number` of the grid starts, in samples from the start of the stretch; a hop is one sample at least."""
        return max(number, round(number * (self.hop_seconds or self.window_seconds) * sample_rate))

    def starts(self, samples: int, sample_rate: int) -> np.ndarray:
        """int64 [W], the starts in samples of the windows of a stretch of `samples`; none for a stretch without sound."""
        window, found = self.window_samples(sample_rate), []
        while (start := self.start_sample(len(found), sample_rate)) + window <= samples:
            found.append(start)
        tail = self.tail_start(len(found), found[-1] + window if found else 0, samples, sample_rate)
        return np.array(found if tail is None else [*found, tail], np.int64)

    def tail_start(self, given: int, covered: int, samples: int, sample_rate: int) -> int | None:
        """Where the window behind the full ones starts, in samples; None = there is none.

        Args:
          given: number of full windows. covered: where the last of them ends. samples: length of the stretch.
        """
        if not given:
            return 0 if samples > 0 else None
        start = self.start_sample(given, sample_rate)
        if self.tail == "drop" or samples <= max(covered, start):
            return None
        return samples - self.window_samples(sample_rate) if self.tail == "shift" else start


def evaluation_grid(data: DataConfig, audio: AudioConfig) -> Grid:
    """The windows of an experiment: `data.evaluation_window_seconds` (or `window_seconds`) every `data.hop_seconds`."""
    return cap_window(Grid(data.heard_seconds, data.hop_seconds), audio)


def cap_window(grid: Grid, audio: AudioConfig) -> Grid:
    """The grid with windows no longer than what a front-end of a fixed number of frames reads; it would cut off the rest."""
    settings = audio.filterbank
    if not settings.target_frames:
        return grid
    longest = (settings.frame_samples + (settings.target_frames - 1) * settings.hop_samples) / settings.sample_rate
    return grid if grid.window_seconds <= longest else replace(grid, window_seconds=longest)
