"""Episodes a second, 20-way 5-shot with 5 queries: ours against the loop of easyfsl in torch, with the same network and images.

    python benchmarks/few_shot_training.py [--torch PYTHON_OF_ITS_ENVIRONMENT] [--rounds 3]

`train`: forward, backward and Adam on a small convolutional network (32, 48, 96, 128 channels), images of 64 x 96 in memory; one
optimizer step an episode on both sides, and ours also with 4 episodes a step. `answer`: prototypical scores of episodes of
512-dimensional vectors that are computed already. Both sides draw their episodes within the time. The sides take turns; the best
round of each counts. The other environment needs torch, torchvision and easyfsl; easyfsl 1.5.0 passes an argument to torch's
`Sampler` that newer torch has dropped, which is mended here by taking it.
On a machine that others use, too, the rates per second of CPU time say more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

WAYS, SHOTS, QUERIES = 20, 5, 5
CLASSES, ROWS, HEIGHT, WIDTH, VECTOR = 64, 20, 64, 96, 512
CHANNELS = (32, 48, 96, 128)
UNITS = ("a second", "a second of CPU time")
LABELS = np.repeat(np.arange(CLASSES), ROWS)


def rate(step: Callable[[], object], episodes: int, seconds: float) -> list[float]:
    """Episodes a second, and a second of CPU time, of `step`, which runs `episodes`; the first one is not counted."""
    step()
    begun, worked, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        step()
        done += episodes
    return [done / (time.perf_counter() - begun), done / (time.process_time() - worked)]


def ours(seconds: float) -> dict[str, list[float]]:
    """Our rates."""
    import jax
    import jax.numpy as jnp
    import optax

    from beats_jax.config import AugmentConfig, CNNConfig, EpisodicConfig
    from beats_jax.datasets.episode_batches import flat_rows
    from beats_jax.datasets.episodes import EpisodeRule, EpisodeSampler
    from beats_jax.evaluation.episodes.methods import METHODS, answers
    from beats_jax.models import registry
    from beats_jax.models.fewshot.heads import FewShotHead
    from beats_jax.objectives.episodic import Episodic
    from beats_jax.objectives.inputs import Frontend

    images = np.random.default_rng(0).normal(size=(len(LABELS), WIDTH * HEIGHT)).astype(np.float32)
    sampler = EpisodeSampler(LABELS, [str(i) for i in range(CLASSES)], EpisodeRule(WAYS, SHOTS, QUERIES))

    def image(waveforms: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        return waveforms.reshape(-1, WIDTH, HEIGHT), jnp.ones((len(waveforms), WIDTH), bool)

    def training(episodes: int) -> Callable[[], object]:
        config = CNNConfig(widths=CHANNELS)
        family = registry.family(config)
        frontend = Frontend(image, lambda mask: family.token_mask(mask, HEIGHT), AugmentConfig(), 16_000)
        objective = Episodic(
            model=registry.build(config),
            model_config=config,
            head=FewShotHead("prototypical"),
            frontend=frontend,
            optimizer=optax.adam(1e-3),
            config=EpisodicConfig(n_way=WAYS, n_shot=SHOTS, n_query=QUERIES, episodes_per_step=episodes),
        )
        clips = episodes * WAYS * (SHOTS + QUERIES)
        fixed = {"lengths": np.ones(clips, np.int32), "example_mask": np.ones(clips, bool), "positions": np.arange(clips)}
        place = {"first": 0}

        def batch() -> dict[str, np.ndarray]:
            rows = flat_rows(sampler.batch(place["first"], place["first"] + episodes)).reshape(-1)
            place["first"] += episodes
            return {**fixed, "rows": rows, "waveforms": images[rows]}

        state, update = jax.jit(objective.init)(jax.random.key(0), batch()), jax.jit(objective.update, donate_argnums=0)
        kept = {"state": state}

        def step() -> None:
            kept["state"], metrics = update(kept["state"], batch())
            float(metrics["loss"][0])  # as the other side, which reads its loss

        return step

    vectors = jnp.asarray(np.random.default_rng(1).normal(size=(len(LABELS), VECTOR)).astype(np.float32))
    drawn = {"first": 0}

    def answer() -> None:
        answers(METHODS["prototypical"], vectors, sampler.batch(drawn["first"], drawn["first"] + 100))
        drawn["first"] += 100

    return {
        "train": rate(training(1), 1, seconds),
        "train, 4 a step": rate(training(4), 4, seconds),
        "answer": rate(answer, 100, seconds / 2),
    }


def theirs(seconds: float) -> dict[str, list[float]]:
    """Those of easyfsl's loop."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Sampler

    Sampler.__init__ = lambda self, data_source=None: None  # see above
    from easyfsl.datasets import FewShotDataset
    from easyfsl.methods import PrototypicalNetworks
    from easyfsl.samplers import TaskSampler

    class Images(FewShotDataset):
        def __init__(self, values: torch.Tensor) -> None:
            self.values = values

        def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
            return self.values[item], int(LABELS[item])

        def __len__(self) -> int:
            return len(LABELS)

        def get_labels(self) -> list[int]:
            return LABELS.tolist()

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts: list[nn.Module] = [nn.Conv2d(1, CHANNELS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(CHANNELS[0]), nn.ReLU()]
            for before, after in pairwise(CHANNELS):
                parts += [nn.MaxPool2d(2), nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            self.parts = nn.Sequential(*parts)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.parts(images).mean((2, 3))

    def episodes_of(values: torch.Tensor):
        data = Images(values)
        sampler = TaskSampler(data, WAYS, SHOTS, QUERIES, 10**9)
        return iter(DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn))

    model, entropy = PrototypicalNetworks(Network()), nn.CrossEntropyLoss()
    optimizer, stream = torch.optim.Adam(model.parameters(), 1e-3), episodes_of(torch.randn(len(LABELS), 1, HEIGHT, WIDTH))

    def step() -> None:
        support, support_labels, query, query_labels, _ = next(stream)
        optimizer.zero_grad()
        model.process_support_set(support, support_labels)
        loss = entropy(model(query), query_labels)
        loss.backward()
        optimizer.step()
        loss.item()

    frozen, vectors = PrototypicalNetworks(nn.Identity()).eval(), episodes_of(torch.randn(len(LABELS), VECTOR))

    def answer() -> None:
        support, support_labels, query, _, _ = next(vectors)
        with torch.no_grad():
            frozen.process_support_set(support, support_labels)
            frozen(query).argmax(1)

    return {"train": rate(step, 1, seconds), "answer": rate(answer, 1, seconds / 2)}


def main() -> None:
    """Runs the sides in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="Python of an environment with torch, torchvision and easyfsl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps((ours if arguments.side == "ours" else theirs)(arguments.seconds)))
        return
    from rounds import hand_over  # the other environment runs this file, too

    pythons = {"ours": sys.executable, **({"theirs": arguments.torch} if arguments.torch else {})}
    best: dict[str, dict[str, list[float]]] = {side: {} for side in pythons}
    for _ in range(arguments.rounds):
        for side, python in pythons.items():
            command = [python, __file__, "--side", side, "--seconds", str(arguments.seconds)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for name, value in json.loads(printed.splitlines()[-1]).items():
                best[side][name] = [max(pair) for pair in zip(value, best[side].get(name, [0.0, 0.0]), strict=True)]
    for name, values in best["ours"].items():
        for value, other, unit in zip(values, best.get("theirs", {}).get(name.partition(",")[0], [0.0, 0.0]), UNITS, strict=True):
            if other:
                hand_over(f"{name}, {unit}", "easyfsl", [value / other])
            against = f"   easyfsl {other:8.2f}   {value / other:5.1f} times" if other else ""
            print(f"{name:<16} ours {value:8.2f} episodes {unit}{against}")


if __name__ == "__main__":
    main()
