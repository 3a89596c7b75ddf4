"""The nearest rows of a matrix, exactly: each device scores tiles of it and keeps their best, the host merges those.

    rows ─ blocks [devices x TILE, D] over Mesh("data", "fsdp") ─ scores of each row ─ top-k of each tile ─ merge: best k of all

A row is always in the same tile at the same place, whatever the devices, and equal scores go by the number of the row: results do
not depend on how many devices there are. float16 rows are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from beats_jax.parallel.mesh import AXES, batch_sharding

METRICS = ("cosine", "dot", "euclidean")
TILE = 8192  # rows that a device scores at once
IN_FLIGHT = 2  # blocks on the devices before the oldest result is fetched


class Block(NamedTuple):
    """Neighbouring rows on the devices.

    Attributes:
      rows: float32 or float16 [devices * TILE, D], zeros behind the last row.
      norms: float32 [devices * TILE], lengths of the rows; NaN where a row is padding or holds a value that is not finite.
      first: number of its first row. count: of rows that are no padding.
    """

    rows: jax.Array
    norms: jax.Array
    first: int
    count: int


class Nearest(NamedTuple):
    """The best rows of Q queries, best first; N usable rows give min(k, N).

    Attributes:
      rows: int64 [Q, k]. scores: float32 [Q, k]. examples: int64 [Q, k], which example of the query is nearest to the row.
      unusable: rows without a score: a value that is not finite, or for cosine no length.
    """

    rows: np.ndarray
    scores: np.ndarray
    examples: np.ndarray
    unusable: int


def device_blocks(parts: Iterable[np.ndarray], mesh: Mesh) -> Iterator[Block]:
    """The rows of all parts (float32 or float16 [n, D], one type and width) as blocks on the devices of the mesh."""
    size, first, filled = mesh.size * TILE, 0, 0
    buffer: np.ndarray | None = None
    for part in parts:
        taken = 0
        while taken < len(part):
            if buffer is None:
                buffer = np.zeros((size, part.shape[1]), part.dtype)  # a new one each time: a CPU device may keep it as it is
            count = min(size - filled, len(part) - taken)
            buffer[filled : filled + count] = part[taken : taken + count]
            taken, filled = taken + count, filled + count
            if filled == size:
                yield _put(buffer, first, filled, mesh)
                buffer, first, filled = None, first + size, 0
    if buffer is not None:
        yield _put(buffer, first, filled, mesh)


def _put(buffer: np.ndarray, first: int, count: int, mesh: Mesh) -> Block:
    rows = jax.device_put(buffer, batch_sharding(mesh))
    return Block(rows, _norms(rows, count), first, count)


@jax.jit
def _norms(rows: jax.Array, count: int) -> jax.Array:
    norms = jnp.sqrt(jnp.sum(jnp.square(rows.astype(jnp.float32)), axis=1))
    return jnp.where((jnp.arange(len(rows)) < count) & jnp.isfinite(norms), norms, jnp.nan)


def nearest_rows(
    blocks: Iterable[Block], examples: np.ndarray, counter_examples: np.ndarray, k: int, metric: str, mesh: Mesh
) -> Nearest:
    """The k rows with the largest scores: largest similarity to an example, less the largest to a counter-example.

    Args:
      blocks: of `device_blocks`, from one pass or kept. mesh: the one that they were put on.
      examples: float [Q, P, D], P examples of each of Q queries. counter_examples: float [Q, M, D]; M may be 0.
      metric: the similarity. cosine: of the angle. dot: the inner product. euclidean: the distance, negative.
    """
    vectors = np.concatenate([examples, counter_examples], axis=1).astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    queries, kept = jnp.asarray(vectors, jnp.float32), min(k, TILE)
    score = partial(_best_of_block, queries=queries, positives=examples.shape[1], k=kept, metric=metric, mesh=mesh)
    found: list[tuple[np.ndarray, ...]] = []
    waiting: list[tuple[Block, tuple[jax.Array, ...]]] = []
    unusable = 0
    for block in blocks:
        waiting.append((block, score(block.rows, block.norms)))
        if len(waiting) > IN_FLIGHT:
            unusable += _fetch(*waiting.pop(0), found)
    for one in waiting:
        unusable += _fetch(*one, found)
    return _merge(found, len(examples), k, unusable)


@partial(jax.jit, static_argnames=("positives", "k", "metric", "mesh"))
def _best_of_block(
    rows: jax.Array, norms: jax.Array, *, queries: jax.Array, positives: int, k: int, metric: str, mesh: Mesh
) -> tuple[jax.Array, ...]:
    """Of each device: scores, places in its tile and examples, [devices, Q, k]; and its usable rows, int32 [devices]."""
    split, whole = PartitionSpec(AXES), PartitionSpec()
    score = partial(_best_of_tile, positives=positives, k=k, metric=metric)
    return jax.shard_map(score, mesh=mesh, in_specs=(split, split, whole), out_specs=split, check_vma=False)(rows, norms, queries)


def _best_of_tile(
    tile: jax.Array, norms: jax.Array, queries: jax.Array, *, positives: int, k: int, metric: str
) -> tuple[jax.Array, ...]:
    count, each, width = queries.shape
    values = tile.astype(jnp.float32)
    similar = _similarity(values, norms, queries.reshape(-1, width), metric).reshape(-1, count, each)
    to_examples, to_others = similar[:, :, :positives], similar[:, :, positives:]
    scores = jnp.max(to_examples, axis=-1)
    if each > positives:
        scores = scores - jnp.max(to_others, axis=-1)
    usable = jnp.isfinite(norms) & ((norms > 0) | (metric != "cosine"))
    best, places = jax.lax.top_k(jnp.where(usable[:, None], scores, -jnp.inf).T, k)  # of equal scores the first row leads
    examples = jnp.take_along_axis(jnp.argmax(to_examples, axis=-1).T, places, axis=1)
    return best[None], places[None], examples[None], jnp.sum(usable)[None]


def _similarity(values: jax.Array, norms: jax.Array, vectors: jax.Array, metric: str) -> jax.Array:
    """float32 [rows, vectors]. Differences are squared, not multiplied out: near a row the products would cancel."""
    if metric == "euclidean":
        distances = jax.lax.map(lambda one: jnp.sqrt(jnp.sum(jnp.square(values - one[None, :]), axis=1)), vectors)
        return -distances.T
    products = jnp.dot(values, vectors.T, precision=jax.lax.Precision.HIGHEST)  # no TF32 or bfloat16 on accelerators
    return products / norms[:, None] if metric == "cosine" else products


def _fetch(block: Block, results: tuple[jax.Array, ...], found: list[tuple[np.ndarray, ...]]) -> int:
    """Adds the best of a block to `found` and returns the number of its rows without a score."""
    scores, places, examples, usable = map(np.asarray, results)
    rows = block.first + TILE * np.arange(len(scores), dtype=np.int64)[:, None, None] + places
    found.append(tuple(np.concatenate(list(array), axis=1) for array in (scores, rows, examples)))
    return block.count - int(usable.sum())


def _merge(found: list[tuple[np.ndarray, ...]], queries: int, k: int, unusable: int) -> Nearest:
    if not found:
        return Nearest(np.zeros((queries, 0), np.int64), np.zeros((queries, 0), np.float32), np.zeros((queries, 0), np.int64), 0)
    scores, rows, examples = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    order = order[:, : int(np.isfinite(np.take_along_axis(scores[:1], order[:1], axis=1)).sum())]  # the same rows for all queries
    rows, scores, examples = (np.take_along_axis(array, order, axis=1) for array in (rows, scores, examples.astype(np.int64)))
    return Nearest(rows, scores, examples, unusable)
