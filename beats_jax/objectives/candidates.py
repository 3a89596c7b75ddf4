"""What an anchor of a contrastive objective is compared with: the other views of its batch and a bank of past embeddings.

The bank (Wu et al. 2018) is a ring of K places, first in, first out. Its embeddings are normalised and without gradient; each
place knows its recording, so that no clip is pushed away from its own past. It is part of the run's state and its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from beats_jax.errors import UserError
from beats_jax.objectives.losses.contrastive import normalise

VARIANCE_EPSILON = 1e-5
NOBODY = -1  # `rows` of an empty place


class Standardisation(NamedTuple):
    """Mean and one over the standard deviation of every channel."""

    mean: Float[Array, "1 P"] | Float[Array, ""]
    scale: Float[Array, "1 P"] | Float[Array, ""]

    def embeddings(self, projected: Float[Array, "N P"]) -> Float[Array, "N P"]:
        """Standardised and normalised rows."""
        return normalise((projected - self.mean) * self.scale)


def standardisation(projected: Float[Array, "N P"], valid: Bool[Array, " N"]) -> Standardisation:
    """That of the valid rows, as SimCLR and MoCo v3 have a batch normalisation at this place."""
    # The part that all clips share is most of a fresh encoder's embedding and distinguishes nothing. Left in, training may keep
    # only that part: the loss then stays at the logarithm of the number of candidates.
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(jnp.where(valid[:, None], projected, 0.0), axis=0, keepdims=True) / count
    squares = jnp.where(valid[:, None], jnp.square(projected - mean), 0.0)
    return Standardisation(mean, jax.lax.rsqrt(jnp.sum(squares, axis=0, keepdims=True) / count + VARIANCE_EPSILON))


class Candidates(NamedTuple):
    """What A anchors are compared with."""

    embeddings: Float[Array, "N P"]  # normalised
    positives: Bool[Array, "A N"]  # belongs to the anchor
    allowed: Bool[Array, "A N"]  # exists for the anchor


def among_views(compared: Float[Array, "A P"], part: Mapping[str, Any]) -> Candidates:
    """The A = 2B views of a part of a batch for each other, the two of a clip in succession.

    A clip's other view is its positive; so are all views of the other gathered clips, where the clip is gathered itself. Other
    windows of the same recording and clips that could not be read are left out.
    """
    rows, gathered, valid = (jnp.repeat(part[name], 2) for name in ("rows", "gathered", "example_mask"))
    number = jnp.arange(len(rows))
    itself, twin = number[:, None] == number[None], (number // 2)[:, None] == (number // 2)[None]
    positives = ~itself & (twin | (gathered[:, None] & gathered[None]))
    allowed = ~itself & valid[None] & (positives | (rows[:, None] != rows[None]))
    return Candidates(compared, positives, allowed)


@no_type_check  # as `State`, of which it is a part
class MemoryBank(flax.struct.PyTreeNode):
    """Past embeddings, the recording of each, and the next place to fill."""

    features: Any  # float32 [K, P]; Any, because shapes or shardings stand here when a state is only described
    rows: Any  # int32 [K]
    pointer: Any  # int32 []

    @property
    def filled(self) -> Bool[Array, " K"]:
        """Places that hold something."""
        return self.rows != NOBODY

    def candidates(self, part: Mapping[str, Any]) -> Candidates:
        """All embeddings of the bank but those of the anchor's own recording."""
        rows = jnp.repeat(part["rows"], 2)
        allowed = self.filled[None] & (rows[:, None] != self.rows[None])
        return Candidates(self.features, jnp.zeros_like(allowed), allowed)


def empty_bank(size: int, width: int) -> MemoryBank:
    """A bank of `size` empty places for embeddings of `width`."""
    return MemoryBank(jnp.zeros((size, width)), jnp.full(size, NOBODY, jnp.int32), jnp.zeros((), jnp.int32))


def require_room(size: int, batch_size: int) -> None:
    """Raises `UserError` when one batch is larger than the bank."""
    if 0 < size < batch_size:
        raise UserError(
            f"data.batch_size {batch_size} is larger than objective.bank_size {size}: a batch would overwrite itself; "
            "use a bank of several batches (or 0 for none), or a smaller batch"
        )


def push(bank: MemoryBank, features: Float[Array, "B P"], rows: Int[Array, " B"], valid: Bool[Array, " B"]) -> MemoryBank:
    """The bank after the valid rows of a batch (B <= K) went in, normalised and in order; the oldest go out."""
    size = len(bank.rows)
    place = (bank.pointer + jnp.cumsum(valid) - 1) % size
    place = jnp.where(valid, place, size)  # past the end: dropped
    return MemoryBank(
        bank.features.at[place].set(jax.lax.stop_gradient(normalise(features)), mode="drop"),
        bank.rows.at[place].set(rows, mode="drop"),
        (bank.pointer + jnp.sum(valid, dtype=jnp.int32)) % size,
    )
