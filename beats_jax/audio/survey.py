"""Decodes a whole recording once, in constant memory: is it intact, where is it loud, and how does its level change.

`datasets.copies` finds candidates for copies by their levels and then compares the waveforms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from beats_jax.audio.io import mono_blocks
from beats_jax.audio.recording import AnyPath, AudioError, AudioInfo

SHORTEST_SECONDS = 0.025  # one frame of every filterbank here
LEVELS = 128
SAMPLES_A_LEVEL = 16  # a recording of fewer samples a level has no levels
OVERLOAD = 16.0  # times full scale (24 dB): a mean level, or whole numbers, beyond it mean another scale, not an overload


@dataclass(frozen=True)
class Survey:
    """Facts of one recording."""

    info: AudioInfo  # with the decoded length
    sound: tuple[float, float] | None  # (start, end) in seconds of the samples that reach `below_dbfs`; None without it
    levels: np.ndarray  # float32 [LEVELS], power in dB around the mean in equal parts of the recording; NaN for a short one


def survey(path: AnyPath, *, channel: str = "mean", below_dbfs: float | None = None) -> Survey:
    """Decodes a recording block by block. Any rate, number of channels or sample type is fine.

    Args:
      channel: as in `io.read`.
      below_dbfs: level in dB relative to full scale; quieter samples at both ends do not count as sound.
    Raises:
      AudioError: as `io.read` of the whole; shorter than 25 ms; floats in the scale of integers; digitally silent (all samples
        equal: a label on a recorder fault would teach the fault); no sample reaches `below_dbfs`.
      UserError: a channel that is neither "mean" nor a number.
    """
    path = Path(path)
    run = _Run(math.inf if below_dbfs is None else 10.0 ** (below_dbfs / 20))
    with mono_blocks(path, channel) as (info, blocks):
        shortest = math.ceil(SHORTEST_SECONDS * info.sample_rate)
        if info.frames < shortest:
            reason = f"too short: {info.frames} samples, at least {shortest} needed (25 ms at {info.sample_rate} Hz)"
            raise AudioError(path, reason)
        sums = np.zeros((2, LEVELS))
        for block in blocks:
            _add(sums, block, run.position, info.frames)
            run.add(block, info.channels if channel == "mean" else 1)
    levels = _decibels(sums, info.frames)
    info = replace(info, frames=run.position, exact_length=True)
    if run.low == run.high:
        raise AudioError(path, f"silent: every sample is {run.low:g}")
    peak = max(-run.low, run.high)
    if peak > OVERLOAD and (run.whole_numbers or math.sqrt(sums[1].sum() / run.position) > OVERLOAD):
        scale = f"samples reach {peak:g}, where full scale is 1: floats in the scale of integers"
        raise AudioError(path, f"{scale}; divide them by 32768 (16 bit) and write the file again")
    if below_dbfs is not None and run.first < 0:
        raise AudioError(path, f"too quiet: no sample reaches {below_dbfs:g} dB of full scale")
    sound = None if below_dbfs is None else (run.first / info.sample_rate, run.last / info.sample_rate)
    return Survey(info, sound, levels)


@dataclass
class _Run:
    """Extremes of the samples so far, the first and one behind the last that reach `level`, and their number."""

    level: float
    low: float = math.inf
    high: float = -math.inf
    first: int = -1
    last: int = -1
    position: int = 0
    whole_numbers: bool = True

    def add(self, block: np.ndarray, channels: int) -> None:
        """Adds the next samples, a mean of `channels`."""
        lowest, highest = float(block.min()), float(block.max())
        self.low, self.high = min(self.low, lowest), max(self.high, highest)
        if self.whole_numbers:
            added = block * channels
            self.whole_numbers = bool((np.abs(added - np.rint(added)) <= 1e-6 * np.abs(added)).all())
        if max(-lowest, highest) >= self.level:
            loud = np.flatnonzero(np.abs(block) >= self.level)
            self.first = self.position + int(loud[0]) if self.first < 0 else self.first
            self.last = self.position + int(loud[-1]) + 1
        self.position += len(block)


def _bounds(frames: int) -> np.ndarray:
    """int64 [LEVELS + 1]: start of each part, and the end."""
    return np.arange(LEVELS + 1) * frames // LEVELS


def _add(sums: np.ndarray, block: np.ndarray, position: int, frames: int) -> None:
    """Adds samples and their squares to float64 [2, LEVELS], in place; samples behind `frames` count to the last part."""
    bounds = _bounds(frames)[:-1]
    inside = np.flatnonzero((bounds > position) & (bounds < position + len(block)))
    starts = np.concatenate([[0], bounds[inside] - position])
    part = int(np.searchsorted(bounds, position, side="right")) - 1
    wide = block.astype(np.float64)
    for row, values in enumerate((wide, wide * wide)):
        sums[row, part : part + len(starts)] += np.add.reduceat(values, starts)


def _decibels(sums: np.ndarray, frames: int) -> np.ndarray:
    if frames < LEVELS * SAMPLES_A_LEVEL:
        return np.full(LEVELS, np.nan, np.float32)
    mean, power = sums / np.diff(_bounds(frames))
    return (10 * np.log10(np.maximum(power - mean**2, 1e-20))).astype(np.float32)
