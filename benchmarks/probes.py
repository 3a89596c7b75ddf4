"""The sweep of logistic probes against a loop of scikit-learn's LogisticRegression on the same objective.

    python benchmarks/probes.py                           the whole grid here, a sample of it there, scaled
    python benchmarks/probes.py --layers 2 --sampled 16   less of both

Embeddings are generated: C classes of D correlated dimensions, made so that classes overlap and later layers tell more. The grid
is layers x poolings x strengths x folds. scikit-learn fits a random sample of the grid, equally many places of each strength,
standardised in each fold as ours: once with its defaults but 1000 iterations, once converged (tol 1e-6, float64). Its time is the
mean of the sample times the size of the grid, which leaves its loop, scaling and bookkeeping out. Accuracies are compared on the
same fits. Both sides have the same cores; ours keeps LAPACK to one thread, as the verb does, and scikit-learn its threads.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from typing import NamedTuple

import numpy as np
from rounds import hand_over

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def embeddings(places: int, clips: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [J, N, D] and labels int [N]."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(clips) % classes
    sizes = (1 + np.arange(width)) ** -0.7
    result = np.empty((places, clips, width), np.float32)
    for place in range(places):
        turn = np.linalg.qr(draw.standard_normal((width, width)))[0]
        noise = 6 - 3 * place / max(1, places - 1)
        means = draw.standard_normal((classes, width))
        result[place] = ((means[labels] + noise * draw.standard_normal((clips, width))) * sizes) @ turn + 1
    return result, labels


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Fit(NamedTuple):
    """One place of the grid under scikit-learn; times and accuracy with its defaults, then converged."""

    place: int
    strength: int
    fold: int
    seconds: tuple[float, float]
    cpu: tuple[float, float]
    accuracy: tuple[float, float]


def sampled(values: np.ndarray, labels: np.ndarray, folds: np.ndarray, count: int) -> list[Fit]:
    """scikit-learn on `count` random places of the grid."""
    from sklearn.preprocessing import StandardScaler

    draw, found = np.random.default_rng(1), []
    for strength in np.repeat(np.arange(len(STRENGTHS)), -(-count // len(STRENGTHS))).tolist():
        place, fold = int(draw.integers(len(values))), int(draw.integers(folds.max() + 1))
        training = folds != fold
        scale = StandardScaler().fit(values[place][training])
        train, test = np.asarray(scale.transform(values[place][training])), np.asarray(scale.transform(values[place][~training]))
        both = [fitted(train, labels[training], test, labels[~training], STRENGTHS[strength], tight) for tight in (False, True)]
        found.append(Fit(place, strength, fold, *zip(*both, strict=True)))
    return found


def fitted(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, strength: float, tight: bool
) -> tuple[float, float, float]:
    """Seconds, CPU seconds and accuracy of one fit."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, tol=1e-6 if tight else 1e-4, max_iter=10_000 if tight else 1000)
    train = train.astype(np.float64 if tight else np.float32)
    start, cpu = time.perf_counter(), cpu_seconds()
    model.fit(train, labels)
    return time.perf_counter() - start, cpu_seconds() - cpu, float(model.score(test, truth))


def report(fits: int, ours: np.ndarray, theirs: list[Fit], seconds: float, cpu: float) -> None:
    """Tables of times and accuracies. ours: accuracy of each of `theirs`."""
    print("| side | s | CPU s | ms a fit | x by the clock | x by CPU time |\n|---|---|---|---|---|---|")
    print(f"| beats_jax, compilation in it | {seconds:.0f} | {cpu:.0f} | {seconds / fits * 1e3:.0f} | 1 | 1 |")
    for place, name in enumerate(("defaults", "converged")):
        mean, mean_cpu = (np.mean([getattr(fit, kind)[place] for fit in theirs]) for kind in ("seconds", "cpu"))
        scaled = f"{mean * fits:.0f} | {mean_cpu * fits:.0f} | {mean * 1e3:.0f}"
        ratios = f"{mean * fits / seconds:.1f} | {mean_cpu * fits / cpu:.1f}"
        hand_over("sweep", f"scikit-learn, {name}", [mean_cpu * fits / cpu])
        print(f"| scikit-learn, {name}, {len(theirs)} fits scaled | {scaled} | {ratios} |")
    print("\n| C | ours | scikit-learn, defaults | converged | largest difference to converged, points |\n|---|---|---|---|---|")
    for strength, c in enumerate(STRENGTHS):
        here = [k for k, fit in enumerate(theirs) if fit.strength == strength]
        defaults, converged = (np.array([theirs[k].accuracy[i] for k in here]) for i in (0, 1))
        worst = 100 * np.abs(ours[here] - converged).max()
        print(f"| {c:g} | {ours[here].mean():.4f} | {defaults.mean():.4f} | {converged.mean():.4f} | {worst:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "layers": 13,
        "poolings": 4,
        "clips": 2000,
        "width": 768,
        "classes": 50,
        "folds": 5,
        "sampled": 24,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2, help="processor cores for both sides")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import jax
    from threadpoolctl import threadpool_limits

    from beats_jax.evaluation.probes.rounds import single_rounds
    from beats_jax.evaluation.probes.sweep import sweep

    places = arguments.layers * arguments.poolings
    values, labels = embeddings(places, arguments.clips, arguments.width, arguments.classes)
    folds = np.arange(arguments.clips) % arguments.folds
    targets = np.eye(arguments.classes, dtype=np.float32)[labels]
    with threadpool_limits(1):
        start, cpu = time.perf_counter(), cpu_seconds()
        scores = sweep(values, targets, single_rounds(folds), "logistic", STRENGTHS, False)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    fits = places * len(STRENGTHS) * arguments.folds
    print(f"{platform.machine()}, {arguments.threads} cores, jax {jax.__version__}, {jax.default_backend()}")
    print(f"{places} embeddings x {len(STRENGTHS)} strengths x {arguments.folds} folds = {fits} fits", end="; ")
    print(f"{arguments.clips} clips, D {arguments.width}, {arguments.classes} classes; {seconds:.0f} s\n", flush=True)
    theirs = sampled(values, labels, folds, arguments.sampled)
    ours = np.array([scores.score[fit.place, fit.strength, fit.fold, 0] for fit in theirs])
    report(fits, ours, theirs, seconds, cpu)


if __name__ == "__main__":
    main()
