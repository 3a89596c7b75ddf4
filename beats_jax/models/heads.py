"""Reductions over the real tokens of a clip, by which features become an embedding and token logits become clip logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from beats_jax.config.rules import require_one_of

POOLINGS = ("mean", "max", "first", "last", "std", "cls")


def masked_mean(values: jax.Array, token_mask: jax.Array) -> jax.Array:
    """Mean over real tokens: [B, T, N], bool [B, T] → [B, N]; 0 where a clip has none."""
    count = jnp.maximum(jnp.sum(token_mask, axis=1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(token_mask[:, :, None], values, 0.0), axis=1) / count[:, None]


def pool(features: jax.Array, token_mask: jax.Array, pooling: str, num_special: int = 0) -> jax.Array:
    """One vector per clip from its real tokens: [B, T, D], bool [B, T] → [B, D]; 0 where a clip has no real token.

    Args:
      pooling: `mean`, `max` (per channel), `first` or `last` real token, `std` (standard deviation per channel), all without the
        special tokens; `cls`: the mean of the special tokens (EAT: CLS; AST: CLS and DIST, as its head reads them).
      num_special: special tokens that lead the features.
    Raises:
      UserError: any other name, or `cls` where there are no special tokens.
    """
    require_one_of("pooling", pooling, POOLINGS if num_special else POOLINGS[:-1])
    if pooling == "cls":
        return jnp.mean(features[:, :num_special], axis=1)
    features, token_mask = features[:, num_special:], token_mask[:, num_special:]
    if pooling == "mean":
        return masked_mean(features, token_mask)
    if pooling == "std":
        centred = features - masked_mean(features, token_mask)[:, None]
        return jnp.sqrt(masked_mean(jnp.square(centred), token_mask))
    anything = jnp.any(token_mask, axis=1)[:, None]
    if pooling == "max":
        chosen = jnp.max(jnp.where(token_mask[:, :, None], features, -jnp.inf), axis=1)
    else:
        order = token_mask if pooling == "first" else token_mask[:, ::-1]
        index = jnp.argmax(order, axis=1)
        index = index if pooling == "first" else token_mask.shape[1] - 1 - index
        chosen = jnp.take_along_axis(features, index[:, None, None], axis=1)[:, 0]
    return jnp.where(anything, chosen, 0.0)
