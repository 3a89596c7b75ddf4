"""A waveform as levels above its background: rows of frequency that a band keeps, in frames of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.audio.regions.settings import RegionSettings

RANGE_DB = 96.0  # below full scale: what is quieter counts as silence
QUIET = 0.2  # share of frames that stay below the background "quiet"


@dataclass(frozen=True)
class Plan:
    """How the sound of one rate becomes levels.

    Attributes:
      rate: Hz. fft, hop: samples. first, last: rows of the FFT that are kept, `last` not included. hz: float64 [F], their
      frequencies. gain: float32 [F], what the band-pass does to the power, in dB, with the scale of the window.
    """

    rate: int
    fft: int
    hop: int
    first: int
    last: int
    hz: np.ndarray
    gain: np.ndarray

    @property
    def frame_seconds(self) -> float:
        """From one frame to the next."""
        return self.hop / self.rate

    @property
    def row_hz(self) -> float:
        """From one row to the next."""
        return self.rate / self.fft

    def frames(self, samples: int) -> int:
        """Whole frames in so many samples."""
        return max(0, (samples - self.fft) // self.hop + 1)


@dataclass(frozen=True)
class Levels:
    """A stretch of spectrogram.

    Attributes:
      power: float32 [T, F], dB of a full-scale sine squared, between -96 and 0. background: float32 [F], of each row.
    """

    power: np.ndarray
    background: np.ndarray


def make_plan(rate: int, settings: RegionSettings) -> Plan:
    """The plan for a rate in Hz; needs settings without None. No rows are left where the band lies above half the rate."""
    assert settings.fft_samples is not None and settings.low_hz is not None and settings.high_hz is not None
    fft = settings.fft_samples
    hz = np.arange(fft // 2) * rate / fft  # without the row of half the rate, as upstream
    kept = np.flatnonzero((hz >= settings.low_hz) & (hz <= settings.high_hz))
    first, last = (int(kept[0]), int(kept[-1]) + 1) if len(kept) else (0, 0)
    window = np.hanning(fft + 1)[:-1]
    scale = 10 * np.log10(2 / (fft * np.square(window).sum()))
    gain = scale + _band_pass_db(hz[first:last], rate, settings)
    return Plan(rate, fft, fft - fft // 2, first, last, hz[first:last], gain.astype(np.float32))


def _band_pass_db(hz: np.ndarray, rate: int, settings: RegionSettings) -> np.ndarray:
    """Power in dB that a Butterworth filter leaves of each frequency when it runs forth and back."""
    if not settings.filter_order or not len(hz):
        return np.zeros(len(hz))
    from scipy.signal import butter, freqz_sos

    low, high = float(settings.low_hz or 0), min(float(settings.high_hz or 0), rate // 2 - 1)
    edges, kind = ([low, high], "bandpass") if low > 0 else (high, "lowpass")
    sections = butter(settings.filter_order, edges, kind, output="sos", fs=rate)
    response = freqz_sos(sections, worN=hz, fs=rate)[1]
    return 40 * np.log10(np.maximum(np.abs(response), 1e-12))


def levels_of(samples: np.ndarray, plan: Plan, settings: RegionSettings) -> Levels:
    """Power and background of samples float32 [n] that hold at least one frame."""
    power = decibels(samples, plan)
    return Levels(power, background_of(power, settings))


def decibels(samples: np.ndarray, plan: Plan) -> np.ndarray:
    """float32 [T, F]: power spectrogram in dB, a full-scale sine at -3 dB, cut to -96..0."""
    from scipy.fft import rfft

    frames = np.lib.stride_tricks.sliding_window_view(samples, plan.fft)[:: plan.hop]
    window = np.hanning(plan.fft + 1)[:-1].astype(np.float32)
    spectrum = rfft(frames * window, axis=1, overwrite_x=True)[:, plan.first : plan.last]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    np.log(np.maximum(power, 1e-30, out=power), out=power)
    power *= np.float32(10 / np.log(10))
    power += plan.gain
    return np.clip(power, -RANGE_DB, 0, out=power)


def background_of(power: np.ndarray, settings: RegionSettings) -> np.ndarray:
    """float32 [F]: the level of each row of power [T, F] between the sounds, smoothed over neighbouring rows."""
    from scipy.ndimage import uniform_filter1d

    rows = np.ascontiguousarray(power.T)
    if settings.background == "mean":
        profile = rows.mean(axis=1)
    elif settings.background == "median":
        profile = np.median(rows, axis=1, overwrite_input=True)
    else:
        # The power of Gaussian noise in one bin is exponential: its quantile q lies at -ln(1 - q) of the mean.
        raise_db = 10 * np.log10(np.log(2) / -np.log(1 - QUIET))
        place = int(QUIET * rows.shape[1])
        rows.partition(place, axis=1)
        profile = np.where(rows[:, place] > -RANGE_DB, rows[:, place] + raise_db, -RANGE_DB)
    return uniform_filter1d(profile.astype(np.float32), settings.smooth_rows, mode="nearest")
