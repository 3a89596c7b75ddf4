"""Pallas kernels of attention whose relative bias is formed inside, from its gate and its values by distance.

A tile of scores belongs to a block of queries and one of keys; no more than one tile is ever held. Backwards there are three
kernels, each of which owns what it writes, so that nothing is added atomically: gradients of a block of queries (with its gate),
of a block of keys, and of a diagonal of tiles, which all read the same values by distance.

Letters: N = B * H, T a multiple of the block, K width of a head. Arrays of one number a token are columns [N, T, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

VMEM = 48 * 2**20  # bytes of a TPU core for one kernel; v5e, v5p, v6e and 7x have more than that
LOWEST = -1e30  # of hidden keys: finite, because a block may hold nothing else


@dataclass(frozen=True)
class Target:
    """How the kernels are written for a kind of device.

    Attributes:
      block: queries, and keys, of a tile. gather: read a tile of the bias element by element (GPU), or by moving rows (TPU).
      all_clips: one program adds up the clips of a diagonal (GPU), or the programs of a diagonal follow each other (TPU).
      interpret: run as plain JAX, on any device and slowly; for tests.
    """

    block: int
    gather: bool
    all_clips: bool
    interpret: bool = False

    @property
    def compiler(self) -> Any:
        """Triton for GPUs: the other compiler of Pallas has no plain product of tiles."""
        return triton.CompilerParams(num_warps=4, num_stages=2) if self.gather else pltpu.CompilerParams(vmem_limit_bytes=VMEM)


GPU = Target(block=64, gather=True, all_clips=True)
TPU = Target(block=128, gather=False, all_clips=False)  # lanes of a register


def _dot(left: jax.Array, right: jax.Array, contracted: tuple[int, int]) -> jax.Array:
    """Product of two tiles over these axes, summed in float32; float32 tiles are not rounded on the way."""
    precision = jax.lax.Precision.HIGHEST if left.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    axes = (((contracted[0],), (contracted[1],)), ((), ()))
    return jax.lax.dot_general(left, right, axes, precision=precision, preferred_element_type=jnp.float32)


def _bias_tile(bias: Any, diagonal: Any, blocks: int, target: Target) -> jax.Array:
    """[block, block] (query, key) of a diagonal: key block minus query block; `bias` is a reference [1, 2 T]."""
    block = target.block
    start = (diagonal + blocks - 1) * block  # place of the last query's distance to the first key
    if target.gather:
        row, column = (jax.lax.broadcasted_iota(jnp.int32, (block, block), axis) for axis in (0, 1))
        return bias[0, start + block - 1 + column - row]
    rows = jnp.broadcast_to(bias[:, pl.ds(start, 2 * block)], (block, 2 * block))
    return pltpu.roll(rows, block + 1, 1, stride=1, stride_axis=0)[:, :block]  # row i moved left by block - 1 - i


def _span(index: Any, block: int) -> Any:
    return pl.ds(pl.multiple_of(index * block, block), block)


def _forward_kernel(*refs: Any, blocks: int, target: Target, biased: bool) -> None:
    """One block of queries: softmax over blocks of keys, with the largest score and the sum so far."""
    queries, keys, values, hidden, *gated, output, log_sums = refs
    own, place = queries[...], pl.program_id(1)
    gate: Any = gated[0][...] if biased else None

    def add(step: Any, carried: Any) -> Any:
        largest, total, weighted = carried
        span = _span(step, target.block)
        scores = _dot(own, keys[span, :], (1, 1)) + hidden[:, span]
        if biased:
            scores += gate * _bias_tile(gated[1], step - place, blocks, target)
        now = jnp.maximum(largest, jnp.max(scores, axis=1, keepdims=True))
        shrunk, shares = jnp.exp(largest - now), jnp.exp(scores - now)
        total = shrunk * total + jnp.sum(shares, axis=1, keepdims=True)
        return now, total, shrunk * weighted + _dot(shares.astype(own.dtype), values[span, :], (1, 0))

    column = jnp.zeros((target.block, 1), jnp.float32)
    start = (column + 2 * LOWEST, column, jnp.zeros(own.shape, jnp.float32))
    largest, total, weighted = jax.lax.fori_loop(0, blocks, add, start)
    output[...] = weighted / total
    log_sums[...] = largest + jnp.log(total)


def _tile_gradient(own: Any, key: Any, value: Any, hidden: Any, gate: Any, tile: Any) -> tuple[jax.Array, jax.Array]:
    """Probabilities of a tile, and the gradient of its scores; `own`: queries, cotangents, log-sums, products of a block."""
    query, cotangent, log_sums, products = own
    scores = _dot(query, key, (1, 1)) + hidden
    if tile is not None:
        scores += gate * tile
    probabilities = jnp.exp(scores - log_sums)
    return probabilities, probabilities * (_dot(cotangent, value, (1, 1)) - products)


def _query_kernel(*refs: Any, blocks: int, target: Target, biased: bool) -> None:
    """Gradients of one block of queries and of its gate."""
    inputs, outputs = (refs[:9], refs[9:]) if biased else (refs[:7], refs[7:])
    queries, keys, values, hidden, cotangent, log_sums, products, *gated = inputs
    own, place = tuple(ref[...] for ref in (queries, cotangent, log_sums, products)), pl.program_id(1)
    gate: Any = gated[0][...] if biased else None

    def add(step: Any, carried: Any) -> Any:
        span = _span(step, target.block)
        key = keys[span, :]
        tile: Any = _bias_tile(gated[1], step - place, blocks, target) if biased else None
        _, change = _tile_gradient(own, key, values[span, :], hidden[:, span], gate, tile)
        query_sum = carried[0] + _dot(change.astype(key.dtype), key, (1, 0))
        return (query_sum, carried[1] + jnp.sum(change * tile, axis=1, keepdims=True)) if biased else (query_sum,)

    start = (jnp.zeros(queries.shape, jnp.float32), jnp.zeros((target.block, 1), jnp.float32))
    for output, found in zip(outputs, jax.lax.fori_loop(0, blocks, add, start[: len(outputs)]), strict=True):
        output[...] = found


def _key_kernel(*refs: Any, blocks: int, target: Target, biased: bool) -> None:
    """Gradients of one block of keys and values."""
    queries, keys, values, hidden, cotangents, log_sums, products, *gated, key_output, value_output = refs
    key, value, mask, place = keys[...], values[...], hidden[...], pl.program_id(1)

    def add(step: Any, carried: Any) -> Any:
        span = _span(step, target.block)
        own = tuple(ref[span, :] for ref in (queries, cotangents, log_sums, products))
        gate = gated[0][span, :] if biased else None
        tile = _bias_tile(gated[1], place - step, blocks, target) if biased else None
        probabilities, change = _tile_gradient(own, key, value, mask, gate, tile)
        key_sum = carried[0] + _dot(change.astype(key.dtype), own[0], (0, 0))
        return key_sum, carried[1] + _dot(probabilities.astype(key.dtype), own[1], (0, 0))

    start = (jnp.zeros(key.shape, jnp.float32),) * 2
    key_output[...], value_output[...] = jax.lax.fori_loop(0, blocks, add, start)


def _diagonal_kernel(*refs: Any, blocks: int, target: Target) -> None:
    """Gradient of the bias of one diagonal of tiles, added up over its tiles and over clips [C, ...], not yet along distances."""
    queries, keys, values, hidden, cotangents, log_sums, products, gates, bias, output = refs
    diagonal = pl.program_id(1) - (blocks - 1)
    tile = _bias_tile(bias, diagonal, blocks, target)
    first = jnp.maximum(-diagonal, 0)
    count = blocks - jnp.abs(diagonal)

    def add(step: Any, total: Any) -> Any:
        clip, block = step // count, first + step % count
        span, others = _span(block, target.block), _span(block + diagonal, target.block)
        own = tuple(ref[clip, span, :] for ref in (queries, cotangents, log_sums, products))
        gate = gates[clip, span, :]
        _, change = _tile_gradient(own, keys[clip, others, :], values[clip, others, :], hidden[clip, :, others], gate, tile)
        return total + gate * change

    total = jax.lax.fori_loop(0, count * queries.shape[0], add, jnp.zeros(output.shape, jnp.float32))
    output[...] = jnp.where(pl.program_id(2) == 0, total, output[...] + total)


class Specs:
    """Which part of each array a program sees, for a grid [N, blocks].

    Attributes:
      block: the program's own tokens. whole: all tokens.
    """

    def __init__(self, heads: int, tokens: int, block: int) -> None:
        self.heads, self.tokens, self.size = heads, tokens, block

    def block(self, width: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, self.size, width), lambda n, i: (n, i, 0))

    def whole(self, width: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, self.tokens, width), lambda n, i: (n, 0, 0))

    def hidden(self, whole: bool) -> pl.BlockSpec:
        """Of the mask [B, 1, T]."""
        size, heads = self.tokens if whole else self.size, self.heads
        return pl.BlockSpec((None, 1, size), lambda n, i: (n // heads, 0, 0 if whole else i))

    def bias(self) -> pl.BlockSpec:
        heads = self.heads
        return pl.BlockSpec((None, 1, 2 * self.tokens), lambda n, i: (n % heads, 0, 0))


def _call(kernel: Any, grid: tuple[int, ...], inputs: list[Any], outputs: list[Any], target: Target) -> Any:
    """`kernel` over `grid`; inputs: (array, spec), outputs: (shape, spec), all float32."""
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[spec for _, spec in inputs],
        out_specs=[spec for _, spec in outputs],
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in outputs],
        interpret=target.interpret,
        compiler_params=target.compiler,
    )(*(array for array, _ in inputs))


def forward(
    queries: Float[Array, "n tokens width"],
    keys: Float[Array, "n tokens width"],
    values: Float[Array, "n tokens width"],
    hidden: Float[Array, "batch 1 tokens"],
    gated: tuple[jax.Array, ...],
    target: Target,
) -> tuple[Float[Array, "n tokens width"], Float[Array, "n tokens 1"]]:
    """The attention, and log-sum-exp of each query's scores; both float32.

    Args:
      hidden: added to the scores: 0 or `LOWEST`. gated: () or (gate [N, T, 1], bias [H, 1, 2 T] whose place d + T - 1 holds
        distance d).
    """
    count, tokens, width = queries.shape
    specs, blocks = Specs(count // hidden.shape[0], tokens, target.block), tokens // target.block
    inputs = [(queries, specs.block(width)), (keys, specs.whole(width)), (values, specs.whole(width))]
    inputs += [(hidden, specs.hidden(True)), *zip(gated, (specs.block(1), specs.bias()), strict=False)]
    outputs = [(queries.shape, specs.block(width)), ((count, tokens, 1), specs.block(1))]
    kernel = partial(_forward_kernel, blocks=blocks, target=target, biased=bool(gated))
    return _call(kernel, (count, blocks), inputs, outputs, target)


def backward(
    parts: tuple[jax.Array, ...],
    gated: tuple[jax.Array, ...],
    target: Target,
) -> tuple[jax.Array, ...]:
    """Gradients of queries, keys and values, and with a bias of the gate [N, T, 1] and of the diagonals' tiles
    [H, 2 blocks - 1, block, block].

    Args:
      parts: queries, keys, values, hidden, cotangent [N, T, K], log-sum-exp and sums of cotangent times output [N, T, 1].
    """
    queries, hidden = parts[0], parts[3]
    count, tokens, width = queries.shape
    batch, block, blocks = hidden.shape[0], target.block, tokens // target.block
    heads = count // batch
    specs, biased = Specs(heads, tokens, block), bool(gated)
    widths = (width, width, width, 0, width, 1, 1)

    def inputs(own: tuple[bool, ...], gate: pl.BlockSpec) -> list[Any]:
        """`own`: of which parts a program sees its block only."""
        which = [
            specs.hidden(not mine) if part == 3 else (specs.block if mine else specs.whole)(widths[part])
            for part, mine in enumerate(own)
        ]
        return [*zip(parts, which, strict=True), *zip(gated, (gate, specs.bias()), strict=False)]

    options = {"blocks": blocks, "target": target, "biased": biased}
    by_query = inputs((True, False, False, False, True, True, True), specs.block(1))
    by_key = inputs((False, True, True, True, False, False, False), specs.whole(1))
    grid, sums = (count, blocks), (queries.shape, specs.block(width))
    of_gate = [((count, tokens, 1), specs.block(1))] if biased else []
    found = _call(partial(_query_kernel, **options), grid, by_query, [sums, *of_gate], target)
    key_found, value_found = _call(partial(_key_kernel, **options), grid, by_key, [sums, sums], target)
    if not biased:
        return found[0], key_found, value_found

    clips = batch if target.all_clips else 1

    def of_clips(array: jax.Array) -> tuple[jax.Array, pl.BlockSpec]:
        by_clip = array.reshape(batch, -1, *array.shape[1:])  # [B, H, ...], of the mask [B, 1, ...]
        alone = by_clip.shape[1] == 1 < heads
        return by_clip, pl.BlockSpec((clips, None, *array.shape[1:]), lambda h, d, b: (b, 0 if alone else h, 0, 0))

    diagonals = 2 * blocks - 1
    bias_spec = pl.BlockSpec((None, 1, 2 * tokens), lambda h, d, b: (h, 0, 0))
    by_diagonal = [*(of_clips(array) for array in (*parts, gated[0])), (gated[1], bias_spec)]
    tiles = ((heads, diagonals, block, block), pl.BlockSpec((None, None, block, block), lambda h, d, b: (h, d, 0, 0)))
    kernel = partial(_diagonal_kernel, blocks=blocks, target=target)
    (tile_found,) = _call(kernel, (heads, diagonals, batch // clips), by_diagonal, [tiles], target)
    return found[0], key_found, value_found, found[1], tile_found
