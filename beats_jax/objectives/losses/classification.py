"""Classification losses on soft targets, one value per example; the caller averages.

Cross-entropy with label smoothing (Szegedy et al. 2016), class weights and focal factor (Lin et al. 2017, eq. 4, without its
alpha: class weights do that work), or the generalised one for labels of which some are wrong (Zhang and Sabuncu 2018, arXiv
1805.07836, eq. 6): (1 - p^q) / q in place of -log p, whose gradient is that of -log p times p^q.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from beats_jax.errors import UserError


def softmax_losses(
    logits: Float[Array, "B C"],
    targets: Float[Array, "B C"],
    *,
    class_weights: Float[Array, " C"],
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    q: float = 0.0,
) -> Float[Array, " B"]:
    """- sum_c w_c q_c (1 - p_c)^gamma log p_c, with p = softmax(logits) and q = (1 - s) * target + s / C.

    Args:
      targets: rows sum to 1 (one-hot, or mixed by mixup).
      label_smoothing: s in [0, 1).
      focal_gamma: gamma >= 0; 0 is plain cross-entropy.
      q: in [0, 1]; 0 is plain cross-entropy, else (1 - p_c^q) / q stands for - log p_c.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    smooth = (1 - label_smoothing) * targets + label_smoothing / targets.shape[-1]
    factors = class_weights[None] * smooth * _focal(-jnp.expm1(log_p), focal_gamma)
    return jnp.sum(factors * _surprise(log_p, q), axis=-1)


def sigmoid_losses(
    logits: Float[Array, "B C"],
    targets: Float[Array, "B C"],
    *,
    class_weights: Float[Array, " C"],
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    q: float = 0.0,
) -> Float[Array, " B"]:
    """Mean over the classes of - w_c [q_c (1 - p_c)^gamma log p_c + (1 - q_c) p_c^gamma log(1 - p_c)], p = sigmoid(logits).

    Targets lie in [0, 1] and are smoothed as q = (1 - s) * target + s / 2; the rest is as in `softmax_losses`.
    """
    logits = logits.astype(jnp.float32)
    smooth = (1 - label_smoothing) * targets + label_smoothing / 2
    log_p, log_not_p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    yes = smooth * _focal(jax.nn.sigmoid(-logits), focal_gamma) * _surprise(log_p, q)
    no = (1 - smooth) * _focal(jax.nn.sigmoid(logits), focal_gamma) * _surprise(log_not_p, q)
    return jnp.mean(class_weights[None] * (yes + no), axis=-1)


def _surprise(log_p: jax.Array, q: float) -> jax.Array:
    return -log_p if q == 0 else -jnp.expm1(q * log_p) / q


def _focal(miss: jax.Array, gamma: float) -> jax.Array:
    if gamma == 0:
        return jnp.ones_like(miss)
    return jnp.power(jnp.maximum(miss, 1e-12), gamma)  # the gradient stays finite where a sure answer makes `miss` 0


def is_right(logits: Float[Array, "B C"], targets: Float[Array, "B C"]) -> Bool[Array, " B"]:
    """Whether the highest logit is that of the largest target."""
    return jnp.argmax(logits, axis=-1) == jnp.argmax(targets, axis=-1)


def code_losses(logits: Float[Array, "*B K"], codes: Int[Array, "*B"], label_smoothing: float) -> Float[Array, "*B"]:
    """Cross-entropy of every token with its codes; smoothing spreads that share evenly over all codes (PyTorch's rule)."""
    own = jax.lax.broadcasted_iota(codes.dtype, logits.shape, logits.ndim - 1) == codes[..., None]
    wanted = jnp.sum(jnp.where(own, logits, 0.0), axis=-1)
    expected = (1 - label_smoothing) * wanted + label_smoothing * jnp.mean(logits, axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - expected


def balanced_weights(class_counts: np.ndarray) -> np.ndarray:
    """Inverse frequency, w_c proportional to 1 / n_c, scaled to mean 1: float32 [C], from the training rows [C] of each class.

    Raises:
      UserError: a class without a training row.
    """
    counts = np.asarray(class_counts, np.float64)
    if np.any(counts <= 0):
        empty = ", ".join(str(i) for i in np.flatnonzero(counts <= 0)[:5])
        raise UserError(f"objective.class_weights is 'balanced' but classes number {empty} have no training rows: use 'none'")
    inverse = 1 / counts
    return (inverse / inverse.mean()).astype(np.float32)
