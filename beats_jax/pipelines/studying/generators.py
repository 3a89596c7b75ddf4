"""Generators of a study, trained on the pictures that classifiers read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from beats_jax.pipelines.generating.recipes import recipe
from beats_jax.pipelines.generating.train import train_generator

# Settings of the objective that differ from the recipe's: a smaller network takes a quarter of the time, and 50 to a few hundred
# images are learnt by heart by the critic of a GAN that sees them as they are
SETTINGS = {"diffusion": {"width": 32, "blocks": 1}, "gan": {"disturb": True}}


def train_on_pictures(
    kind: str, images: np.ndarray, labels: np.ndarray, steps: int, seed: int, note: Callable[[str], None]
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Trains a generator of a kind (ae, vae, aae, gan, diffusion).

    Args:
      images: float32 [N, frames, bands]. labels: int64 [N].
      note: receives what the generator finds wrong with itself.
    Returns:
      (labels int64 [K], seed) → pictures float32 [K, frames, bands].
    Raises:
      UserError: it diverged, or there are too few pictures.
    """
    turned = np.ascontiguousarray(np.swapaxes(images, 1, 2))
    names = np.array([f"{label:06d}" for label in labels.tolist()])
    generator = train_generator(turned, names, recipe(kind, steps=steps, **SETTINGS.get(kind, {})), seed)
    for problem in generator.problems:
        note(problem)

    def draw(wanted: np.ndarray, seed: int) -> np.ndarray:
        found = generator.sample(np.array([f"{label:06d}" for label in wanted.tolist()]), seed)
        return np.ascontiguousarray(np.swapaxes(found, 1, 2))

    return draw
