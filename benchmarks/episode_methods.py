"""Episodes a second: drawing them, answering them by each method, and matching's read-out, beside easyfsl's loop in torch.

    python benchmarks/episode_methods.py [--torch PYTHON_WITH_TORCH_AND_EASYFSL]

20 ways, 5 shots, 5 queries a class, vectors of 512 numbers (ResNet-18) of 60 classes with 30 recordings each. Times are of the
CPU (all threads of the process together, so that others on the machine do not count), the least of some repeats, without
compilation. easyfsl answers one episode after the other, as its own evaluation does.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.datasets.episodes import EpisodeRule, EpisodeSampler
from beats_jax.evaluation.episodes.methods import METHODS, answers
from beats_jax.models.fewshot.matching import FullContextEmbeddings

WAYS, SHOTS, QUERIES, WIDTH = 20, 5, 5, 512
CLASSES, RECORDINGS = 60, 30
EPISODES, MATCHED = 200, 8
TORCH = f"""
import time, torch
from easyfsl.methods import MatchingNetworks, PrototypicalNetworks
torch.manual_seed(0)
torch.set_num_threads(1)
support, query = torch.randn({WAYS * SHOTS}, {WIDTH}), torch.randn({WAYS * QUERIES}, {WIDTH})
labels = torch.arange({WAYS}).repeat_interleave({SHOTS})
for name, kind, count in (("prototypical", PrototypicalNetworks, {EPISODES}), ("matching", MatchingNetworks, {MATCHED})):
    extra = {{"feature_dimension": {WIDTH}}} if name == "matching" else {{}}
    model, best = kind(backbone=torch.nn.Identity(), **extra).eval(), 1e9
    with torch.no_grad():
        for _ in range(4):
            start = time.process_time()
            for _ in range(count):
                model.process_support_set(support, labels)
                model(query)
            best = min(best, time.process_time() - start)
    print(f"easyfsl {{name:14}} {{count / best:8.1f}} episodes a CPU second")
"""


def best(call: Callable[[], Any], repeats: int = 4) -> float:
    """CPU seconds of the cheapest call after a first one."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Prints a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="python of an environment with torch and easyfsl")
    arguments = parser.parse_args()
    labels = np.repeat(np.arange(CLASSES), RECORDINGS)
    values = np.random.default_rng(0).normal(size=(len(labels), WIDTH)).astype(np.float32)
    names = [str(label) for label in range(CLASSES)]
    rule = EpisodeRule(WAYS, SHOTS, QUERIES)
    for what, groups in (("every row a recording", None), ("two rows a recording", np.arange(len(labels)) // 2)):
        sampler = EpisodeSampler(labels, names, rule, groups)
        seconds = best(lambda sampler=sampler: sampler.batch(0, EPISODES))
        print(f"drawing, {what:22} {EPISODES / seconds:8.1f} episodes a CPU second", flush=True)
    episodes = sampler.batch(0, EPISODES)
    for name, method in METHODS.items():
        few = EPISODES if name != "logistic" else MATCHED
        some = sampler.batch(0, few)
        seconds = best(lambda method=method, some=some: answers(method, values, some))
        print(f"{name:31} {few / seconds:8.1f} episodes a CPU second", flush=True)
    network = FullContextEmbeddings(WIDTH)
    support, query = jnp.asarray(values[episodes.support[:MATCHED]]), jnp.asarray(values[episodes.query[:MATCHED]])
    query = query.reshape(MATCHED, -1, WIDTH)
    params = network.init(jax.random.key(0), support[0], query[0])
    many = jax.jit(jax.vmap(lambda own, other: network.apply(params, own, other)))
    seconds = best(lambda: many(support, query).block_until_ready())
    print(f"{'matching, read-out of 100 steps':31} {MATCHED / seconds:8.1f} episodes a CPU second", flush=True)
    if arguments.torch:
        subprocess.run([arguments.torch, "-c", TORCH], check=True)


if __name__ == "__main__":
    main()
