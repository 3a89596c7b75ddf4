"""New clips from real sounds: a call is cut out of its clip and mixed into another background at a random ratio.

The strongest use of synthesis without a generator (Hagiwara et al. 2025, arXiv 2503.00296). The call is found as the stretch in
which the clip rises over its own floor, and cut with the frequencies in which it does, so that little of its background comes
along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FRAME_SECONDS = 0.128  # a quarter of the clip at most
SMOOTHED = (3, 5)  # bins and frames that are averaged
RISE_DB, SURE_DB = 6.0, 10.0  # over the floor: below the first nothing belongs to a call, above the second all does
KEPT_OF_PEAK_DB = 12.0  # a call ends where the rise falls so far below its highest
FADE_SHARE = 0.05  # of the call, at both ends
SNR_SPREAD_DB, HIGHEST_SNR_DB = 3.0, 60.0


@dataclass(frozen=True)
class Call:
    """A call alone: float32 [samples], its band in Hz, and its power over that of its own background in the band, in dB."""

    waveform: np.ndarray
    low_hz: float
    high_hz: float
    snr_db: float


def cut_call(waveform: np.ndarray, sample_rate: int) -> Call | None:
    """The strongest call of a clip, float32 [samples]; None where nothing rises over the floor.

    Cells of the smoothed spectrogram that rise over the median of their frequency and touch each other are one call.
    """
    from scipy import ndimage

    power, hop, size = _smooth_power(waveform, sample_rate)
    rise = 10 * np.log10(power / np.median(power, axis=1, keepdims=True))
    if rise.max() < RISE_DB:
        return None
    limit = np.clip(rise.max() - KEPT_OF_PEAK_DB, RISE_DB, SURE_DB)
    inside: Any = ndimage.label(rise >= limit)[0]  # pyright: ignore[reportIndexIssue]
    weights = ndimage.sum_labels(power, inside, np.arange(1, inside.max() + 1))
    bins, frames = ndimage.find_objects(inside)[int(np.argmax(weights))]
    hertz = sample_rate / size
    low_hz, high_hz = max(0.0, (bins.start - 0.5) * hertz), (bins.stop + 0.5) * hertz
    start, stop = frames.start * hop + size // 4, min(len(waveform), (frames.stop - 1) * hop + size - size // 4)
    filtered = band_pass(waveform, sample_rate, low_hz, high_hz)
    cut, rest = filtered[start:stop], np.concatenate([filtered[:start], filtered[stop:]])
    noise = float(np.mean(rest**2)) if len(rest) >= size else float(np.quantile(filtered**2, 0.2))
    if not len(cut) or not cut.any():
        return None
    noise = max(noise, 10 ** (-HIGHEST_SNR_DB / 10) * float(np.mean(cut**2)))  # the rest may be digitally silent
    level = max(float(np.mean(cut**2)) - noise, 1e-3 * noise)
    return Call(_faded(cut).astype(np.float32), low_hz, high_hz, float(10 * np.log10(level / noise)))


def mix(call: Call, background: np.ndarray, sample_rate: int, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [samples]: the background with the call at a random place, at `snr_db` in the call's own band."""
    sound = call.waveform[: len(background)]
    start = int(rng.integers(len(background) - len(sound) + 1))
    before = max(0, start - len(sound))  # a stretch around it, for the filter's edges: clips may be long, and calls short
    around = background[before : start + 2 * len(sound)]
    noise = band_pass(around, sample_rate, call.low_hz, call.high_hz)[start - before :][: len(sound)]
    wanted = 10 ** (snr_db / 10) * max(float(np.mean(noise**2)), 1e-20)
    power = max(float(np.mean(sound.astype(np.float64) ** 2)), 1e-20)
    mixed = background.astype(np.float64)
    mixed[start : start + len(sound)] += np.sqrt(wanted / power) * sound
    return (mixed * min(1.0, 0.99 / max(float(np.abs(mixed).max()), 1e-9))).astype(np.float32)


def random_snr(calls: list[Call], rng: np.random.Generator) -> float:
    """A ratio in dB like those of real calls: that of one of them, give or take 3 dB."""
    return float(calls[rng.integers(len(calls))].snr_db + rng.uniform(-SNR_SPREAD_DB, SNR_SPREAD_DB))


def quiet_background(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise with the spectrum of a clip's quiet stretches, float32 of its length: a background where no clip is one."""
    size = min(512, len(waveform))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[:: max(1, size // 2)] * np.hanning(size)
    spectra = np.abs(np.fft.rfft(frames, axis=1))
    floor = np.median(spectra, axis=0)
    length = len(waveform)
    noise = np.fft.rfft(rng.standard_normal(length))
    shape = np.interp(np.linspace(0, 1, len(noise)), np.linspace(0, 1, len(floor)), floor)
    # A window of `size` samples of unit noise has spectra of this size
    return np.fft.irfft(noise * shape / np.sqrt(np.sum(np.hanning(size) ** 2) * np.log(2)), length).astype(np.float32)


def band_pass(waveform: np.ndarray, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """float64 [samples]: only these frequencies, by the Fourier transform of the whole clip."""
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    hertz = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    spectrum[(hertz < low_hz) | (hertz > high_hz)] = 0
    return np.fft.irfft(spectrum, len(waveform))


def _smooth_power(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int, int]:
    """(power [bins, frames], hop, frame in samples); single cells of noise vary too much to tell a call."""
    from scipy import ndimage

    size = max(16, min(len(waveform) // 4, round(FRAME_SECONDS * sample_rate)))
    hop = max(1, size // 4)
    waveform = np.pad(waveform, (0, max(0, size - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)).T ** 2
    smoothed: Any = SMOOTHED
    return ndimage.uniform_filter(power, smoothed) + 1e-6 * power.max() + 1e-20, hop, size


def _faded(sound: np.ndarray) -> np.ndarray:
    length = max(1, round(FADE_SHARE * len(sound)))
    ramp = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    window = np.ones(len(sound))
    window[:length], window[-length:] = ramp, ramp[::-1]
    return sound * window
