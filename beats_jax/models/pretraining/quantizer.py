"""The quantiser of the self-distilled tokenizer as functions, vectors [..., Q] → codes [...] (unilm/beats/quantizer.py).

Codes are unit vectors. In training they follow a running average of the vectors assigned to them; no gradient reaches them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

SMALLEST_NORM = 1e-12
DECAY = 0.99  # of both running averages
ITERATIONS = 10  # of the k-means that starts a codebook
PRECISION = jax.lax.Precision.HIGHEST  # codes flip when margins drown in rounding


class Codebook(NamedTuple):
    """The quantiser's state, all float32; K codes of width Q.

    `cluster_size` and `embed_avg` are state of the published code that nothing reads after the start; they are kept so that a
    file is written back as it was read.
    """

    embedding: Float[Array, "codes code_width"]  # the codes
    usage: Float[Array, " codes"]  # running average of how many vectors of a batch had each code
    cluster_size: Float[Array, " codes"]  # how many vectors each code had at the end of the k-means
    embed_avg: Float[Array, "codes code_width"]
    initted: Float[Array, " 1"]  # 1 = the codes have been started from data


class Quantized(NamedTuple):
    """Vectors replaced by their codes."""

    codes: Int[Array, "*rows"]  # index of the nearest code, the lowest where several are as near
    vectors: Float[Array, "*rows code_width"]  # the codes themselves, with the gradient going straight to the input
    loss: Float[Array, ""]  # commitment, beta * mean squared distance of the normalised input from its code


def normalise(x: Float[Array, "*rows code_width"]) -> Float[Array, "*rows code_width"]:
    """x / max(|x|, 1e-12) over the last axis; the gradient at 0 is finite."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), SMALLEST_NORM**2))


def nearest(vectors: Float[Array, "*rows code_width"], embedding: Float[Array, "codes code_width"]) -> Int[Array, "*rows"]:
    """Index of the nearest row of `embedding` for each vector; neither is normalised here."""
    products = jnp.einsum("...q,kq->...k", vectors, embedding, precision=PRECISION)
    lengths = jnp.sum(embedding * embedding, axis=1).reshape((1,) * (vectors.ndim - 1) + (-1,))
    distances = jnp.sum(vectors * vectors, axis=-1, keepdims=True) + lengths - 2.0 * products
    return jnp.argmin(distances, axis=-1).astype(jnp.int32)


def quantize(
    projected: Float[Array, "*rows code_width"],
    embedding: Float[Array, "codes code_width"],
    token_mask: Bool[Array, "*rows"] | None = None,
    *,
    beta: float = 1.0,
) -> Quantized:
    """Nearest codes of projected features.

    Args:
      projected: of any length: normalised here.
      embedding: gets no gradient.
      token_mask: True = real; the loss is the mean over real ones. None = all, as published.
      beta: weight of the commitment loss.
    """
    vectors, fixed = normalise(projected), jax.lax.stop_gradient(embedding)
    codes = nearest(jax.lax.stop_gradient(vectors), fixed)
    chosen = fixed[codes]
    distances = jnp.mean((chosen - vectors) ** 2, axis=-1)
    real = jnp.ones(codes.shape, bool) if token_mask is None else token_mask
    loss = beta * jnp.sum(jnp.where(real, distances, 0.0)) / jnp.maximum(jnp.sum(real), 1)
    return Quantized(codes, vectors + jax.lax.stop_gradient(chosen - vectors), loss)


def update_usage(
    usage: Float[Array, " codes"], codes: Int[Array, "*rows"], token_mask: Bool[Array, "*rows"] | None = None
) -> Float[Array, " codes"]:
    """The usage after a batch with these codes; masked ones (False) are not counted."""
    return DECAY * usage + (1.0 - DECAY) * jnp.sum(_assignments(codes, token_mask, usage.shape[0]), axis=0)


def update_codebook(
    codebook: Codebook,
    projected: Float[Array, "*rows code_width"],
    codes: Int[Array, "*rows"],
    token_mask: Bool[Array, "*rows"] | None = None,
) -> Codebook:
    """The codebook after a training batch: `move_codes` by `sum_by_code`."""
    return move_codes(codebook, *sum_by_code(projected, codes, codebook.usage.shape[0], token_mask))


def sum_by_code(
    projected: Float[Array, "*rows code_width"],
    codes: Int[Array, "*rows"],
    size: int,
    token_mask: Bool[Array, "*rows"] | None = None,
) -> tuple[Float[Array, "{size} code_width"], Float[Array, " {size}"]]:
    """Sum of the normalised vectors of each code, and how many there are; these add up over parts of a batch.

    Under jit with a sharded batch the sums run over all devices.

    Args:
      projected: as `quantize` got them. codes: as it gave them; -1 = none. size: K.
      token_mask: True = real, the only ones that count; None = all.
    """
    vectors = jax.lax.stop_gradient(normalise(projected)).reshape(-1, projected.shape[-1])
    rows = _assignments(codes, token_mask, size)
    flat = token_mask.reshape(-1, 1) if token_mask is not None else jnp.ones((1, 1), bool)
    return jnp.einsum("nk,nq->kq", rows, jnp.where(flat, vectors, 0.0), precision=PRECISION), jnp.sum(rows, axis=0)


def move_codes(codebook: Codebook, sums: Float[Array, "codes code_width"], counts: Float[Array, " codes"]) -> Codebook:
    """Every code moved towards the normalised mean of its vectors, and normalised; arguments from `sum_by_code`, whole batch."""
    means = jnp.where(counts[:, None] > 0, normalise(sums), codebook.embedding)
    usage = DECAY * codebook.usage + (1.0 - DECAY) * counts
    return codebook._replace(embedding=normalise(DECAY * codebook.embedding + (1.0 - DECAY) * means), usage=usage)


def restart_codes(codebook: Codebook, dead: Bool[Array, " codes"], vectors: Float[Array, "codes code_width"]) -> Codebook:
    """`dead` codes start again as these vectors with the mean usage, so that they have time to find theirs.

    Nothing of this is in the published code. A vector of zeros leaves its code unchanged.
    """
    chosen = dead & (jnp.sum(vectors * vectors, axis=1) > 0)
    embedding = jnp.where(chosen[:, None], normalise(vectors), codebook.embedding)
    return codebook._replace(embedding=embedding, usage=jnp.where(chosen, jnp.mean(codebook.usage), codebook.usage))


def spherical_kmeans(
    samples: Float[Array, "samples code_width"], means: Float[Array, "codes code_width"], iterations: int = ITERATIONS
) -> tuple[Float[Array, "codes code_width"], Float[Array, " codes"]]:
    """K-means of unit vectors by largest dot product, from `means` on.

    Returns:
      means, unit vectors (one without samples does not move), and how many samples the last assignment gave each.
    """

    def step(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        products = jnp.einsum("nq,kq->nk", samples, state[0], precision=PRECISION)
        return _means(_assignments(jnp.argmax(products, axis=1), None, means.shape[0]), samples, state[0])

    return jax.lax.fori_loop(0, iterations, step, (means, jnp.zeros(means.shape[0])))


def start_codebook(codebook: Codebook, key: Key[Array, ""], projected: Float[Array, "samples code_width"]) -> Codebook:
    """The codebook started by k-means on projected features of real tokens.

    The start is K of them at random, without repetition where there are enough: give several batches rather than fewer vectors
    than codes, because repeated starts are codes that nothing is ever assigned to.
    """
    samples = normalise(projected)
    size = codebook.usage.shape[0]
    chosen = jax.random.choice(key, samples.shape[0], (size,), replace=samples.shape[0] < size)
    means, counts = spherical_kmeans(samples, samples[chosen])
    return codebook._replace(embedding=means, cluster_size=counts, initted=jnp.ones(1))


def _assignments(codes: jax.Array, token_mask: jax.Array | None, size: int) -> jax.Array:
    """One row a vector: 1 at its code; all 0 where it is masked. float32 [N, K]; sums of it are exact and in any order."""
    rows = jax.nn.one_hot(codes.reshape(-1), size, dtype=jnp.float32)
    return rows if token_mask is None else jnp.where(token_mask.reshape(-1, 1), rows, 0.0)


def _means(assigned: jax.Array, vectors: jax.Array, old: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Normalised mean of the vectors of each code, `old` where it has none, and how many it has."""
    counts = jnp.sum(assigned, axis=0)
    sums = jnp.einsum("nk,nq->kq", assigned, vectors, precision=PRECISION)
    return jnp.where(counts[:, None] > 0, normalise(sums), old), counts
