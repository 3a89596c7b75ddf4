"""Two views of a recording: two augmentations of one window, or two random crops of it, each augmented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from beats_jax.objectives.inputs import Frontend, row_keys

Batch = Mapping[str, jax.Array]
CROP_STREAM = 2**32 - 5
FIRST, SECOND = 2**32 - 6, 2**32 - 7


def two_views(key: jax.Array, batch: Batch, frontend: Frontend, crop_samples: int) -> tuple[jax.Array, jax.Array]:
    """fbank float32 [B, 2, F, M] and token_mask bool [B, 2, T]; every row by its own keys.

    Args:
      key: the step's.
      batch: waveforms [B, S], lengths [B], positions [B], example_mask [B].
      crop_samples: length of a crop; 0 = both views are of the whole window.
    """
    views = [one_view(jax.random.fold_in(key, stream), batch, frontend, crop_samples) for stream in (FIRST, SECOND)]
    fbank, token_mask = (jnp.stack(parts, axis=1) for parts in zip(*views, strict=True))
    return fbank, token_mask


def one_view(key: jax.Array, batch: Batch, frontend: Frontend, crop_samples: int) -> tuple[jax.Array, jax.Array]:
    """fbank float32 [B, F, M] and token_mask bool [B, T] of one augmentation, or of one augmented crop."""
    if crop_samples:
        batch = crop(jax.random.fold_in(key, CROP_STREAM), batch, crop_samples)
    return frontend.without_labels(key, batch)


def crop(key: jax.Array, batch: Batch, samples: int) -> dict[str, Any]:
    """The batch with a random stretch of `samples` of the real sound of every row; a shorter row is kept from its start."""
    keys = row_keys(key, batch["positions"])

    def one(key: jax.Array, waveform: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = jax.random.randint(key, (), 0, jnp.maximum(length - samples, 0) + 1)
        return jax.lax.dynamic_slice(waveform, (start,), (samples,)), jnp.minimum(length - start, samples)

    waveforms, lengths = jax.vmap(one)(keys, batch["waveforms"], batch["lengths"])
    return {**batch, "waveforms": waveforms, "lengths": lengths}
