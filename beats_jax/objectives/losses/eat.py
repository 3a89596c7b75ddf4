"""Targets and losses of EAT (EAT models/EAT_pretraining.py, base.py). Pure functions; V masks ("clones") of each clip."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from beats_jax.models.layers import standardise

EPSILON = 1e-5  # of both norms


def teacher_targets(branches: Sequence[Float[Array, "B L D"]], real: Bool[Array, "B L"]) -> Float[Array, "B L D"]:
    """Mean over layers of instance-normalised MLP outputs, normalised again over the width.

    Args:
      branches: of each averaged layer the MLP's output before residual and norm, without special tokens.
      real: every clip and channel is normalised over its real patches (as published: over all).
    """
    mask = real[:, :, None]
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)

    def over_patches(x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        centred = x - jnp.sum(jnp.where(mask, x, 0.0), axis=1, keepdims=True) / count
        variance = jnp.sum(jnp.where(mask, centred * centred, 0.0), axis=1, keepdims=True) / count
        return centred * jax.lax.rsqrt(variance + EPSILON)

    total = sum((over_patches(x) for x in branches), jnp.zeros(()))
    return standardise(total / len(branches), jnp.float32, EPSILON)


def frame_losses(
    estimates: Float[Array, "B V L D"], targets: Float[Array, "B L D"], hidden: Bool[Array, "B V L"]
) -> Float[Array, "B V"]:
    """Of each mask the mean over its hidden (masked and real) patches of ||estimate - target||² / sqrt(D)."""
    squares = jnp.sum(jnp.square(estimates - targets[:, None]), axis=-1) * targets.shape[-1] ** -0.5
    return jnp.sum(jnp.where(hidden, squares, 0.0), axis=-1) / jnp.maximum(jnp.sum(hidden, axis=-1), 1)


def utterance_losses(
    class_tokens: Float[Array, "B V D"], targets: Float[Array, "B L D"], real: Bool[Array, "B L"]
) -> Float[Array, "B V"]:
    """||CLS - mean target||² / sqrt(D) of each mask, CLS being the student's.

    The published sum over the clips and masks of one device is this, averaged over them, times their number: 12 x 16 = 192.
    """
    mask = real[:, :, None]
    mean = jnp.sum(jnp.where(mask, targets, 0.0), axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)
    return jnp.sum(jnp.square(class_tokens - mean[:, None]), axis=-1) * targets.shape[-1] ** -0.5


def spread(x: Float[Array, "*B D"], valid: Bool[Array, "*B"]) -> Float[Array, ""]:
    """Mean over channels of the standard deviation over valid tokens: near 0 when all tokens became the same.

    As the published `target_var` and `pred_var`.
    """
    tokens, mask = x.reshape(-1, x.shape[-1]), valid.reshape(-1, 1)
    count = jnp.sum(mask)
    mean = jnp.sum(jnp.where(mask, tokens, 0.0), axis=0) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(mask, jnp.square(tokens - mean[None]), 0.0), axis=0) / jnp.maximum(count - 1, 1)
    return jnp.mean(jnp.sqrt(squares + 1e-6))


def teacher_decay(step: jax.Array, start: float, end: float, anneal_steps: int) -> Float[Array, ""]:
    """The teacher's EMA decay at update `step` = 1, 2, ..: linear from start to end, then constant."""
    left = 1 - jnp.minimum(step, anneal_steps).astype(jnp.float32) / max(anneal_steps, 1)
    return end - (end - start) * left
