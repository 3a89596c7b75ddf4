"""Classification losses on soft targets, one value per example. Pure functions; averaging is the caller's business.

Cross-entropy with label smoothing (Szegedy et al. 2016), class weights and focal factor (Lin et al. 2017, eq. 4, without its
alpha: class weights do that work).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.errors import UserError


def softmax_losses(
    logits: jax.Array, targets: jax.Array, *, class_weights: jax.Array, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> jax.Array:
    """- sum_c w_c q_c (1 - p_c)^gamma log p_c, with p = softmax(logits) and q = (1 - s) * target + s / C.

    Args:
      logits: float [B, C].
      targets: float32 [B, C], rows sum to 1 (one-hot, or mixed by mixup).
      class_weights: float32 [C].
      label_smoothing: s in [0, 1).
      focal_gamma: gamma >= 0; 0 is plain cross-entropy.
    Returns:
      float32 [B].
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    q = (1 - label_smoothing) * targets + label_smoothing / targets.shape[-1]
    return -jnp.sum(class_weights[None] * q * _focal(-jnp.expm1(log_p), focal_gamma) * log_p, axis=-1)


def sigmoid_losses(
    logits: jax.Array, targets: jax.Array, *, class_weights: jax.Array, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> jax.Array:
    """Mean over the classes of - w_c [q_c (1 - p_c)^gamma log p_c + (1 - q_c) p_c^gamma log(1 - p_c)], p = sigmoid(logits).

    Args:
      logits: float [B, C].
      targets: float32 [B, C] in [0, 1]; smoothed as q = (1 - s) * target + s / 2.
      class_weights, label_smoothing, focal_gamma: as in `softmax_losses`.
    Returns:
      float32 [B].
    """
    logits = logits.astype(jnp.float32)
    q = (1 - label_smoothing) * targets + label_smoothing / 2
    log_p, log_not_p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    yes = q * _focal(jax.nn.sigmoid(-logits), focal_gamma) * log_p
    no = (1 - q) * _focal(jax.nn.sigmoid(logits), focal_gamma) * log_not_p
    return -jnp.mean(class_weights[None] * (yes + no), axis=-1)


def _focal(miss: jax.Array, gamma: float) -> jax.Array:
    """miss ** gamma, with a finite gradient where a sure answer makes `miss` 0."""
    if gamma == 0:
        return jnp.ones_like(miss)
    return jnp.power(jnp.maximum(miss, 1e-12), gamma)


def code_losses(logits: jax.Array, codes: jax.Array, label_smoothing: float) -> jax.Array:
    """Cross-entropy of every token with its codes; smoothing spreads that share evenly over all codes (PyTorch's rule).

    Args:
      logits: float32 [B, T, ..., K]. codes: int32 [B, T, ...].
    Returns:
      float32 [B, T, ...].
    """
    own = jax.lax.broadcasted_iota(codes.dtype, logits.shape, logits.ndim - 1) == codes[..., None]
    wanted = jnp.sum(jnp.where(own, logits, 0.0), axis=-1)
    expected = (1 - label_smoothing) * wanted + label_smoothing * jnp.mean(logits, axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - expected


def balanced_weights(class_counts: np.ndarray) -> np.ndarray:
    """Inverse frequency, scaled to mean 1: w_c proportional to 1 / n_c.

    Args:
      class_counts: [C], training rows of each class.
    Returns:
      float32 [C].
    Raises:
      UserError: a class without a training row.
    """
    counts = np.asarray(class_counts, np.float64)
    if np.any(counts <= 0):
        empty = ", ".join(str(i) for i in np.flatnonzero(counts <= 0)[:5])
        raise UserError(f"objective.class_weights is 'balanced' but classes number {empty} have no training rows: use 'none'")
    inverse = 1 / counts
    return (inverse / inverse.mean()).astype(np.float32)
