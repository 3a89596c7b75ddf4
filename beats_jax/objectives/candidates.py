"""What an anchor of a contrastive objective is compared with, and in which units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from beats_jax.objectives.losses.contrastive import normalise
from beats_jax.objectives.state.memory_bank import MemoryBank

VARIANCE_EPSILON = 1e-5


class Spread(NamedTuple):
    """Mean and one over the standard deviation of every channel, float32 [1, P] each."""

    mean: jax.Array
    scale: jax.Array

    def embeddings(self, projected: jax.Array) -> jax.Array:
        """Rows [N, P] in these units, normalised."""
        return normalise((projected - self.mean) * self.scale)


def standardisation(projected: jax.Array, valid: jax.Array) -> Spread:
    """Those of the valid rows of [N, P].

    What all clips have in common says nothing about any. Left in, it is most of a fresh encoder's embedding, and the shortest way
    down from a bad start is to keep nothing else: the loss then stays at the logarithm of the number of candidates. SimCLR and
    MoCo v3 have a batch normalisation at this place.
    """
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(jnp.where(valid[:, None], projected, 0.0), axis=0, keepdims=True) / count
    squares = jnp.where(valid[:, None], jnp.square(projected - mean), 0.0)
    return Spread(mean, jax.lax.rsqrt(jnp.sum(squares, axis=0, keepdims=True) / count + VARIANCE_EPSILON))


class Candidates(NamedTuple):
    """What anchors [A] are compared with."""

    embeddings: jax.Array  # float32 [N, P], normalised
    positives: jax.Array  # bool [A, N], belongs to the anchor
    allowed: jax.Array  # bool [A, N], exists for the anchor


def among_views(compared: jax.Array, part: Mapping[str, Any]) -> Candidates:
    """The views of a part of a batch for each other, [2B, P], the two of a clip in succession.

    A clip's other view is its positive, and so are the views of other gathered clips where it is one of them; other windows of
    the same recording and clips that could not be read are left out.
    """
    rows, gathered, valid = (jnp.repeat(part[name], 2) for name in ("rows", "gathered", "example_mask"))
    number = jnp.arange(len(rows))
    itself, twin = number[:, None] == number[None], (number // 2)[:, None] == (number // 2)[None]
    positives = ~itself & (twin | (gathered[:, None] & gathered[None]))
    allowed = ~itself & valid[None] & (positives | (rows[:, None] != rows[None]))
    return Candidates(compared, positives, allowed)


def from_bank(bank: MemoryBank, part: Mapping[str, Any]) -> Candidates:
    """All that lies in the bank, but what is of the anchor's own recording."""
    rows = jnp.repeat(part["rows"], 2)
    allowed = bank.filled[None] & (rows[:, None] != bank.rows[None])
    return Candidates(bank.features, jnp.zeros_like(allowed), allowed)


def embedding_spread(embeddings: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean standard deviation of the valid rows of [N, P] times sqrt(P), as (sum, count): 0 = all alike, 1 = even."""
    covariance, any_ = _covariance(embeddings, valid)
    return any_ * jnp.mean(jnp.sqrt(jnp.diagonal(covariance))) * embeddings.shape[-1] ** 0.5, any_


def embedding_rank(embeddings: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """In how many directions the valid rows of [N, P] differ, as (sum, count): trace(C)^2 / trace(C^2) of their covariance.

    1 = all lie on a line, however far apart (channels can be even where they all say the same); at most min(N - 1, P).
    """
    covariance, any_ = _covariance(embeddings, valid)
    squares = jnp.sum(jnp.square(covariance))
    return any_ * jnp.square(jnp.trace(covariance)) / jnp.where(squares > 0, squares, 1.0), any_


def _covariance(embeddings: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the valid rows, float32 [P, P]; and 1, or 0 where there is none."""
    count = jnp.sum(valid)
    mean = jnp.sum(jnp.where(valid[:, None], embeddings, 0.0), axis=0) / jnp.maximum(count, 1)
    centred = jnp.where(valid[:, None], embeddings - mean[None], 0.0)
    products = jnp.einsum("na,nb->ab", centred, centred, precision=jax.lax.Precision.HIGHEST)
    return products / jnp.maximum(count, 1), (count > 0).astype(jnp.float32)
