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
      info: what its header says.
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
    with mono_blocks(path, channel) as (info, blocks):
        shortest = math.ceil(SHORTEST_SECONDS * info.sample_rate)
        if info.frames < shortest:
            raise AudioError(
                path, f"too short: {info.frames} samples, at least {shortest} needed (25 ms at {info.sample_rate} Hz)"
            )
        level = math.inf if below_dbfs is None else 10.0 ** (below_dbfs / 20)
        low, high, first, last, position, whole_numbers = math.inf, -math.inf, -1, -1, 0, True
        divisor = info.channels if channel == "mean" else 1
        sums, counted = np.zeros((2, LEVELS)), info.frames
        for block in blocks:
            lowest, highest = float(block.min()), float(block.max())
            low, high = min(low, lowest), max(high, highest)
            if max(-low, high) > OVERLOAD and whole_numbers:
                scaled = block * divisor
                whole_numbers = bool((np.abs(scaled - np.rint(scaled)) <= 1e-6 * np.abs(scaled)).all())
            if max(-lowest, highest) >= level:
                loud = np.flatnonzero(np.abs(block) >= level)
                first = position + int(loud[0]) if first < 0 else first
                last = position + int(loud[-1]) + 1
            _add(sums, block, position, counted)
            position += len(block)
    info = replace(info, frames=position, exact_length=True)
    if max(-low, high) > OVERLOAD and (whole_numbers or math.sqrt(sums[1].sum() / position) > OVERLOAD):
        raise AudioError(
            path, f"samples reach {max(-low, high):g}, where full scale is 1: floats in the scale of integers; divide them by 32768"
        )
    if low == high:
        raise AudioError(path, f"silent: every sample is {low:g}")
    if below_dbfs is not None and first < 0:
        raise AudioError(path, f"too quiet: no sample reaches {below_dbfs:g} dB of full scale")
    sound = None if below_dbfs is None else (first / info.sample_rate, last / info.sample_rate)
    return Survey(info, sound, _decibels(sums, counted))


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
