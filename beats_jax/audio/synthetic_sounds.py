"""Synthetic animal calls, which differ by kind and vary within it, and background noise of the field.

    call(rng, seconds, sample_rate) -> float64 [round(seconds * sample_rate)] of about full scale
    background(rng, samples, sample_rate) -> float32 [samples] with a root mean square of 1

A call draws pitch, tempo, slope and loudness from `rng`. Its frequencies are those of birds at 16 kHz and above; at lower rates
they shrink in proportion, so that a call always fits below half the sample rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Call = Callable[[np.random.Generator, float, int], np.ndarray]
Background = Callable[[np.random.Generator, int, int], np.ndarray]
FULL_RATE = 16_000  # Hz: from this sample rate on, calls have their nominal frequencies


def upsweep(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """One whistle that rises by a factor of 1.8 to 3 (a right whale's up-call, a thrush's contact call)."""
    place = _place(seconds, sample_rate)
    low_hz = _hertz(rng, 600, 1600, sample_rate)
    return _tone(low_hz * rng.uniform(1.8, 3.0) ** place, sample_rate) * _swell(place, rng)


def trill(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A tone whose pitch swings 10 to 16 times a second by 15 to 25 percent."""
    place = _place(seconds, sample_rate)
    swing = rng.uniform(0.15, 0.25) * np.sin(2 * np.pi * rng.uniform(10, 16) * seconds * place + rng.uniform(0, 2 * np.pi))
    return _tone(_hertz(rng, 1800, 3200, sample_rate) * (1 + swing), sample_rate) * _swell(place, rng)


def harmonic(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A voiced call: an arched fundamental of 220 to 480 Hz with all its harmonics up to 4.5 kHz."""
    place = _place(seconds, sample_rate)
    fundamental = _hertz(rng, 220, 480, sample_rate) * (1 + rng.uniform(0.05, 0.2) * np.sin(np.pi * place))
    tilt = rng.uniform(0.5, 1.0)
    highest = _scale(sample_rate) * 4500
    numbers = range(1, int(highest / fundamental.max()) + 1)
    return sum((_tone(k * fundamental, sample_rate) / k**tilt for k in numbers), np.zeros_like(place)) * _swell(place, rng)


def pulses(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A train of broadband clicks, 9 to 20 a second, each dying away within a few milliseconds (woodpecker, odontocete)."""
    time = _place(seconds, sample_rate) * seconds
    since = np.mod(time, 1 / rng.uniform(9, 20))
    return rng.standard_normal(len(time)) * np.exp(-since / rng.uniform(0.003, 0.006)) * _edges(len(time), sample_rate)


def chirps(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A series of short notes, 4 to 6 a second, each falling by an octave or a little more (a sparrow's chirping)."""
    time = _place(seconds, sample_rate) * seconds
    period = 1 / rng.uniform(4, 6)
    phase = np.mod(time, period) / period / rng.uniform(0.45, 0.65)  # 0..1 within a note, above 1 in the pause
    note = np.where(phase < 1, np.sin(np.pi * np.minimum(phase, 1)), 0.0)
    pitch = _hertz(rng, 4000, 6000, sample_rate) * rng.uniform(0.4, 0.5) ** np.minimum(phase, 1)
    return _tone(pitch, sample_rate) * note


def two_note(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A high steady note, a pause, a lower one (cuckoo)."""
    place = _place(seconds, sample_rate)
    high_hz, turn = _hertz(rng, 900, 1500, sample_rate), rng.uniform(0.4, 0.5)
    pitch = np.where(place < turn, high_hz, high_hz / rng.uniform(1.25, 1.6))
    gap = np.clip(np.abs(place - turn - 0.05) / 0.03 - 1.5, 0, 1)  # silent for a tenth of the call
    return _tone(pitch, sample_rate) * gap * _edges(len(place), sample_rate)


def buzz(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A high carrier chopped 60 to 110 times a second: a dense stack of side bands (grasshopper, grasshopper sparrow)."""
    place = _place(seconds, sample_rate)
    chop = (0.5 + 0.5 * np.sin(2 * np.pi * _hertz(rng, 60, 110, sample_rate) * seconds * place)) ** 4
    return _tone(np.full_like(place, _hertz(rng, 4200, 6000, sample_rate)), sample_rate) * chop * _swell(place, rng)


def hoots(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """Two to four equal low pure notes (owl, dove)."""
    place = _place(seconds, sample_rate)
    note = np.maximum(np.sin(np.pi * np.mod(place * rng.integers(2, 5), 1) / rng.uniform(0.55, 0.75)), 0)
    return _tone(np.full_like(place, _hertz(rng, 280, 620, sample_rate)), sample_rate) * np.sqrt(note)


def warble(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A whistle that wanders over about an octave in slow, irregular turns."""
    place = _place(seconds, sample_rate)
    turns = sum(
        (np.sin(2 * np.pi * rng.uniform(2, 5) * seconds * place + rng.uniform(0, 2 * np.pi)) for _ in range(3)),
        np.zeros_like(place),
    )
    return _tone(_hertz(rng, 1600, 2600, sample_rate) * 2 ** (0.25 * turns), sample_rate) * _swell(place, rng)


def downsweep(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """One whistle that falls by a factor of 2 to 4."""
    place = _place(seconds, sample_rate)
    high_hz = _hertz(rng, 3500, 5500, sample_rate)
    return _tone(high_hz * rng.uniform(0.25, 0.5) ** place, sample_rate) * _swell(place, rng)


CALLS: dict[str, Call] = {
    call.__name__: call for call in (upsweep, trill, harmonic, pulses, chirps, two_note, buzz, hoots, warble, downsweep)
}
"""Name of the class -> call, in the order in which a data set of n classes takes the first n."""


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


def _place(seconds: float, sample_rate: int) -> np.ndarray:
    """Place within the call from 0 to almost 1, float64."""
    samples = round(seconds * sample_rate)
    return np.arange(samples) / samples


def _scale(sample_rate: int) -> float:
    return min(1.0, sample_rate / FULL_RATE)


def _hertz(rng: np.random.Generator, low: float, high: float, sample_rate: int) -> float:
    """A pitch drawn evenly on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) * _scale(sample_rate)


def _tone(frequency_hz: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sine of a changing frequency: the phase is the sum of the frequency."""
    return np.sin(2 * np.pi * np.cumsum(frequency_hz) / sample_rate)


def _swell(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Loudness that rises and falls once, with its peak anywhere in the middle half."""
    peak = rng.uniform(0.25, 0.75)
    return np.sin(np.pi * place ** (np.log(0.5) / np.log(peak)))


def _edges(samples: int, sample_rate: int) -> np.ndarray:
    """Ramps of 10 ms at both ends."""
    ramp = max(1, round(0.01 * sample_rate))
    place = np.arange(samples)
    return np.minimum(1.0, np.minimum(place + 1, samples - place) / ramp)


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
