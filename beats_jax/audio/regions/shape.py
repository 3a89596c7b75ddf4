"""How a picture looks at several scales and angles: mean responses of a bank of Gabor filters (scikit-maad's shape features)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

FREQUENCIES = (0.35, 0.5)  # cycles a pixel
BANDWIDTH, GAMMA = 0.8, 2.0  # octaves; elongation of the filters
RESOLUTIONS = {"low": (2, 4), "med": (4, 6), "high": (8, 6)}  # angles, levels of the pyramid


def shape_names(resolution: str) -> list[str]:
    """Names of the features: shp_001 and on."""
    angles, levels = RESOLUTIONS[resolution]
    return [f"shp_{place:03d}" for place in range(1, angles * len(FREQUENCIES) * levels + 1)]


def shape_features(picture: np.ndarray, rows: slice, resolution: str) -> np.ndarray:
    """Mean magnitude of each filter on each level, over some rows of a picture [F, T] and all of its columns.

    Returns:
      float64 [angles * 2 * levels]: levels outermost, then angles, then frequencies; NaN on levels without variation.
    """
    angles, levels = RESOLUTIONS[resolution]
    means = []
    for level in _pyramid(picture, levels):
        # The mean of a level that is enlarged to the picture is linear in its pixels: weights for rows, and for columns.
        weights = (
            _enlarged(picture.shape[0], level.shape[0])[rows].mean(axis=0),
            _enlarged(picture.shape[1], level.shape[1]).mean(axis=0),
        )
        means += [float(weights[0] @ one @ weights[1]) for one in _responses(level, _bank(angles))]
    return np.array(means + [np.nan] * (angles * len(FREQUENCIES) * levels - len(means)))


@lru_cache(maxsize=4)
def _bank(angles: int) -> tuple[np.ndarray, ...]:
    """Complex kernels without a constant part."""
    return tuple(_gabor(frequency, math.pi * place / angles) for place in range(angles) for frequency in FREQUENCIES)


def _gabor(frequency: float, angle: float) -> np.ndarray:
    octaves = 2.0**BANDWIDTH
    along = math.sqrt(math.log(2) / 2) / math.pi * (octaves + 1) / (octaves - 1) / frequency
    across = along / GAMMA
    cos, sin = math.cos(angle), math.sin(angle)
    x_half = math.ceil(max(abs(3 * across * cos), abs(3 * along * sin), 1))
    y_half = math.ceil(max(abs(3 * along * cos), abs(3 * across * sin), 1))
    y, x = np.mgrid[-y_half : y_half + 1, -x_half : x_half + 1]
    turned_x, turned_y = x * cos + y * sin, y * cos - x * sin
    bell = np.exp(-0.5 * ((turned_x / across) ** 2 + (turned_y / along) ** 2)) / (2 * math.pi * across * along)
    wave = bell * np.exp(2j * math.pi * frequency * turned_x)
    return wave - wave.sum() / bell.sum() * bell


def _responses(level: np.ndarray, kernels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Magnitude of each kernel's convolution with the standardised level, mirrored at its borders."""
    from scipy.fft import fft2, ifft2, next_fast_len

    spread = level.std()
    if not spread:
        return [np.full(level.shape, np.nan) for _ in kernels]
    halves = np.max([kernel.shape for kernel in kernels], axis=0) // 2
    padded = np.pad((level - level.mean()) / spread, [(int(half), int(half)) for half in halves], mode="symmetric")
    size = [next_fast_len(int(length + 2 * half)) for length, half in zip(padded.shape, halves, strict=True)]
    spectrum = np.asarray(fft2(padded, size))
    found = []
    for kernel in kernels:
        full = np.abs(np.asarray(ifft2(spectrum * np.asarray(fft2(kernel, size)))))
        rows, columns = (halves[axis] + kernel.shape[axis] // 2 for axis in (0, 1))
        found.append(full[rows : rows + level.shape[0], columns : columns + level.shape[1]])
    return found


def _pyramid(picture: np.ndarray, levels: int) -> list[np.ndarray]:
    """The picture and its halvings (Gaussian smoothing before each), until it does not shrink any more."""
    from scipy.ndimage import gaussian_filter

    found = [picture.astype(np.float64)]
    while len(found) < levels:
        last = found[-1]
        halved = np.ceil(np.array(last.shape) / 2)
        if tuple(halved) == last.shape:
            break
        smooth = gaussian_filter(last, 2 * 2 / 6, mode="reflect")
        found.append(_zoom(smooth, halved / last.shape))
    return found


@lru_cache(maxsize=64)
def _enlarged(pixels: int, few: int) -> np.ndarray:
    """float64 [pixels, few]: how much of each of a few pixels is in each of many, by linear interpolation."""
    return np.eye(few) if few == pixels else _zoom(np.eye(few), (pixels / few, 1.0))


def _zoom(picture: np.ndarray, factors: Sequence[float] | np.ndarray) -> np.ndarray:
    from scipy.ndimage import zoom

    return np.asarray(zoom(picture, factors, order=1, mode="mirror", grid_mode=True))
