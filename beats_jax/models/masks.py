"""From a mask of samples or frames to a mask of tokens: the published rule, and the correct one."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool


def reduce_padding_mask(padding_mask: Bool[Array, "batch entries"], length: int) -> Bool[Array, "batch {length}"]:
    """The published reduction: bool [B, N] → [B, length], True = padding.

    The last N mod length entries are dropped, the rest is cut into `length` equal runs, and a run is padding if all of it is.
    Source: unilm/beats/BEATs.py `forward_padding_mask`.
    """
    batch, entries = padding_mask.shape
    run = entries // length
    return jnp.all(padding_mask[:, : run * length].reshape(batch, length, run), axis=-1)


def reference_token_mask(
    padding_mask: Bool[Array, "batch samples"], num_frames: int, num_tokens: int
) -> Bool[Array, "batch {num_tokens}"]:
    """The published path samples → frames → tokens, True = padding at every level; bool [B, S] → [B, T].

    Kept for parity. Its frames are S // F samples long instead of the hop, and the frequency tokens of one time patch take
    consecutive runs of its frames, so that a half padded patch loses only its high frequencies. Batches of our own use
    `token_mask_from_frames`.
    """
    return reduce_padding_mask(reduce_padding_mask(padding_mask, num_frames), num_tokens)


def token_mask_from_frames(
    frame_mask: Bool[Array, "batch frames"], patch_size: int, num_mel_bins: int
) -> Bool[Array, "batch tokens"]:
    """Which tokens are real: bool [B, F] (True = real frame) → bool [B, T], T = F // patch_size * (num_mel_bins // patch_size).

    A time patch is real if all of its frames are, exactly those that the clip would have if it were encoded alone; the first
    patch is also real where the clip has any real frame. All frequency tokens of a time patch share its value.
    """
    batch, frames = frame_mask.shape
    steps, rows = frames // patch_size, num_mel_bins // patch_size
    real = jnp.all(frame_mask[:, : steps * patch_size].reshape(batch, steps, patch_size), axis=-1)
    real = real.at[:, 0].set(jnp.any(frame_mask, axis=1))
    return jnp.repeat(real, rows, axis=1)
