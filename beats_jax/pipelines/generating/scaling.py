"""Images in any units to those of the networks and back: bands are standardised by training statistics, clipped at 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.objectives.images import IMAGE_SPREAD

LEAST_DEVIATION = 1e-3  # of the largest band's: a band that never varies is not blown up to noise


@dataclass(frozen=True)
class Scaling:
    """`mean` and `deviation`, float32 [F]: of each band over all training images and frames, in the images' own units."""

    mean: np.ndarray
    deviation: np.ndarray

    def to_network(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, F, T] between -1 and 1."""
        scaled = (images - self.mean[:, None]) * (IMAGE_SPREAD / self.deviation[:, None])
        return np.clip(scaled, -1, 1).astype(np.float32)

    def from_network(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse, but for what was clipped."""
        return (np.clip(scaled, -1, 1) * (self.deviation[:, None] / IMAGE_SPREAD) + self.mean[:, None]).astype(np.float32)


def fit_scaling(images: np.ndarray) -> Scaling:
    """The scaling of training images, float [N, F, T]."""
    mean = images.mean(axis=(0, 2), dtype=np.float64)
    deviation = images.std(axis=(0, 2), dtype=np.float64)
    # Images that are all alike have no deviation anywhere: 1 keeps them finite
    deviation = np.maximum(deviation, LEAST_DEVIATION * deviation.max()) if deviation.max() > 0 else np.ones_like(deviation)
    return Scaling(mean.astype(np.float32), deviation.astype(np.float32))
