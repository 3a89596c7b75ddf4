"""Losses that gather embeddings of what belongs together and spread all others, one value an anchor.

InfoNCE (van den Oord et al. 2018) with one positive an anchor; the supervised contrastive loss with several (Khosla et al. 2020,
eq. 2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


def normalise(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Rows of length 1 in float32; a row of zeros stays one, with a finite gradient."""
    x = x.astype(jnp.float32)
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jnp.where(squares > SMALLEST_NORM**2, jax.lax.rsqrt(jnp.maximum(squares, SMALLEST_NORM**2)), 0.0)


def similarities(anchors: Float[Array, "A D"], candidates: Float[Array, "N D"], temperature: float) -> Float[Array, "A N"]:
    """Cosines over temperature of normalised anchors and candidates."""
    return jnp.einsum("ad,cd->ac", anchors, candidates, precision=jax.lax.Precision.HIGHEST) / temperature


def gathering_losses(
    scores: Float[Array, "A N"], positives: Bool[Array, "A N"], allowed: Bool[Array, "A N"]
) -> Float[Array, " A"]:
    """- mean over the positives p of log softmax(scores)_p, the softmax over the allowed candidates; 0 without a positive.

    Args:
      scores: see `similarities`.
      positives: candidates that belong to the anchor; only allowed ones count.
      allowed: False = the candidate does not exist for this anchor (itself, a bad file, an empty place of a bank).
    """
    positives = positives & allowed
    lowest = jnp.finfo(jnp.float32).min
    log_sums = jax.nn.logsumexp(jnp.where(allowed, scores, lowest), axis=1, keepdims=True)
    count = jnp.sum(positives, axis=1)
    sums = jnp.sum(jnp.where(positives, scores - log_sums, 0.0), axis=1)
    return -sums / jnp.maximum(count, 1)


def share_a_label(labels: Float[Array, "B C"]) -> Bool[Array, "B B"]:
    """Whether two rows of multi-hot labels have a label in common; a row without labels has none in common with any."""
    return jnp.einsum("ac,bc->ab", labels, labels) > 0
