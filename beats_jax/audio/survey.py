"""A whole recording, decoded once in constant memory: is it sound, where does it sound, and how does its level run.

The run of levels tells recordings apart that are not the same sound; whether two are is asked of their waveforms
(`datasets.copies`).
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
SAMPLES_A_LEVEL = 16  # fewer tell nothing: such a short recording has no levels
OVERLOAD = 16.0  # times full scale (24 dB): a mean level, or whole numbers, beyond it are no overload of floats but another scale


@dataclass(frozen=True)
class Survey:
    """What a recording is.

    Attributes:
      info: rate, channels, encoding, and the length that was decoded.
      sound: (start, end) in seconds of what reaches `below_dbfs`, end exclusive; None where that was not asked.
      levels: float32 [LEVELS], power in dB around the mean of each of as many equal parts; NaN for a recording of fewer than
        LEVELS * SAMPLES_A_LEVEL samples.
    """

    info: AudioInfo
    sound: tuple[float, float] | None
    levels: np.ndarray


def survey(path: AnyPath, *, channel: str = "mean", below_dbfs: float | None = None) -> Survey:
    """Decodes a recording block by block. Other rates, stereo, 8 to 32 bit integers and float64 are no errors.

    Args:
      channel: as in `io.read`.
      below_dbfs: level in dB relative to full scale; what is quieter at both ends does not count as sound.
    Raises:
      AudioError: what `io.audio_info` raises; shorter than 25 ms; ends before its container's promise; cannot be decoded; NaN,
        infinite or absurd samples; floats in the scale of integers; digitally silent (all samples equal); no sample reaches
        `below_dbfs`; no such channel.
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
    if run.peak > OVERLOAD and (run.whole_numbers or math.sqrt(sums[1].sum() / run.position) > OVERLOAD):
        scale = f"samples reach {run.peak:g}, where full scale is 1: floats in the scale of integers"
        raise AudioError(path, f"{scale}; divide them by 32768 (16 bit) and write the file again")
    if below_dbfs is not None and run.first < 0:
        raise AudioError(path, f"too quiet: no sample reaches {below_dbfs:g} dB of full scale")
    sound = None if below_dbfs is None else (run.first / info.sample_rate, run.last / info.sample_rate)
    return Survey(info, sound, levels)


@dataclass
class _Run:
    """What is known of the samples so far: extremes, first and one behind the last that reach `level`, and their number."""

    level: float
    low: float = math.inf
    high: float = -math.inf
    first: int = -1
    last: int = -1
    position: int = 0
    whole_numbers: bool = True

    @property
    def peak(self) -> float:
        return max(-self.low, self.high)

    def add(self, block: np.ndarray, channels: int) -> None:
        """Takes the next samples, a mean of `channels`."""
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
    """int64 [LEVELS + 1]: where each part begins, and the end."""
    return np.arange(LEVELS + 1) * frames // LEVELS


def _add(sums: np.ndarray, block: np.ndarray, position: int, frames: int) -> None:
    """Adds samples and their squares to float64 [2, LEVELS], in place; those behind `frames` count to the last part."""
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
