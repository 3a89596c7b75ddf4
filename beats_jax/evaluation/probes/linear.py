"""Ridge regression onto the labels' zeros and ones, and the coordinates in which it and logistic regression are solved.

The coordinates are those in which a fold's examples are uncorrelated. A penalty on the squared norm does not change under
rotation, so a solution in them is the solution. There are never more of them than training examples: 50 labels cost 50 columns,
however wide the embedding (the kernel trick for a linear kernel).
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
    directions: jax.Array  # float32 [D, r], orthonormal columns, or 0 where no example varies: train = embedding @ directions


@jax.jit
def standardise(train: jax.Array, weights: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both standardised by the training examples; a dimension that is constant there (to 1e-6 of its mean) becomes 0.

    Args:
      train: float32 [n, D]. weights: float32 [n], 1 = an example, 0 = padding, which becomes zeros. test: float32 [m, D].
    """
    mean, scale = standardisation(train, weights)
    return (train - mean[None]) * weights[:, None] * scale[None], (test - mean[None]) * scale[None]


@jax.jit
def standardisation(train: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and factor of each dimension, float32 [D] both; arguments and rule as in `standardise`."""
    total = jnp.maximum(jnp.sum(weights), 1.0)
    # A first mean keeps float32 exact where the embedding is far from 0.
    mean = weights @ train / total
    deviation = jnp.sqrt(jnp.sum(jnp.square((train - mean[None]) * weights[:, None]), axis=0) / total)
    constant = deviation <= 1e-6 * jnp.abs(mean) + 1e-30
    return mean, jnp.where(constant, 0.0, 1.0 / jnp.where(constant, 1.0, deviation))


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


@jax.jit
def ridge_values(train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, alphas: jax.Array) -> jax.Array:
    """Predicted targets of the test examples, float32 [R, m, C]; scikit-learn's `Ridge(alpha)`, the intercept free.

    Args:
      train: float32 [n, D], centred (`standardise`); rows of padding are zeros. test: float32 [m, D].
      targets: float32 [n, C]. weights: float32 [n], 1 = an example, 0 = padding.
      alphas: float32 [R], positive.
    """
    axes = rotate(train, test)
    mean = weights @ targets / jnp.maximum(jnp.sum(weights), 1.0)
    moments = axes.train.T @ ((targets - mean[None]) * weights[:, None])
    return jax.lax.map(lambda alpha: axes.test @ (moments / (axes.energy + alpha)[:, None]) + mean[None], alphas)


def ridge_logits(train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, alphas: jax.Array) -> jax.Array:
    """`ridge_values` as logits, float32 [R, m, C]: 4 v - 2, whose sigmoid is v near one half and stays between 0 and 1.

    They rank as the values do; as probabilities they are not calibrated.
    """
    return 4.0 * ridge_values(train, targets, weights, test, alphas) - 2.0


@jax.jit
def ridge_coefficients(train: jax.Array, targets: jax.Array, weights: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Kernel float32 [D, C] and bias [C] of the values of `ridge_values` for one alpha; arguments as there."""
    axes = rotate(train, train[:0])
    mean = weights @ targets / jnp.maximum(jnp.sum(weights), 1.0)
    moments = axes.train.T @ ((targets - mean[None]) * weights[:, None])
    return axes.directions @ (moments / (axes.energy + alpha)[:, None]), mean
