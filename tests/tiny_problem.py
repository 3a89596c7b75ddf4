"""A learning problem of a few hundred parameters with the faces of the real one: encoder, filterbank, batches, objective.

Kept apart from the real rooms on purpose: what is tested with it is the objective and the loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import AugmentConfig, SupervisedConfig, TrainingConfig
from beats_jax.objectives.inputs import Frontend
from beats_jax.objectives.supervised import Supervised
from beats_jax.training import optimizer

SAMPLES, FRAME, CLASSES, SAMPLE_RATE = 256, 16, 4, 1600


class Output(NamedTuple):
    """The part of an encoder's output that objectives read."""

    logits: jax.Array


class TinyEncoder(nn.Module):
    """Dense layers on every frame, and the mean of the logits over real frames; parameter names as in an encoder."""

    dropout: float = 0.0
    width: int = 16

    @nn.compact
    def __call__(self, fbank: jax.Array, token_mask: jax.Array, *, deterministic: bool = True) -> Output:
        x = nn.Dense(self.width, name="patch_embedding")(fbank)
        x = nn.LayerNorm(name="layer_norm")(x)
        for layer in range(2):
            x = x + nn.Dense(self.width, name=f"layers_{layer}")(jnp.tanh(x))
            x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        logits = nn.Dense(CLASSES, name="predictor")(x)
        mask = token_mask[..., None]
        return Output(jnp.sum(jnp.where(mask, logits, 0), axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1))


def depth_of(path: str) -> int:
    """0 before the layers, 1 and 2 in them, 3 in the head."""
    layer = re.match(r"layers_(\d)", path)
    return int(layer[1]) + 1 if layer else 3 * path.startswith("predictor")


def filterbank(waveforms: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Magnitude spectra of frames: [B, S] -> [B, S // 16, 9]."""
    frames = waveforms.reshape(waveforms.shape[0], -1, FRAME)
    mask = (jnp.arange(frames.shape[1])[None] + 1) * FRAME <= lengths[:, None]
    return jnp.where(mask[..., None], jnp.abs(jnp.fft.rfft(frames)), 0), mask


def make_objective(
    training: TrainingConfig | None = None,
    *,
    config: SupervisedConfig | None = None,
    total_steps: int = 20,
    dropout: float = 0.0,
    multi_label: bool = False,
    **changes: Any,
) -> Supervised:
    """The supervised objective on the tiny encoder; `changes` are further fields of `Supervised`."""
    training = training or TrainingConfig(learning_rate=0.01)
    config = config or SupervisedConfig()
    fields: dict[str, Any] = {
        "model": TinyEncoder(dropout),
        "frontend": Frontend(filterbank, lambda frame_mask: frame_mask, config.augment, SAMPLE_RATE),
        "optimizer": optimizer.build(training, total_steps, depth_of),
        "num_classes": CLASSES,
        "multi_label": multi_label,
        "class_weights": np.ones(CLASSES, np.float32),
        "config": config,
        "ema_decay": training.ema_decay,
        "accumulation_steps": training.accumulation_steps,
    }
    return Supervised(**{**fields, **changes})


AUGMENT = AugmentConfig(gain_db=6.0, mixup_probability=0.5, time_masks=1, time_mask_fraction=0.3)


class TinyBatch(NamedTuple):
    """As `datasets.loader.Batch`."""

    arrays: dict[str, np.ndarray]
    errors: tuple[Any, ...] = ()


def make_arrays(step: int, batch_size: int = 8, *, clips: int | None = None, multi_label: bool = False) -> dict[str, np.ndarray]:
    """Noisy tones, one pitch a class; a pure function of the step. `clips` = number of different clips there are."""
    rows = (step * batch_size + np.arange(batch_size)) % (clips or 10**6)
    waveforms, labels = np.zeros((batch_size, SAMPLES), np.float32), np.zeros(batch_size, np.int32)
    lengths = np.zeros(batch_size, np.int32)
    for i, row in enumerate(rows):
        random = np.random.default_rng(row)
        labels[i] = random.integers(CLASSES)
        lengths[i] = random.integers(SAMPLES // 2, SAMPLES)
        tone = np.sin(2 * np.pi * (labels[i] + 1) / FRAME * np.arange(SAMPLES) + random.uniform(high=6))
        waveforms[i] = (tone + random.normal(size=SAMPLES)) * (np.arange(SAMPLES) < lengths[i])
    return {
        "waveforms": waveforms,
        "lengths": lengths,
        "labels": np.eye(CLASSES, dtype=np.float32)[labels] if multi_label else labels,
        "positions": np.arange(batch_size, dtype=np.int32),
        "rows": rows.astype(np.int32),
        "example_mask": np.ones(batch_size, bool),
    }


def batches(start_step: int, **options: Any) -> Iterator[TinyBatch]:
    """Endless batches from a step on."""
    step = start_step
    while True:
        yield TinyBatch(make_arrays(step, **options))
        step += 1


def assert_same_bits(left: Any, right: Any) -> None:
    """Two states are equal to the last bit, keys included."""
    left, right = (jax.tree.map(_numbers, tree) for tree in (left, right))
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def _numbers(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
