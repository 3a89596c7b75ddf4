"""Which tokens are real (padding masks, bool [B, S] or [B, F] → [B, T]) and which of them an encoder sees in masked pre-training.

The number of slots V for visible tokens is fixed by the length of the batch, so that a step has one program; a clip with padding
fills fewer of them, and a mask hides the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from beats_jax.models import TokenMask, Tokens


def reduce_padding_mask(padding_mask: Bool[Array, "batch entries"], length: int) -> Bool[Array, "batch {length}"]:
    """The published reduction of a mask, True = padding.

    The last N mod length entries are dropped, the rest is cut into `length` equal runs, and a run is padding if all of it is.
    Source: unilm/beats/BEATs.py `forward_padding_mask`.
    """
    batch, entries = padding_mask.shape
    run = entries // length
    return jnp.all(padding_mask[:, : run * length].reshape(batch, length, run), axis=-1)


def reference_token_mask(
    padding_mask: Bool[Array, "batch samples"], num_frames: int, num_tokens: int
) -> Bool[Array, "batch {num_tokens}"]:
    """The published path samples → frames → tokens, True = padding at every level.

    Kept for parity. Its frames are S // F samples long instead of the hop, and the frequency tokens of one time patch take
    consecutive runs of its frames, so that a half padded patch loses only its high frequencies. Batches of our own use
    `token_mask_from_frames`.
    """
    return reduce_padding_mask(reduce_padding_mask(padding_mask, num_frames), num_tokens)


def token_mask_from_frames(frame_mask: Bool[Array, "batch frames"], patch_size: int, num_mel_bins: int) -> TokenMask:
    """Real frames to real tokens (True), T = F // patch_size * (num_mel_bins // patch_size).

    A time patch is real if all of its frames are, exactly those that the clip would have if it were encoded alone; the first
    patch is also real where the clip has any real frame. All frequency tokens of a time patch share its value.
    """
    batch, frames = frame_mask.shape
    steps, rows = frames // patch_size, num_mel_bins // patch_size
    real = jnp.all(frame_mask[:, : steps * patch_size].reshape(batch, steps, patch_size), axis=-1)
    real = real.at[:, 0].set(jnp.any(frame_mask, axis=1))
    return jnp.repeat(real, rows, axis=1)


class Places(NamedTuple):
    """Where V tokens of each clip lie in its sequence of T."""

    positions: Int[Array, "batch visible"]  # place of each slot's token; that of an empty slot has no meaning
    slots: Int[Array, "batch tokens"]  # slot of each token; V where it has none

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.slots.shape[1]

    def gather(self, x: Tokens) -> Float[Array, "batch visible width"]:
        """The tokens that have a slot; empty slots hold some other token."""
        return jnp.take_along_axis(x, self.positions[:, :, None], axis=1)

    def restore(self, x: Float[Array, "batch visible width"], filler: Float[Array, " width"] | None = None) -> Tokens:
        """Back to the whole clip; tokens without a slot are `filler`, or zeros."""
        batch, _, width = x.shape
        last = jnp.zeros(width, x.dtype) if filler is None else filler.astype(x.dtype)
        padded = jnp.concatenate([x, jnp.broadcast_to(last[None, None, :], (batch, 1, width))], axis=1)
        return jnp.take_along_axis(padded, self.slots[:, :, None], axis=1)


class Selection(NamedTuple):
    """The tokens of a batch in masked pre-training."""

    places: Places
    visible: Bool[Array, "batch visible"]  # slots that hold a visible token; they come first, in the order of the clip
    masked: TokenMask  # real tokens that are to be predicted


def visible_counts(num_tokens: int, mask_ratio: float) -> np.ndarray:
    """int32 [T + 1]: how many of n real tokens stay visible: (1 - ratio) n, rounded half to even (ESPnet), 1 at least."""
    counts = np.rint((1.0 - mask_ratio) * np.arange(num_tokens + 1)).astype(np.int32)
    return np.minimum(np.maximum(counts, 1), np.arange(num_tokens + 1, dtype=np.int32))


def select(keys: Key[Array, " batch"], token_mask: TokenMask, mask_ratio: float) -> Selection:
    """Draws the visible tokens of every clip evenly among its real ones, with a key for each clip.

    Of n real tokens `visible_counts` stay visible and all others are masked; padding is neither. `mask_ratio` is the share that
    is hidden, between 0 and 1.
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
