"""Bucketed relative position bias and its gate (WavLM, arXiv 2110.13900, §3.1; unilm/beats/backbone.py `MultiheadAttention`).

Distances are counted in flattened tokens (time * frequency patches + frequency patch), not in two dimensions.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def relative_buckets(distances: np.ndarray, num_buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each distance (key index minus query index), int32 of the same shape.

    Half of the buckets are for positive distances; of each half the first half is exact and the rest logarithmic up to
    `max_distance`. The logarithm is float32, because float64 moves some of the boundaries.
    """
    half = num_buckets // 2
    exact = half // 2
    size = np.abs(distances)
    ratio = np.maximum(size, 1).astype(np.float32) / np.float32(exact)
    logarithmic = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + np.trunc(logarithmic).astype(np.int64), half - 1)
    return (np.where(size < exact, size, far) + half * (distances > 0)).astype(np.int32)


def relative_position_bias(table: jax.Array, num_tokens: int, max_distance: int) -> jax.Array:
    """Bias before gating, float32 [H, T, T] (query, key), from the bucket `table` [num_buckets, H]."""
    position = jnp.arange(num_tokens)
    by_distance = _bias_by_distance(table, num_tokens, max_distance)
    return jnp.take(by_distance, position[None, :] - position[:, None] + num_tokens - 1, axis=1)


def place_position_bias(table: jax.Array, positions: jax.Array, num_tokens: int, max_distance: int) -> jax.Array:
    """The same for tokens at given places of a sequence of `num_tokens`: positions int32 [B, V] → float32 [B, H, V, V]."""
    by_distance = _bias_by_distance(table, num_tokens, max_distance)
    distances = positions[:, None, :] - positions[:, :, None]
    return jnp.moveaxis(jnp.take(by_distance, distances + num_tokens - 1, axis=1), 0, 1)


def _bias_by_distance(table: jax.Array, num_tokens: int, max_distance: int) -> jax.Array:
    """[H, 2T-1], for the distances -(T-1) to T-1: few rows are gathered first, then they are spread along the diagonals."""
    distances = np.arange(-(num_tokens - 1), num_tokens)
    return jnp.take(table, relative_buckets(distances, table.shape[0], max_distance), axis=0).T


def relative_gate(queries: jax.Array, kernel: jax.Array, bias: jax.Array, scale: jax.Array) -> jax.Array:
    """Gate of the bias row of each query, float32 [B, H, T].

    Args:
      queries: [B, H, T, K], projected with bias and not yet scaled.
      kernel, bias: `grep_linear`, [K, 8] and [8]; its outputs are summed in two groups of four before the sigmoid.
      scale: `grep_a`, [H].
    """
    outputs = jnp.einsum("bhtk,kg->bhtg", queries, kernel) + bias[None, None, None, :]
    a, b = jnp.moveaxis(jax.nn.sigmoid(outputs.reshape(*outputs.shape[:-1], 2, 4).sum(-1)), -1, 0)
    return a * (b * scale[None, :, None] - 1.0) + 2.0
