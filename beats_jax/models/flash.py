"""Attention on accelerators: by our own kernels, which form the relative bias inside, or by cuDNN, which reads it whole.

No library offers this bias without an array [B, H, T, T]. Neither form is used unless it is asked for: no GPU or TPU was at
hand to measure them on.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from beats_jax.models import Bias, TokenMask
from beats_jax.models.flash_kernels import LOWEST, Target, backward, forward

LEAST_WIDTH = 16  # of a tile that a GPU multiplies


def attend_by_kernel(
    queries: Float[Array, "batch heads tokens width"],
    keys: Float[Array, "batch heads tokens width"],
    values: Float[Array, "batch heads tokens width"],
    token_mask: TokenMask | None,
    bias: Float[Array, "heads distances"] | None,
    gate: Float[Array, "batch heads tokens"] | None,
    *,
    dtype: DTypeLike,
    target: Target,
) -> Float[Array, "batch heads tokens width"]:
    """softmax(q kᵀ + gate · bias) v; arguments as of `blocked.attend_by_blocks`, without dropout.

    Under `jax.set_mesh` every device computes its own clips.
    """
    real = jnp.ones((queries.shape[0], queries.shape[2]), bool) if token_mask is None else token_mask
    if bias is not None and gate is None:
        gate = jnp.ones(queries.shape[:3], jnp.float32)
    one = partial(_attend, dtype=jnp.dtype(dtype), target=target)
    axes = jax.sharding.get_abstract_mesh().axis_names
    if axes and jax.sharding.get_abstract_mesh().size > 1:  # the compiler cannot split a kernel
        rows = PartitionSpec(axes)
        one = jax.shard_map(one, in_specs=(*(rows,) * 5, PartitionSpec()), out_specs=rows, check_vma=False)
    return one(queries, keys, values, real, gate, bias)


def _attend(queries, keys, values, real, gate, bias, dtype, target):
    """Pads to whole blocks, folds clips and heads, and back."""
    batch, heads, tokens, width = queries.shape
    # A clip without any real token attends evenly to all, as in the plain formula.
    seen = jnp.any(real, axis=1)
    real = real | ~seen[:, None]
    queries = jnp.where(seen[:, None, None, None], queries, 0.0)
    padding = -tokens % target.block
    more = max(LEAST_WIDTH, 1 << (width - 1).bit_length()) - width

    def fold(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, padding), (0, more))).reshape(batch * heads, tokens + padding, -1).astype(dtype)

    hidden = jnp.where(jnp.pad(real, ((0, 0), (0, padding))), 0.0, LOWEST)[:, None]
    gated = ()
    if bias is not None:
        column = jnp.pad(gate * seen[:, None, None], ((0, 0), (0, 0), (0, padding))).reshape(batch * heads, -1, 1)
        # Distance d at place d + T - 1 of the padded T; one place more makes it even.
        gated = column, jnp.pad(bias, ((0, 0), (padding, padding + 1)))[:, None]
    found: jax.Array = _folded(fold(queries), fold(keys), fold(values), hidden, gated, target)
    return found.reshape(batch, heads, tokens + padding, -1)[:, :, :tokens, :width]


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _folded(queries, keys, values, hidden, gated, target):
    return forward(queries, keys, values, hidden, gated, target)[0]


def _folded_forward(queries, keys, values, hidden, gated, target):
    output, log_sums = forward(queries, keys, values, hidden, gated, target)
    return output, (queries, keys, values, hidden, gated, output, log_sums)


def _folded_backward(target, saved, cotangent):
    queries, keys, values, hidden, gated, output, log_sums = saved
    products = jnp.sum(cotangent * output, axis=2, keepdims=True)
    parts = (queries, keys, values, hidden, cotangent.astype(queries.dtype), log_sums, products)
    (*found,) = backward(parts, gated, target)
    by_token = tuple(x.astype(queries.dtype) for x in found[:3])
    if not gated:
        return (*by_token, jnp.zeros_like(hidden), ())
    return (*by_token, jnp.zeros_like(hidden), (found[3], along_distances(found[4])[:, None]))


_folded.defvjp(_folded_forward, _folded_backward)


def along_distances(tiles: Float[Array, "heads diagonals block block"]) -> Float[Array, "heads places"]:
    """Sums of diagonals' tiles by distance: place (diagonal * block + key - query + block - 1), one more place at the end."""
    heads, diagonals, block, _ = tiles.shape
    # Rows in reverse order, padded to twice their length and read again with a width that is one less: row i moves right by i.
    wide = jnp.pad(tiles[:, :, ::-1], ((0, 0), (0, 0), (0, 0), (0, block))).reshape(heads, diagonals, -1)
    moved = wide[:, :, : block * (2 * block - 1)].reshape(heads, diagonals, block, 2 * block - 1)
    sums = jnp.pad(jnp.sum(moved, axis=2), ((0, 0), (0, 0), (0, 1))).reshape(heads, diagonals, 2, block)
    # The second half of a diagonal's distances is the first half of the next one's.
    first, second = (jnp.pad(sums[:, :, half], ((0, 0), (half, 1 - half), (0, 0))) for half in (0, 1))
    return (first + second).reshape(heads, -1)


def attend_by_cudnn(
    queries: Float[Array, "batch heads tokens width"],
    keys: Float[Array, "batch heads tokens width"],
    values: Float[Array, "batch heads tokens width"],
    token_mask: TokenMask | None,
    bias: Bias | None,
    gate: Float[Array, "batch heads tokens"] | None,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    implementation: str = "cudnn",
) -> Float[Array, "batch heads tokens width"]:
    """The same by `jax.nn.dot_product_attention`; the bias, times its gate, is rounded to `dtype`.

    cuDNN computes in bfloat16 and asks for an even number of tokens where it is trained: an odd one gets a hidden token. With a
    float32 bias its gradients were no numbers (jax#32242).

    Args:
      bias: (query, key), the same for all clips or one for each.
      implementation: xla runs the same call elsewhere, for tests.
    """
    batch, _, tokens, _ = queries.shape
    odd = tokens % 2
    if odd and token_mask is None:
        token_mask = jnp.ones((batch, tokens), bool)

    def even(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, odd), (0, 0))).transpose(0, 2, 1, 3).astype(dtype)

    if bias is not None:
        bias = bias if bias.ndim == 4 else bias[None]
        bias = bias if gate is None else gate[..., None] * bias
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, odd), (0, odd))).astype(dtype)
    mask = None if token_mask is None else jnp.pad(token_mask, ((0, 0), (0, odd)))[:, None, None, :]
    arrays = (even(queries), even(keys), even(values))
    found = jax.nn.dot_product_attention(*arrays, bias, mask, scale=1.0, implementation=implementation)  # type: ignore[arg-type]
    return found.transpose(0, 2, 1, 3)[:, :, :tokens].astype(jnp.float32)
