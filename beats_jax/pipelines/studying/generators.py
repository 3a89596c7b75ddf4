"""Generators of a study, trained on pictures relative to the floor of each band, which a classifier's input does not hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from beats_jax.pipelines.generating.recipes import recipe
from beats_jax.pipelines.generating.train import train_generator


def train_on_pictures(
    kind: str, images: np.ndarray, labels: np.ndarray, steps: int, seed: int, note: Callable[[str], None]
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Trains a generator of a kind (ae, vae, aae, gan, diffusion).

    Args:
      images: float32 [N, frames, bands], natural logarithm of power. labels: int64 [N].
      note: receives what the generator finds wrong with itself.
    Returns:
      (labels int64 [K], seed) → pictures float32 [K, frames, bands] at the mean floor of those it learnt from.
    Raises:
      UserError: it diverged, or there are too few pictures.
    """
    floors = images.mean(axis=1, keepdims=True)
    turned = np.ascontiguousarray(np.swapaxes(images - floors, 1, 2))
    names = np.array([f"{label:06d}" for label in labels.tolist()])
    generator = train_generator(turned, names, recipe(kind, steps=steps), seed)
    for problem in generator.problems:
        note(problem)
    floor = floors.mean(axis=0, keepdims=True)

    def draw(wanted: np.ndarray, seed: int) -> np.ndarray:
        found = generator.sample(np.array([f"{label:06d}" for label in wanted.tolist()]), seed)
        return (np.swapaxes(found, 1, 2) + floor).astype(np.float32)

    return draw
