"""A waveform as levels above its background: rows of frequency that a band keeps, in frames of time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from beats_jax.audio.regions.boxes import Threshold
from beats_jax.audio.regions.settings import RegionSettings, given

CACHED_SAMPLES = 1 << 16  # windowed at a time: they stay in the cache
QUIET = 0.2  # share of frames that stay below the background "quiet"


@dataclass(frozen=True)
class Plan:
    """How the sound of one rate becomes levels, and levels boxes.

    Attributes:
      rate: Hz. fft, hop: samples. first, last: rows of the FFT that are kept, `last` not included. hz: float64 [F], their
        frequencies. gain: float32 [F], what the band-pass does to the power, with the scale of the window.
      floor: power that counts as silence. threshold: what belongs to a region.
      reach: half-sizes in frames and rows of the rectangle that closes gaps. min_seconds: regions are longer.
    """

    rate: int
    fft: int
    hop: int
    first: int
    last: int
    hz: np.ndarray
    gain: np.ndarray
    floor: float
    threshold: Threshold
    reach: tuple[int, int]
    min_seconds: float

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
      power: float32 [T, F], a sine of amplitude 1 has 1/3; at least the floor that `range_db` states.
      background: float32 [F], the same of each row.
    """

    power: np.ndarray
    background: np.ndarray


@lru_cache(maxsize=64)
def make_plan(rate: int, settings: RegionSettings) -> Plan:
    """The plan for a rate in Hz. No rows are left where the band lies above half the rate. Raises `ValueError` for a None."""
    fft, low, high = given(settings.fft_samples), given(settings.low_hz), given(settings.high_hz)
    hop = fft - fft // 2
    hz = np.arange(fft // 2) * rate / fft  # without the row of half the rate, as upstream
    kept = np.flatnonzero((hz >= low) & (hz <= high))
    first, last = (int(kept[0]), int(kept[-1]) + 1) if len(kept) else (0, 0)
    gain = 2 / (fft * np.square(np.hanning(fft + 1)).sum()) * _band_pass(hz[first:last], low, high, rate, settings.filter_order)
    seed, edge, depth = (10 ** (given(db) / 10) for db in (settings.seed_db, settings.edge_db, settings.depth_db))
    reach = round(given(settings.join_seconds) * rate / hop), round(given(settings.join_hz) * fft / rate)
    threshold = Threshold(seed, edge, depth if settings.depth_db else float("inf"))
    floor = 10 ** (-given(settings.range_db) / 10)
    return Plan(
        rate, fft, hop, first, last, hz[first:last], gain.astype(np.float32), floor, threshold, reach, given(settings.min_seconds)
    )


def _band_pass(hz: np.ndarray, low: float, high: float, rate: int, order: int) -> np.ndarray:
    """Share of the power that a Butterworth filter leaves of each frequency when it runs forth and back."""
    if not order or not len(hz):
        return np.ones(len(hz))
    from scipy.signal import butter, sosfreqz

    high = min(high, rate // 2 - 1)
    sections = butter(order, [low, high] if low > 0 else high, "bandpass" if low > 0 else "lowpass", output="sos", fs=rate)
    return np.abs(sosfreqz(sections, worN=hz, fs=rate)[1]) ** 4  # type: ignore[arg-type]  its stub wants an int


def levels_of(samples: np.ndarray, plan: Plan, settings: RegionSettings) -> Levels:
    """Power and background of samples float32 [n] that hold at least one frame."""
    power = power_of(samples, plan)
    return Levels(power, background_of(power, plan, settings))


def power_of(samples: np.ndarray, plan: Plan) -> np.ndarray:
    """float32 [T, F]: power spectrogram of samples float32 [n]."""
    from scipy.fft import rfft

    frames = np.lib.stride_tricks.sliding_window_view(samples, plan.fft)[:: plan.hop]
    window = np.hanning(plan.fft + 1)[:-1].astype(np.float32)
    power = np.empty((len(frames), len(plan.gain)), np.float32)
    together = max(1, CACHED_SAMPLES // plan.fft)
    for start in range(0, len(frames), together):
        spectrum = rfft(frames[start : start + together] * window, axis=1, overwrite_x=True)
        kept = np.asarray(spectrum, np.complex64)[:, plan.first : plan.last]
        part = np.square(kept.real, out=power[start : start + together])
        part += np.square(kept.imag)
        part *= plan.gain
    return np.maximum(power, np.float32(plan.floor), out=power)


def background_of(power: np.ndarray, plan: Plan, settings: RegionSettings) -> np.ndarray:
    """float32 [F]: the power of each row of [T, F] between the sounds, its dB smoothed over neighbouring rows."""
    from scipy.ndimage import uniform_filter1d

    rows = np.ascontiguousarray(power.T)
    if settings.background == "mean":
        profile = np.log10(rows).mean(axis=1)
    else:
        rows.sort(axis=1)  # a fifth of the time of partition, which is not vectorised so well
        count = rows.shape[1]
        if settings.background == "median":
            profile = (np.log10(rows[:, count // 2]) + np.log10(rows[:, (count - 1) // 2])) / 2
        else:
            # The power of Gaussian noise in one bin is exponential: its quantile q lies at -ln(1 - q) of the mean.
            quiet = rows[:, int(QUIET * count)]
            profile = np.log10(np.where(quiet > 1.01 * plan.floor, quiet * (np.log(2) / -np.log(1 - QUIET)), quiet))
    return np.power(10, uniform_filter1d(profile.astype(np.float32), settings.smooth_rows, mode="nearest"))
