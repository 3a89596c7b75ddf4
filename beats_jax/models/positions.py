"""BEATs' positions: a bucketed relative bias of the scores, [H, T, T], with its gate [B, H, T] (WavLM, arXiv 2110.13900, §3.1),
and a convolutional position embedding, [B, T, D] → [B, T, D] (wav2vec 2.0). Source: unilm/beats/backbone.py.

Distances are counted in flattened tokens (time * frequency patches + frequency patch), not in two dimensions.
"""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from beats_jax.config import BEATsConfig
from beats_jax.models import BiasByDistance, Tokens
from beats_jax.models.cpu import Form, convolve, convolve_by_groups, on_cpu, pick
from beats_jax.models.layers import whole


def relative_buckets(distances: np.ndarray, num_buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each distance (key index minus query index), int32 of the same shape.

    Half of the buckets are for positive distances; of each half the first half is exact and the rest logarithmic up to
    `max_distance`.
    """
    half = num_buckets // 2
    exact = half // 2
    size = np.abs(distances)
    # The logarithm is float32, because float64 moves some of the boundaries.
    ratio = np.maximum(size, 1).astype(np.float32) / np.float32(exact)
    logarithmic = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + np.trunc(logarithmic).astype(np.int64), half - 1)
    return (np.where(size < exact, size, far) + half * (distances > 0)).astype(np.int32)


def relative_position_bias(
    table: Float[Array, "buckets heads"], num_tokens: int, max_distance: int
) -> Float[Array, "heads {num_tokens} {num_tokens}"]:
    """Bias (query, key) before gating, from the table of buckets."""
    position = jnp.arange(num_tokens)
    by_distance = bias_by_distance(table, num_tokens, max_distance)
    return jnp.take(by_distance, position[None, :] - position[:, None] + num_tokens - 1, axis=1)


def place_position_bias(
    table: Float[Array, "buckets heads"], positions: Int[Array, "batch visible"], num_tokens: int, max_distance: int
) -> Float[Array, "batch heads visible visible"]:
    """The same for tokens at given positions of a sequence of `num_tokens`."""
    by_distance = bias_by_distance(table, num_tokens, max_distance)
    distances = positions[:, None, :] - positions[:, :, None]
    return jnp.moveaxis(jnp.take(by_distance, distances + num_tokens - 1, axis=1), 0, 1)


def bias_by_distance(table: Float[Array, "buckets heads"], num_tokens: int, max_distance: int) -> BiasByDistance:
    """For the distances -(T-1) to T-1: few rows are gathered first, then they are spread along the diagonals."""
    distances = np.arange(-(num_tokens - 1), num_tokens)
    return jnp.take(table, relative_buckets(distances, table.shape[0], max_distance), axis=0).T


def relative_gate(
    queries: Float[Array, "batch heads tokens width"],
    kernel: Float[Array, "width 8"],
    bias: Float[Array, " 8"],
    scale: Float[Array, " heads"],
) -> Float[Array, "batch heads tokens"]:
    """Gate of the bias row of each query.

    Args:
      queries: projected with bias and not yet scaled.
      kernel, bias: `grep_linear`; its outputs are summed in two groups of four before the sigmoid.
      scale: `grep_a`.
    """
    outputs = jnp.einsum("bhtk,kg->bhtg", queries, whole(kernel)) + bias[None, None, None, :]
    a, b = jnp.moveaxis(jax.nn.sigmoid(outputs.reshape(*outputs.shape[:-1], 2, 4).sum(-1)), -1, 0)
    return a * (b * scale[None, :, None] - 1.0) + 2.0


def normalised_kernel(
    weight_v: Float[Array, "taps inputs outputs"], weight_g: Float[Array, " taps"]
) -> Float[Array, "taps inputs outputs"]:
    """g v / ||v|| with one norm per tap (`weight_norm(dim=2)` of PyTorch)."""
    norm = jnp.sqrt(jnp.sum(jnp.square(weight_v), axis=(1, 2), keepdims=True))
    return weight_v * (weight_g[:, None, None] / norm)


def conv_position(
    x: Tokens,
    kernel: Float[Array, "taps group_width width"],
    bias: Float[Array, " width"],
    *,
    groups: int,
    form: Form,
    dtype: DTypeLike,
) -> Tokens:
    """Grouped 1-D convolution of the same length, before the GELU; `dtype` is the precision of its inputs."""
    compute = pick(form, cpu=partial(convolve_by_groups, groups=groups), plain=partial(convolve, groups=groups))
    return compute(x.astype(dtype), whole(kernel.astype(dtype))).astype(jnp.float32) + bias[None, None, :]


class ConvPosition(nn.Module):
    """GELU of the position convolution; parameters `weight_v` [K, D/groups, D], `weight_g` [K], `bias` [D]."""

    config: BEATsConfig
    dtype: DTypeLike
    form: Form

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        config = self.config
        width, taps, groups = config.encoder_embed_dim, config.conv_pos, config.conv_pos_groups
        spread = nn.initializers.normal((4.0 / (taps * width)) ** 0.5)
        weight_v = self.param("weight_v", spread, (taps, width // groups, width))
        weight_g = self.param("weight_g", lambda key, shape: jnp.sqrt(jnp.sum(jnp.square(weight_v), axis=(1, 2))), (taps,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        # XLA has no fast bfloat16 convolution on CPU: there it stays float32, 5 % of a forward pass.
        dtype = jnp.float32 if on_cpu(self.form) else self.dtype
        kernel = normalised_kernel(weight_v, weight_g)
        return jax.nn.gelu(conv_position(x, kernel, bias, groups=groups, form=self.form, dtype=dtype), approximate=False)
