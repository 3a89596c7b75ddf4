"""Which tokens of a clip an encoder sees in masked pre-training, and the way between the few it sees and the whole clip.

The number of slots V for visible tokens is fixed by the length of the batch, so that a step has one program; a clip with padding
fills fewer of them, and the rest is hidden by a mask.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Places(NamedTuple):
    """Where V tokens of each clip lie in its sequence of T."""

    positions: jax.Array  # int32 [B, V]: place of each slot's token; that of an empty slot has no meaning
    slots: jax.Array  # int32 [B, T]: slot of each token; V where it has none

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.slots.shape[1]

    def gather(self, x: jax.Array) -> jax.Array:
        """The tokens that have a slot: [B, T, N] → [B, V, N]; empty slots hold some other token."""
        return jnp.take_along_axis(x, self.positions[:, :, None], axis=1)

    def restore(self, x: jax.Array, filler: jax.Array | None = None) -> jax.Array:
        """Back to the whole clip: [B, V, N] → [B, T, N]; tokens without a slot are `filler` [N], or zeros."""
        batch, _, width = x.shape
        last = jnp.zeros(width, x.dtype) if filler is None else filler.astype(x.dtype)
        padded = jnp.concatenate([x, jnp.broadcast_to(last[None, None, :], (batch, 1, width))], axis=1)
        return jnp.take_along_axis(padded, self.slots[:, :, None], axis=1)


class Selection(NamedTuple):
    """The tokens of a batch in masked pre-training."""

    places: Places
    visible: jax.Array  # bool [B, V]: slots that hold a visible token; they come first, in the order of the clip
    masked: jax.Array  # bool [B, T]: real tokens that are to be predicted


def visible_counts(num_tokens: int, mask_ratio: float) -> np.ndarray:
    """int32 [T + 1]: how many of n real tokens stay visible: (1 - ratio) n, rounded half to even (ESPnet), 1 at least."""
    counts = np.rint((1.0 - mask_ratio) * np.arange(num_tokens + 1)).astype(np.int32)
    return np.minimum(np.maximum(counts, 1), np.arange(num_tokens + 1, dtype=np.int32))


def select(keys: jax.Array, token_mask: jax.Array, mask_ratio: float) -> Selection:
    """Draws the visible tokens of every clip evenly among its real ones.

    Of n real tokens `visible_counts` stay visible and all others are masked; padding is neither.

    Args:
      keys: [B] random keys, one for each clip.
      token_mask: bool [B, T], True = real.
      mask_ratio: share that is hidden, between 0 and 1.
    """
    batch, num_tokens = token_mask.shape
    counts = visible_counts(num_tokens, mask_ratio)
    draws = jax.vmap(lambda key: jax.random.uniform(key, (num_tokens,)))(keys)
    order = jnp.argsort(jnp.where(token_mask, draws, 2.0), axis=1)  # real tokens in random order, then padding
    rank = jnp.argsort(order, axis=1)
    number = jnp.take(jnp.asarray(counts), jnp.sum(token_mask, axis=1))
    chosen = rank < number[:, None]
    slots = int(counts[-1])
    positions = jnp.argsort(~chosen, axis=1, stable=True)[:, :slots].astype(jnp.int32)
    slot_of = jnp.where(chosen, jnp.cumsum(chosen, axis=1) - 1, slots).astype(jnp.int32)
    visible = jnp.broadcast_to(jnp.arange(slots)[None, :], (batch, slots)) < number[:, None]
    return Selection(Places(positions, slot_of), visible, token_mask & ~chosen)
