"""AdamW, cautious AdamW or Adam; warm-up and cosine or steps; weight decay, layer-wise rates, freezing and clipping.

Everything goes by parameter path ("encoder/layers_0/fc1/kernel"), so one rule serves parameters and optimizer state alike.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives.state.state import path_name

ONE_CYCLE_START = 25  # of the peak: the rate that one cycle begins with
Depth = Callable[[str], int]  # path -> 0 before the blocks, i + 1 in block i, L + 1 in the head


def learning_rate(training: TrainingConfig, total_steps: int, steps_per_epoch: int = 1) -> Callable[[Any], jax.Array]:
    """The learning rate of update t = 0 .. N - 1: linear warm-up over W = round(warmup_fraction * N) updates, then a fall.

        peak * (t + 1) / W                                             t < W: the first update already learns
        end + (peak - end) * (1 + cos(pi * (t - W) / (N - W))) / 2     t >= W, cosine
        max(end, peak * factor ** k)                                   t >= W, step: k = steps passed; the first after
                                                                       `decay_start_epochs`, then every `decay_every_epochs`

        peak * (1/25 + 24/25 * (1 - cos(pi * t / W)) / 2)              t < W, one_cycle; afterwards as cosine

    With whole epochs the steps are those of PyTorch's `MultiStepLR`, advanced after every epoch.

    Raises:
      UserError: no steps, or an end above the peak.
    """
    peak, end = training.learning_rate, training.min_learning_rate
    if total_steps < 1:
        raise UserError(f"the run has {total_steps} steps: raise training.max_epochs or training.max_steps")
    if not 0 <= end <= peak:
        raise UserError(f"training.min_learning_rate {end:g} must lie between 0 and training.learning_rate {peak:g}")
    warmup = round(training.warmup_fraction * total_steps)
    first, apart = (round(epochs * steps_per_epoch) for epochs in (training.decay_start_epochs, training.decay_every_epochs))

    def schedule(step: Any) -> jax.Array:
        t = jnp.asarray(step, jnp.float32)
        rising = peak * (t + 1) / max(warmup, 1)
        if training.schedule == "one_cycle":  # Smith and Topin 2017, as PyTorch's `OneCycleLR`
            start = peak / ONE_CYCLE_START
            rising = start + (peak - start) * (1 - jnp.cos(math.pi * t / max(warmup, 1))) / 2
        if training.schedule == "step":
            passed = jnp.maximum(jnp.floor((t - first) / max(apart, 1)) + 1, 0)
            falling = jnp.maximum(end, peak * training.decay_factor**passed)
        else:
            progress = jnp.clip((t - warmup) / max(total_steps - warmup, 1), 0, 1)
            falling = end + (peak - end) * (1 + jnp.cos(math.pi * progress)) / 2
        return jnp.where(t < warmup, rising, falling)

    return schedule


def build(
    training: TrainingConfig, total_steps: int, depth_of: Depth | None = None, steps_per_epoch: int = 1
) -> optax.GradientTransformation:
    """The optimizer of a run: clip, Adam, weight decay, schedule, layer-wise rates; frozen leaves stay bit-equal.

    Decay is decoupled (`adamw`, on matrices only) or, as in `torch.optim.Adam(weight_decay=...)`, added to the gradient of every
    parameter before the moments (`adam`). Frozen leaves have no Adam moments and do not count in the norm that is clipped.

    Args:
      total_steps, steps_per_epoch: of the schedule.
      depth_of: for `layer_decay`; the deepest learning parameters (the head) have the full rate, those at depth d at
        layer_decay ** (deepest - d) of it, weight decay included.
    Raises:
      UserError: a `freeze` pattern that is no regular expression; on `init`, one that matches no parameter, or all frozen.
    """
    if training.layer_decay != 1 and depth_of is None:
        raise UserError(f"training.layer_decay is {training.layer_decay:g} but this model has no layers to tell apart: use 1")
    patterns = [_compile(pattern) for pattern in training.freeze]
    chain = [optax.clip_by_global_norm(training.clip_norm)] if training.clip_norm > 0 else []
    rule = scale_by_cautious_adam if training.optimizer == "cautious_adamw" else optax.scale_by_adam
    adam = rule(b1=training.beta1, b2=training.beta2, eps=training.epsilon)
    if training.optimizer == "adam":
        chain += [optax.add_decayed_weights(training.weight_decay), adam]
    else:
        chain += [adam, optax.add_decayed_weights(training.weight_decay, mask=decays)]
    chain.append(optax.scale_by_learning_rate(learning_rate(training, total_steps, steps_per_epoch)))
    if training.layer_decay != 1 and depth_of is not None:
        chain.append(_scale_by_depth(training.layer_decay, depth_of))
    learning = optax.chain(*chain)
    if not patterns:
        return learning
    return optax.partition({"learning": learning, "frozen": optax.set_to_zero()}, lambda params: _labels(patterns, params))


def decays(params: Any) -> Any:
    """True where weight decay applies: not on biases, norms, and leaves with at most one axis longer than 1."""

    def rule(path: Any, leaf: Any) -> bool:
        parts = path_name(path).lower().split("/")
        named = parts[-1].endswith(("bias", "scale")) or any("norm" in part for part in parts)
        return sum(size > 1 for size in leaf.shape) > 1 and not named

    return jax.tree_util.tree_map_with_path(rule, params)


class CautiousState(NamedTuple):
    """count int32 []; first and second moments like the parameters."""

    count: jax.Array
    mu: Any
    nu: Any


def scale_by_cautious_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam that moves a parameter only where momentum and gradient agree (Liang et al. 2024, arXiv 2411.16085).

    As in kyleliang919/C-Optim: epsilon is added to the root of the *uncorrected* second moment; the mask is scaled per tensor by
    its size over one more than what it keeps. Decay after the step equals theirs before it: the step does not depend on it.
    """
    # Ours, because optax (0.2.8) has no cautious optimizer and its Adam adds epsilon to the corrected second moment.

    def init(params: Any) -> CautiousState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return CautiousState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradients: Any, state: CautiousState, params: Any = None) -> tuple[Any, CautiousState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradients)
        t = count.astype(jnp.float32)
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)

        def step(m: jax.Array, v: jax.Array, g: jax.Array) -> jax.Array:
            agrees = m * g > 0
            scale = m.size / (jnp.sum(agrees) + 1)
            return jnp.where(agrees, correction * scale * m / (jnp.sqrt(v) + eps), 0.0)

        return jax.tree.map(step, mu, nu, gradients), CautiousState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def _scale_by_depth(layer_decay: float, depth_of: Depth) -> optax.GradientTransformation:
    def scale(updates: Any, params: Any = None) -> Any:
        del params
        depths = jax.tree_util.tree_map_with_path(lambda path, _: depth_of(path_name(path)), updates)
        deepest = max(jax.tree.leaves(depths))
        return jax.tree.map(lambda update, depth: update * layer_decay ** (deepest - depth), updates, depths)

    return optax.stateless(scale)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"training.freeze pattern {pattern!r} is no regular expression: {error}") from error


def _labels(patterns: list[re.Pattern[str]], params: Any) -> Any:
    """ "frozen" or "learning" for every leaf; a pattern must match whole paths."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for pattern in patterns:
        if not any(pattern.fullmatch(name) for name in names):
            near = difflib.get_close_matches(pattern.pattern, names, n=3, cutoff=0.0)
            raise UserError(f"training.freeze pattern {pattern.pattern!r} matches no parameter; nearest: {', '.join(near)}")
    if all(any(pattern.fullmatch(name) for pattern in patterns) for name in names):
        raise UserError(f"training.freeze {[p.pattern for p in patterns]} freezes every parameter: nothing is left to train")

    def label(path: Any, _: Any) -> str:
        return "frozen" if any(pattern.fullmatch(path_name(path)) for pattern in patterns) else "learning"

    return jax.tree_util.tree_map_with_path(label, params)
