"""Cost of one step of masked prediction at BEATs-base, against a full supervised step on the same clips.

    python benchmarks/pretrain_step.py --clips 2 --rounds 3            some minutes on two cores
    python benchmarks/pretrain_step.py --clips 64 --precision bfloat16  on an accelerator

A step is the objective's whole `update`: filterbank, tokenizer, model, gradients, and plain SGD instead of AdamW, whose cost is
the same for all. Dropout is off. The rows take turns; x is the speed relative to the supervised step (goal for masked
prediction: 2 and more), as in benchmarks/train_step.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rounds import hand_over, here, print_rows, take_turns

SUPERVISED = "supervised, all tokens"


class Names(NamedTuple):
    """Fifty classes."""

    names: tuple[str, ...] = tuple(map(str, range(50)))


def batch_of(clips: int, seconds: float) -> dict[str, np.ndarray]:
    """Noise."""
    samples = round(16_000 * seconds)
    return {
        "waveforms": (0.1 * np.random.default_rng(0).standard_normal((clips, samples))).astype(np.float32),
        "lengths": np.full(clips, samples, np.int32),
        "labels": np.arange(clips, dtype=np.int32) % 50,
        "positions": np.arange(clips, dtype=np.int32),
        "rows": np.arange(clips, dtype=np.int32),
        "example_mask": np.ones(clips, bool),
    }


def step_of(objective_config: Any, batch: dict[str, np.ndarray], precision: str, parts: int) -> Callable[[], None]:
    """One update after another; the state is consumed."""
    import jax
    import optax

    from beats_jax.config import Experiment, TrainingConfig
    from beats_jax.objectives.registry import build

    training = TrainingConfig(precision=precision, accumulation_steps=parts)
    experiment = Experiment(objective=objective_config, training=training)
    objective = build(experiment, Names(), optax.sgd(1e-6), None)
    arrays = jax.device_put(batch)
    held = [jax.jit(objective.init)(jax.random.key(0), arrays)]
    update = jax.jit(objective.update, donate_argnums=0)

    def step() -> None:
        held[0], metrics = update(held[0], arrays)
        jax.block_until_ready((held[0], metrics))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--parts", type=int, default=1, help="parts in which the batch goes through the model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    import jax

    from beats_jax.config import MaskedPredictionConfig, SupervisedConfig

    batch = batch_of(arguments.clips, arguments.seconds)
    configs = {
        SUPERVISED: SupervisedConfig(),
        "masked prediction": MaskedPredictionConfig(),
        "masked prediction, compact positions": MaskedPredictionConfig(positions="compact"),
    }
    steps = {name: here(step_of(config, batch, arguments.precision, arguments.parts)) for name, config in configs.items()}
    results = take_turns(steps, arguments.rounds)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {arguments.precision}\n")
    print("| case | step | ms | x | CPU s |\n|---|---|---|---|---|")
    print_rows(f"{arguments.clips} x {arguments.seconds:g} s", results, SUPERVISED)
    full = np.median(results[SUPERVISED][:, 0])
    for name, values in results.items():
        hand_over("time of a step / supervised", name, values[:, 0] / results[SUPERVISED][:, 0])
        rate = arguments.clips / np.median(values[:, 0])
        print(f"{name}: {np.median(values[:, 0]) / full:.2f} of the supervised step, {rate:.1f} clips/s")


if __name__ == "__main__":
    main()
