"""Reductions over the real tokens of a clip, by which features become an embedding or logits; and the attentive head."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config.rules import require_one_of
from beats_jax.models.elementwise import LayerNorm
from beats_jax.models.linear import Linear

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


class AttentiveHead(nn.Module):
    """Learnt attention over the real tokens, special ones included, then a linear layer: features [B, T, D] → logits [B, C].

    Every attention head has one learnt query for all clips. A query times the keys' kernel is a vector of the width of the
    features, so `scores` [D, H] holds both at once; it starts at zero, which is the mean over the tokens.
    Source: attentive probing as in V-JEPA (Bardes et al. 2024, section 3.2) without its MLP.
    """

    num_classes: int
    num_heads: int
    dtype: Any

    @nn.compact
    def __call__(self, features: jax.Array, token_mask: jax.Array) -> jax.Array:
        """`features` [B, T, D], `token_mask` bool [B, T], True = real → float32 [B, C]."""
        batch, tokens, width = features.shape
        x = LayerNorm(self.dtype, name="norm")(jnp.where(token_mask[:, :, None], features, 0.0))  # NaN may lie under the mask
        scores = Linear(self.num_heads, self.dtype, nn.initializers.zeros_init(), use_bias=False, name="scores")(x)
        scores = jnp.where(token_mask[:, :, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=1)
        values = Linear(width, self.dtype, name="values")(x).reshape(batch, tokens, self.num_heads, -1)
        read = jnp.einsum("bth,bthk->bhk", weights, values).reshape(batch, width)
        return Linear(self.num_classes, self.dtype, name="linear")(read)
