"""What a region sounds like, in numbers: duration, band at -6 dB, peak, shape. Algorithm and names of bambird (scikit-maad)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from beats_jax.audio.regions.shape import shape_features, shape_names

SPECTRUM = ("duration_t", "centroid_f", "peak_f", "bandwidth_f", "bandwidth_min_f", "bandwidth_max_f", "snr")
RANGE_DB = 96.0
CLEAN_DB = 6.0  # what is left above the background and weaker counts for nothing
SMOOTH_ROWS = 35  # of the mean spectrum


def feature_names(resolution: str = "high") -> list[str]:
    """Names of the features of `region_features`, in order."""
    return [*SPECTRUM, *shape_names(resolution)]


def region_features(
    clip: np.ndarray,
    sample_rate: int,
    *,
    fft_samples: int = 1024,
    band: tuple[float, float] | None = None,
    resolution: str = "high",
) -> Mapping[str, float]:
    """Features of a clip that holds one region.

    Args:
      clip: float [samples], a region with its margins (`clips`).
      band: (low, high) in Hz of a Butterworth band-pass of order 5 before all else, as upstream; None = none.
      resolution: of the shape: low (16 numbers), med (48), high (96).
    Returns:
      name → value: duration_t in seconds; peak_f, bandwidth_min_f, bandwidth_max_f, bandwidth_f in Hz: peak of the smoothed mean
      spectrum and its bounds at -6 dB; centroid_f, the middle of these bounds; snr in dB above the background; shp_001 and on,
      mean responses of Gabor filters. All NaN for a clip of less than two windows; shp of digital silence is NaN.
    """
    names = feature_names(resolution)
    if len(clip) < 2 * fft_samples:
        return dict.fromkeys(names, float("nan"))
    levels, hz, seconds = _levels(np.asarray(clip, np.float64), sample_rate, fft_samples, band)
    clean = remove_background(levels)
    clean[clean <= CLEAN_DB] = 0
    values = [seconds, *_of_spectrum(clean, hz)]
    sounding = np.flatnonzero(clean.any(axis=1))
    rows = slice(int(sounding[2]), int(sounding[-1]) + 1) if len(sounding) > 2 else slice(0, clean.shape[1] + 1)
    return dict(zip(names, [*values, *shape_features(clean, rows, resolution).tolist()], strict=True))


def remove_background(levels: np.ndarray) -> np.ndarray:
    """Spectral subtraction on levels in dB, float64 [F, T]: the mean of each row, opened by a bell over rows, is the noise."""
    from scipy.ndimage import grey_opening
    from scipy.signal.windows import gaussian

    mean = levels.mean(axis=1)
    noise = grey_opening(mean, structure=gaussian(50, 25))
    noise[:2], noise[-2:] = mean[:2], mean[-2:]
    noise[noise == 0] = np.finfo(np.float64).tiny
    over = np.maximum(levels / noise[:, None], 0)
    return np.maximum(levels * (1 - 1 / (over + 1)), 0)


def _levels(clip: np.ndarray, rate: int, fft: int, band: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray, float]:
    """dB [F, T] above -96 without the lowest two rows, frequencies [F], time of the last frame."""
    from scipy.signal import butter, get_window, sosfiltfilt, spectrogram

    if band is not None:
        edges = [band[0], min(band[1], rate // 2 - 1)]
        clip = sosfiltfilt(butter(5, edges, "bandpass", output="sos", fs=rate), clip)
    hz, times, power = spectrogram(clip, rate, get_window("hann", fft), noverlap=fft // 2, detrend="constant", scaling="density")
    power = power[:-1] * (rate / fft)
    power[:2] = 0
    decibels = 10 * np.log10(np.maximum(power, 10 ** (-RANGE_DB / 10)))
    return np.minimum(decibels, 0) + RANGE_DB, hz[:-1], float(times[-1])


def _of_spectrum(clean: np.ndarray, hz: np.ndarray) -> list[float]:
    from scipy.ndimage import uniform_filter1d

    mean = uniform_filter1d((10 ** (clean / 10)).mean(axis=1), SMOOTH_ROWS, mode="nearest")
    decibels = 10 * np.log10(mean)
    peak = int(decibels.argmax())
    within = np.flatnonzero(decibels > decibels[peak] - 6)
    low, high = float(hz[within[0]]), float(hz[within[-1]])
    snr = 10 * float(np.log10(np.percentile(mean, 99)))
    return [(low + high) / 2, float(hz[peak]), high - low, low, high, snr]
