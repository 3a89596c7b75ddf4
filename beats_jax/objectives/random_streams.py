"""Random keys of a step: every use of randomness has a stream of its own, and every row a key that does not depend on devices."""

from __future__ import annotations

from enum import IntEnum

import jax
from jaxtyping import Array, Int


class Stream(IntEnum):
    """Numbers that are folded into the key of a step, one for each use of randomness that is not of single rows.

    Rows fold in their positions, which are below 2**31. A number must never change: runs would no longer repeat.
    """

    MODEL = 2**32 - 1  # dropout and layer drop
    MIXUP = 2**32 - 2
    MASK = 2**32 - 3  # masked prediction, EAT
    RESTART = 2**32 - 4  # start and restarts of a codebook
    CROP = 2**32 - 5
    FIRST_VIEW = 2**32 - 6
    SECOND_VIEW = 2**32 - 7
    NEGATIVE = 2**32 - 8
    LABELED = 2**32 - 9
    BACKGROUND = 2**32 - 10


def row_keys(key: jax.Array, positions: Int[Array, " B"]) -> jax.Array:
    """One key for every row of a batch, [B], from the step's key and the row's place in the global batch."""
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)


def evaluation_keys(positions: Int[Array, " B"], rows: Int[Array, " B"]) -> jax.Array:
    """Keys [B] that depend on the recording and its window alone, so that an evaluation always masks them alike."""
    return jax.vmap(jax.random.fold_in)(row_keys(jax.random.key(0), positions), rows + 1)  # -1 = padding


def model_rngs(key: jax.Array) -> dict[str, jax.Array]:
    """The keys that `apply` of a model takes."""
    dropout, layerdrop = jax.random.split(key)
    return {"dropout": dropout, "layerdrop": layerdrop}
