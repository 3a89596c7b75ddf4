"""Calls in noise that are the same on every version of numpy (`RandomState` is frozen)."""

from __future__ import annotations

import numpy as np

RATE = 24_000


def calls_in_noise(seed: int, seconds: int = 12, calls: int = 60) -> np.ndarray:
    """float64 [samples]: sweeps of 20 to 500 ms between 300 Hz and 11 kHz, up to 50 dB apart, some at one time, in noise."""
    draw = np.random.RandomState(seed)
    sound = 1e-4 * draw.standard_normal(seconds * RATE)
    for _ in range(calls):
        length = int(RATE * 10 ** draw.uniform(-1.7, -0.3))
        start = draw.randint(0, len(sound) - length)
        low, high = draw.uniform(300, 11_000, 2)
        hz = np.linspace(low, high, length)
        sweep = np.sin(2 * np.pi * np.cumsum(hz) / RATE) * np.hanning(length)
        sound[start : start + length] += 10 ** draw.uniform(-3.5, -1) * sweep
    return sound
