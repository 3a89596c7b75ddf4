"""Classical features of a clip (librosa), its spectrum, and facts of its level."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

OCTAVES = 6  # bands of the energy shares, each an octave, below half the rate
CEPSTRA = 13
PSD_BINS = 128  # points of the spectrum from 0 to half the rate
FACTS = ("rms_db", "peak_db", "clipped_share", "offset", "snr_db", "seconds")
CLIPPED = 0.999  # of full scale


def window_of(sample_rate: int) -> int:
    """Samples of a frame of the features: 128 ms of a low rate, less of a high one."""
    return 256 if sample_rate <= 8000 else 1024


def feature_names(sample_rate: int) -> tuple[str, ...]:
    """The names of `clip_features`."""
    spectral = ("centroid", "bandwidth", "rolloff", "flatness", "zero_crossings", "rms_db", "peak_hz")
    pairs = [f"{name}_{what}" for name in (*spectral, *(f"mfcc_{i}" for i in range(CEPSTRA))) for what in ("mean", "std")]
    nyquist = sample_rate / 2
    bands = [f"share_{nyquist / 2 ** (i + 1):.0f}_{nyquist / 2**i:.0f}_hz" for i in range(OCTAVES)]
    return (*pairs, *bands, f"share_0_{nyquist / 2**OCTAVES:.0f}_hz", "ridge_slope_hz_per_s")


def clip_features(sound: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [K] features by `feature_names`, float32 [PSD_BINS] spectrum in dB) of float32 [samples], one at least."""
    import librosa

    size = window_of(sample_rate)
    padded = np.pad(sound, (0, max(0, 2 * size - len(sound)))).astype(np.float32)
    magnitude = np.abs(librosa.stft(padded, n_fft=size, hop_length=size // 2)) + 1e-9
    power, hertz = magnitude**2, np.arange(size // 2 + 1) * sample_rate / size
    mels = librosa.feature.melspectrogram(S=power, sr=sample_rate, n_mels=32, fmin=sample_rate / 100)
    peak_hz = hertz[1 + power[1:].argmax(axis=0)]
    rows = [
        librosa.feature.spectral_centroid(S=magnitude, sr=sample_rate)[0],
        librosa.feature.spectral_bandwidth(S=magnitude, sr=sample_rate)[0],
        librosa.feature.spectral_rolloff(S=magnitude, sr=sample_rate)[0],
        librosa.feature.spectral_flatness(S=magnitude)[0],
        librosa.feature.zero_crossing_rate(padded, frame_length=size, hop_length=size // 2)[0],
        10 * np.log10(power.mean(axis=0)),
        peak_hz,
        *librosa.feature.mfcc(S=librosa.power_to_db(mels), n_mfcc=CEPSTRA),
    ]
    pairs = [value for row in rows for value in (row.mean(), row.std())]
    mean_power = power.mean(axis=1)
    values = [*pairs, *_octave_shares(mean_power), _ridge_slope(power, peak_hz, size / 2 / sample_rate)]
    places = np.linspace(0, size // 2, PSD_BINS)
    psd = np.interp(places, np.arange(size // 2 + 1), 10 * np.log10(mean_power))
    return np.nan_to_num(np.array(values, np.float32)), psd.astype(np.float32)


def _octave_shares(mean_power: np.ndarray) -> list[float]:
    total, top = mean_power[1:].sum(), len(mean_power) - 1
    edges = [0.0, *(top / 2**i for i in range(OCTAVES, -1, -1))]
    bins = np.arange(1, len(mean_power))
    shares = [float(mean_power[1:][(bins > low) & (bins <= high)].sum() / total) for low, high in pairwise(edges)]
    return [*shares[:0:-1], shares[0]]


def _ridge_slope(power: np.ndarray, peak_hz: np.ndarray, frame_seconds: float) -> float:
    """Slope of the loudest frequency over time in Hz a second, frames weighted by their peak over their mean."""
    if len(peak_hz) < 2:
        return 0.0
    weight = power[1:].max(axis=0) / power[1:].mean(axis=0)
    time = np.arange(len(peak_hz)) * frame_seconds
    centred = time - np.average(time, weights=weight)
    spread = float((weight * centred**2).sum())
    return float((weight * centred * peak_hz).sum() / spread) if spread > 0 else 0.0


def clip_facts(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """float32 [len(FACTS)]: levels in dB of full scale, share of clipped samples, mean, peaks over the floor in dB, seconds.

    Peaks over the floor: how far the loudest hundredth of the cells of the spectrogram rises over the median of its frequency,
    which is high for a sound that comes and goes.
    """
    import librosa

    wide, size = sound.astype(np.float64), window_of(sample_rate)
    rms, peak = float(np.sqrt(np.mean((wide - wide.mean()) ** 2))), float(np.abs(wide).max())
    padded = np.pad(sound, (0, max(0, 2 * size - len(sound)))).astype(np.float32)
    decibels = 20 * np.log10(np.abs(librosa.stft(padded, n_fft=size, hop_length=size // 2)) + 1e-9)
    over = decibels - np.median(decibels, axis=1, keepdims=True)
    values = [20 * np.log10(max(rms, 1e-9)), 20 * np.log10(max(peak, 1e-9)), float(np.mean(np.abs(wide) >= CLIPPED))]
    return np.array([*values, float(wide.mean()), float(np.quantile(over, 0.99)), len(sound) / sample_rate], np.float32)
