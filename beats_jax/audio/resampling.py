"""From a file's own rate to the wanted one with soxr: whole, in blocks, and where a window lies at either rate."""

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
    """Native frames needed for samples first..last of the resampled file; `END` to its end.

    The start is a multiple of native_rate / gcd, where a native frame and a resampled one coincide: there the resampler's phase
    is that of the whole file. Both sides get the length of the resampler's filter more.
    """
    if native_rate == sample_rate:
        return first, last
    step = native_rate // math.gcd(native_rate, sample_rate)
    margin = math.ceil(RESAMPLER_MARGIN * max(1.0, native_rate / sample_rate))
    start = max(0, first * native_rate // sample_rate - margin) // step * step
    return start, END if last == END else -(-last * native_rate // sample_rate) + margin


def resample(waveform: np.ndarray, native_rate: int, sample_rate: int) -> np.ndarray:
    """float32 [n] in one call."""
    return waveform if native_rate == sample_rate else soxr.resample(waveform, native_rate, sample_rate)


def resample_stream(blocks: Iterator[np.ndarray], native_rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Block by block; joined they are `resample` of the whole."""
    if native_rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(native_rate, sample_rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
