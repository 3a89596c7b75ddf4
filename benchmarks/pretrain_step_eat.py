"""Cost of one EAT pre-training step on a CPU, against the same number of visible tokens run plainly.

    python benchmarks/pretrain_step_eat.py                   the size of configs/pretrain_eat.py:small, a minute on two cores
    python benchmarks/pretrain_step_eat.py --size base       EAT-base, one clip of 10 s: 16 x 102 visible patches, some minutes

A step is gradients and the teacher's move, from normalised filterbanks in memory, no optimizer: teacher over the whole clip,
student over the visible patches of 16 masks, decoder over the whole grid of each, losses. Plainly: encoder, forwards and
backwards, over as many sequences of as many tokens, given as embeddings. Rounds go A B A B; the ratio is the rounds' median.
The rows in between take parts away, so that what they cost can be read off.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rounds import hand_over, here, print_rows, take_turns

SIZES = {
    "small": ({"embed_dim": 128, "depth": 4, "num_heads": 4}, {"decoder_layers": 3}, 512, 2),
    "base": ({}, {}, 1024, 1),
}


def computations(size: str, precision: str) -> dict[str, Callable[[], Any]]:
    """Name of a method → what it runs."""
    import jax
    import jax.numpy as jnp

    from beats_jax.audio.filterbank import EAT as EAT_FILTERBANK
    from beats_jax.config import AudioConfig, EATConfig, EATObjectiveConfig, Experiment, TrainingConfig
    from beats_jax.objectives.objective import mean_gradients
    from beats_jax.objectives.registry import build
    from beats_jax.objectives.state.state import ema_update
    from beats_jax.training import optimizer

    sizes, decoder, frames, clips = SIZES[size]
    training = TrainingConfig(precision=precision)
    experiment = Experiment(
        model=EATConfig(**sizes),
        objective=EATObjectiveConfig(**decoder),
        training=training,
        audio=AudioConfig(filterbank=replace(EAT_FILTERBANK, target_frames=frames)),
    )
    objective = build(experiment, None, optimizer.build(training, 100), None)
    samples = 16_000
    batch = {
        "waveforms": jnp.zeros((clips, samples)),
        "lengths": jnp.full(clips, samples),
        "positions": jnp.arange(clips),
        "example_mask": jnp.ones(clips, bool),
    }
    state = jax.jit(objective.init)(jax.random.key(0), batch)
    fbank = jax.random.normal(jax.random.key(1), (clips, frames, 128))
    visible = objective._prepare(fbank, None, jax.random.split(jax.random.key(2), clips), batch)["visible"]

    def step(state: Any, fbank: jax.Array) -> Any:
        prepared = objective._prepare(fbank, None, jax.random.split(jax.random.key(2), clips), batch)
        gradients, metrics = mean_gradients(
            lambda params, part, key: objective._loss(state.teacher, False, params, part, key),
            state.params, prepared, jax.random.key(3), 1,
        )  # fmt: skip
        return gradients, metrics, ema_update(state.teacher, state.params["model"], jnp.float32(0.999))

    def student(params: Any, fbank: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            return jnp.sum(objective.student(params, fbank, None, visible, deterministic=True) * cotangent)

        return jax.grad(loss)(params)

    tokens = jax.random.normal(jax.random.key(4), (clips * visible.shape[1], visible.shape[2], objective.model.config.embed_dim))
    cotangent = jax.random.normal(jax.random.key(5), (tokens.shape[0], tokens.shape[1] + 1, tokens.shape[2])) / tokens.size

    def plain(params: Any, tokens: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            features = objective.model.apply({"params": params}, tokens, method="encode_tokens").features
            return jnp.sum(features * cotangent)

        return jax.grad(loss)(params)

    compiled = [jax.jit(function) for function in (plain, student, step)]
    teacher = jax.jit(lambda params, fbank: objective.targets(params, fbank, None))
    return {
        "visible tokens plainly": lambda: jax.block_until_ready(compiled[0](state.params["model"], tokens)),
        "student alone": lambda: jax.block_until_ready(compiled[1](state.params["model"], fbank)),
        "teacher alone": lambda: jax.block_until_ready(teacher(state.teacher, fbank)),
        "EAT step": lambda: jax.block_until_ready(compiled[2](state, fbank)),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    methods = {name: here(compute) for name, compute in computations(arguments.size, arguments.precision).items()}
    results = take_turns(methods, arguments.rounds)
    print("ms: median (best); x: speed relative to the plain run\n")
    print("| case | method | ms | x | CPU s |\n|---|---|---|---|---|")
    print_rows(f"{arguments.size}, {arguments.precision}", results, "visible tokens")
    ratios = results["EAT step"] / results["visible tokens plainly"]
    clock, cpu = np.median(ratios, axis=0)
    hand_over("EAT step / visible tokens plainly", "", ratios[:, 0])
    print(f"\nEAT step / visible tokens plainly: {clock:.2f} by the clock, {cpu:.2f} by CPU time")


if __name__ == "__main__":
    main()
