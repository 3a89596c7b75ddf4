"""A bank of past embeddings: more to be told apart from than one batch holds (Wu et al. 2018).

First in, first out over a ring of K places. What lies in it is normalised and without gradient, and each place knows which
recording it came from, so that no clip is pushed away from its own past. The bank is part of the run's state and its checkpoints.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from beats_jax.errors import UserError
from beats_jax.objectives.losses.contrastive import normalise

NOBODY = -1  # `rows` of an empty place


class MemoryBank(flax.struct.PyTreeNode):
    """Attributes: features float32 [K, D]; rows int32 [K], recording of each place; pointer int32 [], the next place to fill."""

    features: jax.Array
    rows: jax.Array
    pointer: jax.Array

    @property
    def filled(self) -> jax.Array:
        """bool [K], places that hold something."""
        return self.rows != NOBODY


def empty(size: int, width: int) -> MemoryBank:
    """A bank of `size` places for embeddings of `width`; empty places count for nothing."""
    return MemoryBank(jnp.zeros((size, width)), jnp.full(size, NOBODY, jnp.int32), jnp.zeros((), jnp.int32))


def require_room(size: int, batch_size: int) -> None:
    """Raises `UserError` when one batch is larger than the bank."""
    if 0 < size < batch_size:
        raise UserError(
            f"data.batch_size {batch_size} is larger than objective.bank_size {size}: a batch would overwrite itself; "
            "use a bank of several batches (or 0 for none), or a smaller batch"
        )


def push(bank: MemoryBank, features: jax.Array, rows: jax.Array, valid: jax.Array) -> MemoryBank:
    """The bank after the valid rows of a batch went in, in order, the oldest out; it wraps around wherever its end falls.

    Args:
      features: float [B, D], B <= K; normalised here.
      rows: int32 [B], the recording of each.
      valid: bool [B]; the others are left out and take no place.
    """
    size = len(bank.rows)
    place = (bank.pointer + jnp.cumsum(valid) - 1) % size
    place = jnp.where(valid, place, size)  # past the end: dropped
    return MemoryBank(
        bank.features.at[place].set(jax.lax.stop_gradient(normalise(features)), mode="drop"),
        bank.rows.at[place].set(rows, mode="drop"),
        (bank.pointer + jnp.sum(valid, dtype=jnp.int32)) % size,
    )
