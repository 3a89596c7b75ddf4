"""Resampling with soxr, whole or in blocks, and the native frames that a window needs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import soxr

from beats_jax.audio.recording import END

RESAMPLER_MARGIN = 256  # samples at the lower of both rates; measured: from 128 on the difference is below 2e-6


def resampled_length(frames: int, native_rate: int, sample_rate: int) -> int:
    """Samples that soxr makes of `frames`: frames * sample_rate / native_rate, halves rounded up."""
    return (2 * frames * sample_rate + native_rate) // (2 * native_rate)


def native_range(first: int, last: int, native_rate: int, sample_rate: int) -> tuple[int, int]:
    """Native frames needed for samples first..last of the resampled file, with the length of the filter on both sides.

    The start is a multiple of native_rate / gcd, where a native and a resampled sample coincide: only there the resampler has
    the same phase as in the whole file.
    """
    if native_rate == sample_rate:
        return first, last
    step = native_rate // math.gcd(native_rate, sample_rate)
    margin = math.ceil(RESAMPLER_MARGIN * max(1.0, native_rate / sample_rate))
    start = max(0, first * native_rate // sample_rate - margin) // step * step
    return start, END if last == END else -(-last * native_rate // sample_rate) + margin


def resample(waveform: np.ndarray, native_rate: int, sample_rate: int) -> np.ndarray:
    """Resamples float32 [n] in one call."""
    return waveform if native_rate == sample_rate else soxr.resample(waveform, native_rate, sample_rate)


def resample_stream(blocks: Iterator[np.ndarray], native_rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Resamples block by block; joined, the blocks equal `resample` of the whole."""
    if native_rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(native_rate, sample_rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
