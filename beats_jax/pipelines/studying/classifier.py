"""Trains a small network on pictures in memory for a fixed number of steps.

Not `training.loop`: a study trains hundreds of networks for seconds each, and what it resumes at is a whole fit. Checkpoints,
writers and the grain loader of the loop would take longer than the fits. Seeds train one after the other: mapped over seeds
(`jax.vmap`) a convolution has other weights for each and becomes a grouped one, which XLA runs on CPUs at a third of the speed
(measured on two cores, batch 64, five seeds: 96 ms a step and seed against 28).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beats_jax.audio.augment import mask_fbank
from beats_jax.config import AugmentConfig
from beats_jax.objectives.losses.classification import softmax_losses
from beats_jax.pipelines.studying.networks import network

PREDICTED_AT_ONCE = 256
PEAK_RATE, WEIGHT_DECAY, CLIP = 3e-3, 0.05, 2.0
MASKS = AugmentConfig(time_masks=1, time_mask_fraction=0.15, frequency_masks=1, frequency_mask_fraction=0.15)
MOST_BANDS_SHIFTED = 2


class Weights(NamedTuple):
    """Parameters and batch statistics ({} without) of a network."""

    params: Any
    statistics: Any


@dataclass(frozen=True)
class Pool:
    """What a network is trained on.

    Attributes:
      images: float32 [P, F, M]. labels: int64 [P]. class_weights: float32 [C], of the loss.
      augmented: whether pictures are shifted and masked anew in each step.
    """

    images: np.ndarray
    labels: np.ndarray
    class_weights: np.ndarray
    augmented: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; a compiled step belongs to each."""

    kind: str
    classes: int
    steps: int
    batch_size: int
    augmented: bool = False


def fit(
    pool: Pool,
    recipe: Recipe,
    seed: int,
    *,
    every: int = 0,
    look: Callable[[int, Weights, float], None] | None = None,
    stop: int | None = None,
) -> Weights:
    """Trains from random weights; the same arguments give the same weights on the same device.

    Args:
      every, look: every so many steps `look(step, weights, mean loss since)` is called; 0 = never.
      stop: end after so many steps, to time them; None = `recipe.steps`.
    Raises:
      FloatingPointError: the loss is not finite.
    """
    start, step = _compiled(recipe, pool.images.shape[1:])
    key, rng = jax.random.key(seed), np.random.default_rng([seed, 1])
    state, losses = start(key), []
    class_weights = jnp.asarray(pool.class_weights)
    for number in range(recipe.steps if stop is None else stop):
        chosen = rng.integers(0, len(pool.images), recipe.batch_size)
        labels = pool.labels[chosen].astype(np.int32)
        state, loss = step(state, pool.images[chosen], labels, class_weights, key, number)
        losses.append(loss)
        if every and look is not None and (number + 1) % every == 0:
            look(number + 1, state[0], float(np.mean(jax.device_get(losses[-every:]))))
    final = np.array(jax.device_get(losses))
    if not np.isfinite(final).all():
        raise FloatingPointError(f"the loss was not finite at step {int(np.flatnonzero(~np.isfinite(final))[0]) + 1}")
    return state[0]


def predict(weights: Weights, kind: str, classes: int, images: np.ndarray) -> np.ndarray:
    """Probabilities float32 [N, C] of pictures."""
    run, found = _predictor(kind, classes), np.zeros((len(images), classes), np.float32)
    block = np.zeros((PREDICTED_AT_ONCE, *images.shape[1:]), np.float32)
    for begin in range(0, len(images), PREDICTED_AT_ONCE):
        part = images[begin : begin + PREDICTED_AT_ONCE]
        block[: len(part)] = part
        found[begin : begin + len(part)] = np.asarray(run(weights, block))[: len(part)]
    return found


@lru_cache(maxsize=16)
def _compiled(recipe: Recipe, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    module = network(recipe.kind, recipe.classes)
    schedule = optax.cosine_onecycle_schedule(max(2, recipe.steps), PEAK_RATE, pct_start=0.25)
    decayed = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(schedule, weight_decay=WEIGHT_DECAY, mask=decayed))

    @jax.jit
    def start(key: jax.Array) -> Any:
        variables = module.init({"params": key}, jnp.zeros((recipe.batch_size, *shape)), None, deterministic=True)
        return Weights(variables["params"], variables.get("batch_stats", {})), optimizer.init(variables["params"])

    def step(
        state: Any, images: jax.Array, labels: jax.Array, class_weights: jax.Array, key: jax.Array, number: jax.Array
    ) -> Any:
        (params, statistics), memory = state
        key = jax.random.fold_in(key, number)
        if recipe.augmented:
            images = jax.vmap(_shift)(jax.random.split(jax.random.fold_in(key, 1), len(images)), images)
            real = jnp.ones(images.shape[:2], bool)
            images = mask_fbank(jax.random.split(jax.random.fold_in(key, 2), len(images)), images, real, MASKS)
        targets = jax.nn.one_hot(labels, recipe.classes)

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, **({"batch_stats": statistics} if statistics else {})}
            rngs = {"dropout": jax.random.fold_in(key, 3)}
            output, changed = module.apply(variables, images, None, deterministic=False, rngs=rngs, mutable=["batch_stats"])
            losses = softmax_losses(output.logits, targets, class_weights=class_weights, label_smoothing=0.05)
            return jnp.sum(losses) / jnp.sum(targets @ class_weights), changed.get("batch_stats", {})

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, memory = optimizer.update(gradients, memory, params)
        return (Weights(optax.apply_updates(params, updates), statistics), memory), loss

    return start, jax.jit(step, donate_argnums=0)


def _shift(key: jax.Array, image: jax.Array) -> jax.Array:
    """Rolled around the clip by any number of frames, and by some bands, edges repeated: neither turns a call around."""
    time_key, band_key = jax.random.split(key)
    image = jnp.roll(image, jax.random.randint(time_key, (), 0, image.shape[0]), axis=0)
    places = jnp.arange(image.shape[1]) + jax.random.randint(band_key, (), -MOST_BANDS_SHIFTED, MOST_BANDS_SHIFTED + 1)
    return image[:, jnp.clip(places, 0, image.shape[1] - 1)]


@lru_cache(maxsize=8)
def _predictor(kind: str, classes: int) -> Callable[..., Any]:
    module = network(kind, classes)

    def run(weights: Weights, images: jax.Array) -> jax.Array:
        variables = {"params": weights.params, **({"batch_stats": weights.statistics} if weights.statistics else {})}
        output: Any = module.apply(variables, images, None, deterministic=True)
        return jax.nn.softmax(output.logits, axis=-1)

    return jax.jit(run)
