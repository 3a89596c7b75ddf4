"""Speed of a training step of the network of configs/low_frequency.py, against the same network in PyTorch.

    python benchmarks/cnn_step.py --torch-python OTHER_ENV/bin/python [--rounds 5] [--steps 10]

Sides take turns (see `train_step.py`); a measurement is `--steps` steps: loss of a batch of 64 filterbanks of 64 x 64 in memory,
gradients, clipping, AdamW, batch statistics; ours also keeps the average of the weights, which torch's side does not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from rounds import here, print_rows, take_turns, timed
from torch_side import TorchSide

CLIPS, SIDE = 64, 64
WIDTHS = (32, 48, 96, 128)


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """fbank f32 [64, 64, 64] and labels int32 [64]."""
    random = np.random.default_rng(0)
    return random.standard_normal((CLIPS, SIDE, SIDE)).astype(np.float32), random.integers(0, 2, CLIPS).astype(np.int32)


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"steps": N, "warm": M, "channels_last": bool}."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    stem, *widths = WIDTHS
    layers: list[Any] = [nn.Conv2d(1, stem, 5, 2, 2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()]
    for before, width in zip(WIDTHS, widths, strict=False):
        layers += [nn.MaxPool2d(2), nn.Conv2d(before, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(widths[-1], 2))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05, fused=True)
    fbank, labels = inputs()
    images, targets = torch.from_numpy(fbank)[:, None], torch.from_numpy(labels).long()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets, label_smoothing=0.05).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()

    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        form = torch.channels_last if request["channels_last"] else torch.contiguous_format
        network.to(memory_format=form)
        images = images.contiguous(memory_format=form)
        for _ in range(request["warm"] * 3):
            step()
        print(json.dumps(timed(lambda steps=request["steps"]: [step() for _ in range(steps)])), flush=True)


def our_steps(steps: int) -> Callable[[], Any]:
    """`steps` updates of the objective of configs/low_frequency.py, from filterbanks."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    from beats_jax.command_line import read_experiment
    from beats_jax.datasets.manifest import LabelVocabulary
    from beats_jax.models.registry import family
    from beats_jax.objectives import supervised
    from beats_jax.objectives.adaptation import frozen_patterns
    from beats_jax.training import optimizer

    experiment = read_experiment("low_frequency", [])
    frozen = frozen_patterns(experiment.training, family(experiment.model).constants)
    rule = optimizer.build(dataclasses.replace(experiment.training, freeze=frozen), 10_000)
    objective = supervised.build(experiment, LabelVocabulary(("noise", "whale")), rule, None)
    fbank, labels = inputs()

    class FromMemory:
        """The front-end's face, without the front-end: both sides begin at filterbanks."""

        hides_unread = True

        def evaluation(self, batch: Any) -> Any:
            return batch["fbank"], jnp.ones((CLIPS, 16), bool)

        def training(self, key: Any, batch: Any, targets: Any) -> Any:
            del key
            return *self.evaluation(batch), targets

    objective = dataclasses.replace(objective, frontend=FromMemory())  # type: ignore[arg-type]
    batch = {"fbank": jnp.asarray(fbank), "labels": jnp.asarray(labels), "example_mask": jnp.ones(CLIPS, bool)}
    state = [jax.jit(objective.init)(jax.random.key(0), batch)]
    update = jax.jit(objective.update, donate_argnums=0)

    def run() -> None:
        for _ in range(steps):
            state[0], _ = update(state[0], batch)
        jax.block_until_ready(state[0])

    run()
    return run


def main() -> None:
    """Parses the arguments and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve_torch:
        return serve_torch(given.threads)
    side = TorchSide(given.torch_python, __file__, given.threads)

    def ask(channels_last: bool) -> Callable[[int], tuple[float, float]]:
        def measure(warm: int) -> tuple[float, float]:
            answer: Any = side.ask(steps=given.steps, warm=warm, channels_last=channels_last)
            return answer[0], answer[1]

        return measure

    ways = {"torch": ask(False), "torch, channels last": ask(True), "beats_jax": here(our_steps(given.steps))}
    results = take_turns(ways, given.rounds)
    side.close()
    print(f"{side.versions}; {given.threads} threads; {given.steps} steps of {CLIPS} clips")
    print("| case | side | ms, median (best) | times as fast as torch (best) | CPU s |\n|---|---|---|---|---|")
    print_rows("CNN step", results, "torch")
    for name, values in results.items():
        seconds, cpu = np.median(values, axis=0) / given.steps
        print(f"{name}: {CLIPS / seconds:.0f} clips/s by the clock, {CLIPS / cpu:.0f} a CPU second")


if __name__ == "__main__":
    main()
