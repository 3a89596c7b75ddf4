"""Self-supervised objectives on real rooms, tiny: one block of 32 units, one-second clips of a few kinds of sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS
from tiny_problem import TinyBatch

from beats_jax.config import (
    AudioConfig,
    BEATsConfig,
    Experiment,
    ObjectiveConfig,
    TokenizerConfig,
    TrainingConfig,
    to_mapping,
)
from beats_jax.objectives.registry import build
from beats_jax.training import optimizer
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

SAMPLES = 10_640  # 65 frames: 4 x 8 patches
MODEL: BEATsConfig = replace(TINY_BEATS, encoder_layers=1)
TOKENIZER = TokenizerConfig(
    **{**to_mapping(MODEL), "family": "beats_tokenizer", "quant_n": 16, "quant_dim": 8, "layer_wise_gradient_decay_ratio": 1.0}
)


def make_objective(
    config: ObjectiveConfig,
    *,
    model: BEATsConfig = MODEL,
    training: TrainingConfig | None = None,
    total_steps: int = 20,
    **changes: Any,
) -> Any:
    """The objective of these settings, as an experiment builds it; `changes` are further settings of the experiment."""
    training = training or TrainingConfig(learning_rate=0.003)
    experiment = Experiment(model=model, objective=config, training=training, **changes)
    return build(experiment, None, optimizer.build(training, total_steps), None)


def make_arrays(step: int, batch_size: int = 8) -> dict[str, np.ndarray]:
    """Clips of four kinds: a hiss, a low and a high tone, and a train of clicks; lengths differ. A pure function of the step."""
    waveforms, lengths = np.zeros((batch_size, SAMPLES), np.float32), np.zeros(batch_size, np.int32)
    time = np.arange(SAMPLES) / 16_000
    for i in range(batch_size):
        random = np.random.default_rng([step, i])
        lengths[i] = random.integers(SAMPLES // 2, SAMPLES + 1)
        kind = (step + i) % 4
        sound = (
            0.3 * random.standard_normal(SAMPLES)
            if kind == 0
            else 0.5 * np.sin(2 * np.pi * (300, 3000)[kind - 1] * time)
            if kind < 3
            else 0.8 * (np.arange(SAMPLES) % 2000 < 40)
        )
        waveforms[i] = (sound + 0.01 * random.standard_normal(SAMPLES)) * (np.arange(SAMPLES) < lengths[i])
    return {
        "waveforms": waveforms,
        "lengths": lengths,
        "positions": np.arange(batch_size, dtype=np.int32),
        "rows": (step * batch_size + np.arange(batch_size)).astype(np.int32),
        "example_mask": np.ones(batch_size, bool),
    }


def batches(start_step: int) -> Iterator[TinyBatch]:
    """Endless batches from a step on."""
    step = start_step
    while True:
        yield TinyBatch(make_arrays(step))
        step += 1


def arrays_from(start_step: int) -> Iterator[dict[str, np.ndarray]]:
    """Their arrays alone."""
    return (batch.arrays for batch in batches(start_step))


def begun(objective: Any, loaded: Any = None, seed: int = 0) -> Any:
    """The state of a new run."""
    state = jax.jit(objective.init)(jax.random.key(seed), make_arrays(0))
    return objective.begin(state, loaded, lambda: arrays_from(0))


def learnt(objective: Any, state: Any, steps: int) -> tuple[Any, list[dict[str, float]]]:
    """The state after so many steps, and the averages of every step's metrics."""
    update, history = jax.jit(objective.update), []
    for step in range(steps):
        state, metrics = update(state, make_arrays(step))
        history.append({name: float(total) / float(count) for name, (total, count) in metrics.items() if float(count)})
    return state, history


def save_teacher(path: Path, model: BEATsConfig = MODEL, audio: AudioConfig | None = None, labels: tuple[str, ...] = ()) -> str:
    """Random weights of PyTorch's size, norms at their start: tokens of different sound differ in the last layer."""
    draw, flat = np.random.default_rng(1), {}
    for name, shape in param_shapes(model).items():
        norm, scale = "norm" in name, shape[0] ** -0.5 if name.endswith("kernel") else 0.1
        start = np.full(shape, float(name.endswith("scale")))
        flat[name] = np.asarray(start if norm else scale * draw.standard_normal(shape), np.float32)
    save_bundle(path, Bundle(unflatten_dict(flat, sep="/"), model, audio or AudioConfig(), labels, False, "test"))
    return str(path)
