"""Clusters of unknown kinds of sounds against their true kinds: methods on one table of vectors, and MEC's iterations.

python benchmarks/discovery.py raw --data shared/data --folder /tmp/discovery [--seeds 5] [--upstream]
python benchmarks/discovery.py mec --data shared/data --folder /tmp/discovery --problem esc10 [--seed 0] [--steps 120]

birds: regions of 10 of 20 species; esc10: clips of 5 of 10 classes; calls: ten kinds in noise and distractors. A seed is a draw
of the kinds, of calls also of the sounds. What needs beats-jax[discover] is left out without it. Lines are JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from discovery_data import DISTRACTOR, Problem, birds, calls, esc10, half, known

from beats_jax.evaluation.embeddings.grouping.agreement import agreement, at_coverage, complete
from beats_jax.evaluation.embeddings.grouping.group import Groups, group
from beats_jax.evaluation.embeddings.grouping.methods import has_method
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings, upstream_v1
from beats_jax.evaluation.embeddings.grouping.spaces import reduce, scale
from beats_jax.evaluation.embeddings.maps import has_umap
from beats_jax.pipelines.discovering.mec import MecSettings, mec, one_pass
from beats_jax.pipelines.discovering.mec_encoder import EncoderSettings, Regions, embedder, learner

OURS: dict[str, Any] = {"scale": "l2", "reduce": "umap", "dimensions": 10}


def problem_of(name: str, data: Path, folder: Path, seed: int, model: str) -> tuple[Problem, np.ndarray]:
    """A problem of a seed and its vectors [N, D] by a model."""
    place = folder / (name if name != "calls" else f"calls{seed}")
    found = known(name, place) or (calls(place, seed) if name == "calls" else {"birds": birds, "esc10": esc10}[name](data, place))
    stored = place / f"{Path(model).name}.npy"
    if not stored.is_file():
        np.save(stored, embedder(Regions.of_files(found.files), EncoderSettings(threads=1, batch_size=8))(model))
    vectors = np.load(stored)
    if name == "calls":
        return found, vectors
    drawn = half(found, seed)
    rows = {path: row for row, path in enumerate(found.files)}
    return drawn, vectors[[rows[path] for path in drawn.files]]


def figures(problem: Problem, groups: Groups) -> dict[str, float | None]:
    """Agreement at the method's own coverage, at 50 % and at 100 %, and among pairs of different recordings."""
    noise = DISTRACTOR if DISTRACTOR in problem.labels else None
    result = agreement(problem.labels, groups.labels, noise=noise)
    labels, membership = complete(groups.points, groups.labels, groups.membership)
    for coverage in (0.5, 1.0):
        some = agreement(problem.labels, at_coverage(labels, membership, coverage))
        result |= {f"{name}@{coverage:g}": some[name] for name in ("ari", "ami", "coverage")}
    apart = problem.recordings[:, None] != problem.recordings
    alike = (problem.labels[:, None] == problem.labels) & apart
    joined = (labels[:, None] == labels) & apart & (labels >= 0)[:, None]
    result["pairs_right"] = float(alike[joined].mean()) if joined.any() else None
    result["pairs_right_by_chance"] = float(alike.sum() / apart.sum())
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()}


def ways(kinds: int) -> dict[str, GroupingSettings]:
    """Methods on the vectors as they are, and ours, as far as installed; K-means is told the number of kinds."""
    plain: dict[str, Any] = {"scale": "none", "reduce": "none"}
    found = {
        "kmeans": GroupingSettings(**plain, method="kmeans", clusters=kinds),
        "hdbscan": GroupingSettings(**plain),
        "plscan": GroupingSettings(**plain, method="plscan"),
        "hdbscan, min-max (V1, iteration 0)": upstream_v1(),
        "l2, PCA 10, kmeans": GroupingSettings(method="kmeans", clusters=kinds),
        "l2, PCA 10, hdbscan": GroupingSettings(),
        "l2, UMAP 10, kmeans": GroupingSettings(**OURS, method="kmeans", clusters=kinds),
        "l2, UMAP 10, plscan": GroupingSettings(**OURS, method="plscan"),
        "l2, UMAP 10, hdbscan": GroupingSettings(**OURS),
    }
    return {name: way for name, way in found.items() if has_method(way.method) and (has_umap() or way.reduce != "umap")}


def raw(arguments: argparse.Namespace) -> None:
    """All methods on one table of vectors of every problem and seed."""
    for name in arguments.problem or ("birds", "esc10", "calls"):
        for seed in range(arguments.seeds):
            problem, vectors = problem_of(name, arguments.data, arguments.folder, seed, arguments.model)
            kinds = len(set(problem.labels.tolist()) - {DISTRACTOR})
            reduced: dict[tuple[str, str, int], np.ndarray] = {}
            for way, settings in ways(kinds).items():
                space = settings.scale, settings.reduce, settings.dimensions
                if space not in reduced:
                    reduced[space] = reduce(scale(vectors, settings.scale), settings)
                found = group(reduced[space], replace(settings, scale="none", reduce="none"))
                emit(name, seed, f"{arguments.model}: {way}", figures(problem, found))
            if arguments.upstream:
                for knee in ("nearest", "kth"):
                    best, _ = one_pass(vectors, seed=seed, knee=knee)
                    emit(name, seed, f"V2, knee {knee}, {best.settings.dimensions}", figures(problem, best.groups))


def iterations(arguments: argparse.Namespace) -> None:
    """MEC from a model without weights, or another."""
    for name in arguments.problem or ("birds", "esc10", "calls"):
        problem, _ = problem_of(name, arguments.data, arguments.folder, arguments.seed, arguments.model)
        regions = Regions.of_files(problem.files)
        encoder = EncoderSettings(
            window_seconds=arguments.window,
            steps=arguments.steps,
            n_way=arguments.ways,
            learning_rate=arguments.rate,
            seed=arguments.seed,
            batch_size=8,
            threads=1,
            model={"family": "cnn", "widths": (16, 32, 48, 64)},
            changed={"data": {"statistics": "given", "num_workers": 1}},
        )
        settings = MecSettings(iterations=arguments.iterations, grouping=GroupingSettings(**OURS))
        begun, used = time.time(), time.process_time()
        place = arguments.folder / f"mec-{name}-{arguments.seed}-{Path(arguments.model).name}"
        _, found = mec(embedder(regions, encoder), learner(regions, encoder), arguments.model, place, settings)
        for one in found:
            emit(name, arguments.seed, f"mec {one.number}", {**one.row(), **figures(problem, one.groups)})
        emit(name, arguments.seed, "seconds", {"wall": time.time() - begun, "processor": time.process_time() - used})


def emit(problem: str, seed: int, way: str, values: Mapping[str, object]) -> None:
    """A line of the result."""
    print(json.dumps({"problem": problem, "seed": seed, "way": way, **values}), flush=True)


def main() -> None:
    """Parses the arguments and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("raw", "mec"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--problem", action="append")
    parser.add_argument("--model", default="filterbank", help="filterbank, modulation, or a model's name or file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--upstream", action="store_true", help="V2 too: five maps by densMAP a seed")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--ways", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--window", type=float, default=1.295)
    parser.add_argument("--iterations", type=int, default=2)
    arguments = parser.parse_args()
    {"raw": raw, "mec": iterations}[arguments.what](arguments)


if __name__ == "__main__":
    main()
