"""Attention over long sounds, a block of queries at a time: memory grows with the tokens T, not with T².

No [B, H, T, T] array is made, forwards or backwards: a block's scores are computed again for its gradients, and its part of the
relative bias is cut out of the values by distance. The softmax of a query sees all its keys at once, so the result is that of
`attention.attend` to rounding. The gradient of the bias is a sum over shifted rows, without scattered additions: those are what
makes it slow elsewhere (openfold-3 #271, flash-attention #342).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from beats_jax.models import TokenMask
from beats_jax.models.cpu import Form
from beats_jax.models.layers import contract

BLOCK = 128  # queries
BLOCKED_FROM = 1536  # tokens; below, whole scores are as fast and their memory does not matter


def saves_memory(form: Form, tokens: int) -> bool:
    """Whether attention over so many tokens makes no array [T, T]."""
    if form in (Form.PLAIN, Form.WHOLE, Form.CUDNN):
        return False
    return form in (Form.BLOCKED, Form.KERNEL) or tokens >= BLOCKED_FROM


def attend_by_blocks(
    queries: Float[Array, "batch heads tokens width"],
    keys: Float[Array, "batch heads tokens width"],
    values: Float[Array, "batch heads tokens width"],
    token_mask: TokenMask | None,
    bias: Float[Array, "heads distances"] | None,
    gate: Float[Array, "batch heads tokens"] | None,
    dropout_key: Key[Array, ""] | None,
    *,
    dropout_rate: float,
    dtype: DTypeLike,
    block: int = BLOCK,
) -> Float[Array, "batch heads tokens width"]:
    """softmax(q kᵀ + gate · bias) v; queries are scaled already.

    Args:
      bias: for the distances -(T-1) to T-1 of key and query. Others as in `attention.attend`.
    """
    tokens = queries.shape[2]
    count = -(-tokens // block)
    padding = count * block - tokens
    if bias is not None:
        bias = jnp.pad(bias, ((0, 0), (padding, 0)))  # for the queries that fill the last block

    def whole_blocks(x: jax.Array) -> jax.Array:
        """[B, H, T, ...] → [blocks, B, H, block, ...]."""
        x = jnp.pad(x, ((0, 0), (0, 0), (0, padding), *((0, 0),) * (x.ndim - 3)))
        return jnp.moveaxis(x.reshape(*x.shape[:2], count, block, *x.shape[3:]), 2, 0)

    def attend_block(part: tuple[jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        index, own, own_gate = part
        scores = contract("bhqk,bhsk->bhqs", own, keys, dtype)
        if bias is not None:
            rows = bias_rows(bias, (count - 1 - index) * block, block, tokens)[None]
            scores = scores + (rows if own_gate is None else own_gate[..., None] * rows)
        if token_mask is not None:
            scores = jnp.where(token_mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        probabilities = jax.nn.softmax(scores, axis=-1)
        if dropout_key is not None and dropout_rate > 0:
            kept = jax.random.bernoulli(jax.random.fold_in(dropout_key, index), 1.0 - dropout_rate, probabilities.shape)
            probabilities = jnp.where(kept, probabilities / (1.0 - dropout_rate), 0.0)
        return contract("bhqs,bhsk->bhqk", probabilities, values, dtype)

    parts = (jnp.arange(count), whole_blocks(queries), None if gate is None else whole_blocks(gate))
    found = jax.lax.map(jax.checkpoint(attend_block, prevent_cse=False), parts)
    return jnp.moveaxis(found, 0, 2).reshape(*queries.shape[:2], count * block, -1)[:, :, :tokens]


def bias_rows(
    bias: Float[Array, "heads distances"], first: Int[Array, ""] | int, block: int, tokens: int
) -> Float[Array, "heads {block} {tokens}"]:
    """Rows of the bias (query, key) for `block` queries that follow each other.

    Args:
      first: place in `bias` of the last query's distance to the first key.
    """
    heads, length = bias.shape[0], tokens + block - 1
    distances = jax.lax.dynamic_slice_in_dim(bias, first, length, axis=1)
    # Each row is the one above it moved by one place: equal rows, read again with a width that is one less.
    equal = jnp.broadcast_to(distances[:, None, :], (heads, block, length)).reshape(heads, -1)
    moved = jax.lax.slice_in_dim(equal, block - 1, block - 1 + block * (length - 1), axis=1)
    return moved.reshape(heads, block, length - 1)[:, :, :tokens]
