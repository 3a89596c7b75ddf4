"""Coordinates in which a fold's examples are uncorrelated; ridge and logistic regression solve all their strengths in them.

A penalty on the squared norm does not change under rotation, so a solution in these coordinates is the solution. There are never
more of them than training examples: 50 labels cost 50 columns, however wide the embedding (the kernel trick for a linear kernel).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Rotated(NamedTuple):
    """r = min(n, D) coordinates of the same examples."""

    train: jax.Array  # float32 [n, r], columns orthogonal to each other
    test: jax.Array  # float32 [m, r]
    energy: jax.Array  # float32 [r], squared norm of each column of `train`
    directions: (
        jax.Array
    )  # float32 [D, r]: embedding @ directions = coordinates; orthonormal columns, or 0 where no example varies


@jax.jit
def standardise(train: jax.Array, weights: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both with the mean and the deviation of the training examples taken out, each dimension for itself.

    Args:
      train: float32 [n, D]. weights: float32 [n], 1 = an example, 0 = padding, which comes out as zeros. test: float32 [m, D].
    Returns:
      float32 [n, D] and [m, D]; a dimension that is constant in training (to 1e-6 of its mean) is 0 in both.
    """
    total = jnp.maximum(jnp.sum(weights), 1.0)
    # A first mean keeps float32 exact where the embedding is far from 0.
    mean = weights @ train / total
    centred = (train - mean[None]) * weights[:, None]
    deviation = jnp.sqrt(jnp.sum(jnp.square(centred), axis=0) / total)
    constant = deviation <= 1e-6 * jnp.abs(mean) + 1e-30
    scale = jnp.where(constant, 0.0, 1.0 / jnp.where(constant, 1.0, deviation))
    return centred * scale[None], (test - mean[None]) * scale[None]


@jax.jit
def rotate(train: jax.Array, test: jax.Array) -> Rotated:
    """Principal axes of the training examples, from the smaller of their two Gram matrices.

    Args:
      train: float32 [n, D], centred; rows of padding are zeros. test: float32 [m, D].
    """
    few = train.shape[0] < train.shape[1]
    gram = train @ train.T if few else train.T @ train
    energy, axes = jnp.linalg.eigh(gram)
    real = energy > energy[-1] * len(energy) * jnp.finfo(jnp.float32).eps
    energy = jnp.where(real, energy, 0.0)
    if few:
        axes = train.T @ (axes * jnp.where(real, jax.lax.rsqrt(jnp.where(real, energy, 1.0)), 0.0)[None])
    return Rotated(train @ axes, test @ axes, energy, axes)
