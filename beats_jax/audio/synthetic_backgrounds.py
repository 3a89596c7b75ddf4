"""Synthetic background noise of the field: wind, rain, mains hum, insects.

Every background is `background(rng, samples, sample_rate) -> float32 [samples]` with a root mean square of 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Background = Callable[[np.random.Generator, int, int], np.ndarray]


def wind(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """Noise that falls by 6 dB an octave above 40 Hz, in gusts of some seconds."""
    gusts = 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(0.2, 0.8) * np.arange(samples) / sample_rate + rng.uniform(0, 2 * np.pi))
    return _unit(gusts * _shaped_noise(rng, samples, sample_rate, lambda hertz: 1 / np.maximum(hertz, 40.0)))


def rain(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """A nearly white hiss with 30 to 80 single drops a second, each ringing for some milliseconds."""
    hiss = _unit(_shaped_noise(rng, samples, sample_rate, lambda hertz: (hertz + 200.0) ** -0.25))
    time = np.arange(max(2, round(0.012 * sample_rate))) / sample_rate
    drops = np.zeros(samples + len(time))
    for _ in range(rng.poisson(rng.uniform(30, 80) * samples / sample_rate)):
        start = rng.integers(samples)
        ring = np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * sample_rate * time) * np.exp(-time / 0.003)
        drops[start : start + len(time)] += rng.exponential(2.5) * ring
    return _unit(hiss + drops[:samples])


def hum(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """Mains hum: harmonics of 50 or 60 Hz that grow weaker, over a noise floor 14 dB below."""
    time = np.arange(samples) / sample_rate
    mains = rng.choice([50.0, 60.0])
    tones = np.zeros(samples)
    for number in range(1, 1 + max(1, min(12, int(0.45 * sample_rate / mains)))):
        tones += rng.uniform(0.3, 1.0) / number * np.sin(2 * np.pi * mains * number * time + rng.uniform(0, 2 * np.pi))
    return _unit(_unit(tones) + 0.2 * rng.standard_normal(samples))


def insects(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """A chorus: bands of noise in the upper part of the spectrum, pulsing at their own tempos, over weak white noise."""
    time = np.arange(samples) / sample_rate
    chorus = 0.3 * rng.standard_normal(samples)
    for _ in range(3):
        centre, width = rng.uniform(0.3, 0.45) * sample_rate, rng.uniform(0.005, 0.02) * sample_rate
        band = _unit(
            _shaped_noise(
                rng, samples, sample_rate, lambda hertz, c=centre, w=width: np.exp(-0.5 * ((hertz - c) / w) ** 2) + 1e-6
            )
        )
        chorus += rng.uniform(0.3, 1.0) * band * (1 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 12) * time))
    return _unit(chorus)


BACKGROUNDS: dict[str, Background] = {background.__name__: background for background in (wind, rain, hum, insects)}
"""Name -> background."""


def _shaped_noise(
    rng: np.random.Generator, samples: int, sample_rate: int, amplitude: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """White noise times `amplitude(frequency in Hz)`, without its mean."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    shape = amplitude(np.fft.rfftfreq(samples, 1 / sample_rate))
    shape[0] = 0.0
    return np.fft.irfft(spectrum * shape, samples)


def _unit(waveform: np.ndarray) -> np.ndarray:
    """The waveform as float32 with a root mean square of 1."""
    return (waveform / np.sqrt(np.mean(np.square(waveform)))).astype(np.float32)
