"""New clips from real sounds: a call is cut out of its clip and mixed into another background at a random ratio.

The strongest use of synthesis without a generator (Hagiwara et al. 2025, arXiv 2503.00296). The call is found as the stretch in
which the clip rises over its own floor, and cut with the frequencies in which it does, so that little of its background comes
along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAME_SECONDS = 0.064
RISE_DB = 6.0  # over the floor: what belongs to a call
KEPT_OF_PEAK_DB = 12.0  # a stretch ends where the rise falls so far below its highest
FADE_SHARE = 0.05  # of the call, at both ends
SNR_SPREAD_DB = 3.0


@dataclass(frozen=True)
class Call:
    """A call alone: float32 [samples], its band in Hz, and its power over that of its own background in the band, in dB."""

    waveform: np.ndarray
    low_hz: float
    high_hz: float
    snr_db: float


def cut_call(waveform: np.ndarray, sample_rate: int) -> Call | None:
    """The loudest call of a clip, float32 [samples]; None where nothing rises over the floor."""
    power, hop, hertz = _power(waveform, sample_rate)
    rise = 10 * np.log10(power / np.median(power, axis=1, keepdims=True))
    strongest = np.sort(rise, axis=0)[-max(2, len(rise) // 16) :].mean(axis=0)  # of each frame
    peak = int(strongest.argmax())
    limit = max(RISE_DB, strongest[peak] - KEPT_OF_PEAK_DB)
    if strongest[peak] < RISE_DB:
        return None
    low, high = _around(strongest >= limit, peak)
    bands = np.flatnonzero(rise[:, low:high].max(axis=1) >= max(RISE_DB, strongest[peak] - KEPT_OF_PEAK_DB))
    if not len(bands):
        return None
    step = hertz[1] - hertz[0]
    low_hz, high_hz = max(0.0, hertz[bands[0]] - step), hertz[bands[-1]] + step
    start, stop = max(0, (low - 1) * hop), min(len(waveform), (high + 1) * hop)
    inside = band_pass(waveform, sample_rate, low_hz, high_hz)
    rest = np.concatenate([inside[:start], inside[stop:]])
    cut = inside[start:stop]
    noise = float(np.mean(rest**2)) if len(rest) >= hop else float(np.quantile(inside**2, 0.2))
    level = max(float(np.mean(cut**2)) - noise, 1e-3 * noise)
    if noise <= 0:
        return None
    return Call(_faded(cut).astype(np.float32), low_hz, high_hz, float(10 * np.log10(level / noise)))


def mix(call: Call, background: np.ndarray, sample_rate: int, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [samples]: the background with the call at a random place, at `snr_db` in the call's own band."""
    sound = call.waveform[: len(background)]
    start = int(rng.integers(len(background) - len(sound) + 1))
    noise = band_pass(background, sample_rate, call.low_hz, call.high_hz)[start : start + len(sound)]
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


def _power(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int, np.ndarray]:
    """(power [bins, frames], hop in samples, Hz of the bins) without the bin of the mean."""
    size = max(16, min(len(waveform), 1 << round(FRAME_SECONDS * 2 * sample_rate).bit_length() - 1))
    hop = max(1, size // 4)
    padded = np.pad(waveform, size // 2, mode="reflect") if len(waveform) > size // 2 else np.pad(waveform, size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    spectra = np.abs(np.fft.rfft(frames, axis=1)).T[1:] ** 2
    return spectra + 1e-12, hop, np.fft.rfftfreq(size, 1 / sample_rate)[1:]


def _around(inside: np.ndarray, peak: int) -> tuple[int, int]:
    """The stretch of True around `peak` as [low, high)."""
    low = high = peak
    while low > 0 and inside[low - 1]:
        low -= 1
    while high < len(inside) and inside[high]:
        high += 1
    return low, max(high, peak + 1)


def _faded(sound: np.ndarray) -> np.ndarray:
    length = max(1, round(FADE_SHARE * len(sound)))
    ramp = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    window = np.ones(len(sound))
    window[:length], window[-length:] = ramp, ramp[::-1]
    return sound * window
