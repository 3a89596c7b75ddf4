"""Ridge regression of the embeddings onto the labels' zeros and ones: closed form, all strengths from one decomposition."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from beats_jax.evaluation.probes.rotation import rotate


@jax.jit
def ridge_values(train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, alphas: jax.Array) -> jax.Array:
    """Predicted targets of the test examples, float32 [R, m, C]; scikit-learn's `Ridge(alpha)`, the intercept free.

    Args:
      train: float32 [n, D], centred (`rotation.standardise`); rows of padding are zeros. test: float32 [m, D].
      targets: float32 [n, C]. weights: float32 [n], 1 = an example, 0 = padding.
      alphas: float32 [R], positive.
    """
    axes = rotate(train, test)
    mean = weights @ targets / jnp.maximum(jnp.sum(weights), 1.0)
    moments = axes.train.T @ ((targets - mean[None]) * weights[:, None])
    return jax.lax.map(lambda alpha: axes.test @ (moments / (axes.energy + alpha)[:, None]) + mean[None], alphas)


def ridge_logits(train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, alphas: jax.Array) -> jax.Array:
    """`ridge_values` as logits, float32 [R, m, C]: 4 v - 2, whose sigmoid is v near one half and stays between 0 and 1.

    They rank as the values do; they are no calibrated probabilities.
    """
    return 4.0 * ridge_values(train, targets, weights, test, alphas) - 2.0
