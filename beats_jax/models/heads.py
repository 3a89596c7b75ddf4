"""What an encoder returns, its reductions over the real tokens of a clip, and the heads: [B, T, D] → [B, D] → [B, C]."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from beats_jax.config.rules import require_one_of
from beats_jax.models import TokenMask, Tokens
from beats_jax.models.layers import Initializer, LayerNorm, Linear, gelu, torch_kernel

POOLINGS = ("mean", "max", "first", "last", "std", "cls")


class EncoderOutput(NamedTuple):
    """Features of a batch, special tokens first; values at tokens whose mask is False are finite and without meaning."""

    features: Tokens
    token_mask: TokenMask  # True = real
    layers: Float[Array, "states batch tokens width"] | None = None  # input of layer 1, then each output, before any final norm
    logits: Float[Array, "batch classes"] | None = None  # where the model has a head
    codes: Int[Array, "batch tokens"] | None = None  # where the model is a tokenizer


def masked_mean(values: Tokens, token_mask: TokenMask) -> Float[Array, "batch width"]:
    """Mean over real tokens; 0 where a clip has none."""
    count = jnp.maximum(jnp.sum(token_mask, axis=1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(token_mask[:, :, None], values, 0.0), axis=1) / count[:, None]


def pool(features: Tokens, token_mask: TokenMask, pooling: str, num_special: int = 0) -> Float[Array, "batch width"]:
    """One vector per clip from its real tokens; 0 where a clip has no real token.

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
        # By its place: see `layers.larger` on gradients of `jnp.max`.
        place = jnp.argmax(jnp.where(token_mask[:, :, None], features, -jnp.inf), axis=1)
        chosen = jnp.take_along_axis(features, place[:, None], axis=1)[:, 0]
    else:
        order = token_mask if pooling == "first" else token_mask[:, ::-1]
        index = jnp.argmax(order, axis=1)
        index = index if pooling == "first" else token_mask.shape[1] - 1 - index
        chosen = jnp.take_along_axis(features, index[:, None, None], axis=1)[:, 0]
    return jnp.where(anything, chosen, 0.0)


class AttentiveHead(nn.Module):
    """Learnt attention over the real tokens, special ones included, then a linear layer: features [B, T, D] → logits [B, C].

    Source: attentive probing as in V-JEPA (Bardes et al. 2024, section 3.2) without its MLP.
    """

    num_classes: int
    num_heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, features: Tokens, token_mask: TokenMask) -> Float[Array, "batch classes"]:
        batch, tokens, width = features.shape
        x = LayerNorm(self.dtype, name="norm")(jnp.where(token_mask[:, :, None], features, 0.0))  # NaN may lie under the mask
        # Every attention head has one learnt query for all clips. A query times the keys' kernel is a vector of the width of the
        # features, so `scores` [D, H] holds both at once; it starts at zero, which is the mean over the tokens.
        scores = Linear(self.num_heads, self.dtype, nn.initializers.zeros_init(), use_bias=False, name="scores")(x)
        scores = jnp.where(token_mask[:, :, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=1)
        values = Linear(width, self.dtype, name="values")(x).reshape(batch, tokens, self.num_heads, -1)
        read = jnp.einsum("bth,bthk->bhk", weights, values).reshape(batch, width)
        return Linear(self.num_classes, self.dtype, name="linear")(read)


class NormHead(nn.Module):
    """LayerNorm and Linear, [B, D] → logits [B, C]: the heads of AST and EAT."""

    num_classes: int
    epsilon: float
    dtype: DTypeLike
    kernel_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Float[Array, "batch width"]) -> Float[Array, "batch classes"]:
        x = LayerNorm(self.dtype, self.epsilon, name="norm")(x)
        return Linear(self.num_classes, self.dtype, self.kernel_init, name="linear")(x)


class Projection(nn.Module):
    """Linear, GELU, Linear between pooled features and a contrastive loss, in training only (SimCLR, Chen et al. 2020 §4.2).

    [B, D] → [B, outputs]; the hidden width is D.
    """

    outputs: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch width"]) -> Float[Array, "batch outputs"]:
        x = gelu(Linear(x.shape[-1], self.dtype, torch_kernel(), name="fc1")(x), self.dtype)
        return Linear(self.outputs, self.dtype, torch_kernel(), name="fc2")(x)
