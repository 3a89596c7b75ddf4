"""Bootstrap intervals of ten metrics: ours against a loop of scikit-learn over resampled rows, and against our metrics in blocks.

    python benchmarks/bootstrap.py                       10,000 resamples of 10,000 examples x 50 classes, a minute on two cores
    python benchmarks/bootstrap.py --examples 400        other sizes; --multi-label for marks instead of one class

The loop draws rows with numpy and calls scikit-learn for each metric. It is measured on --loop-resamples and
scaled to all (its cost is the same for each); so is `Evaluator.metrics` on 100 columns of weights at a time. Sides take turns.
Before timing, the loop's metrics are compared with ours on the same rows. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import platform
import resource
import warnings

import numpy as np
from rounds import here, print_rows, take_turns
from sklearn import metrics as oracle

from beats_jax.evaluation.metrics.classification import Evaluator
from beats_jax.evaluation.metrics.intervals import bootstrap


def make_predictions(num_examples: int, num_classes: int, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities) of a middling classifier."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(num_examples, num_classes))
    if multi_label:
        marks = (rng.random((num_examples, num_classes)) < 0.05).astype(int)
        return marks, 1 / (1 + np.exp(2 - logits - 2 * marks))
    labels = rng.integers(0, num_classes, num_examples)
    logits[np.arange(num_examples), labels] += 2
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(axis=1, keepdims=True)


def by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray, multi_label: bool) -> dict[str, float]:
    """The metrics of one set of rows, as a user would ask scikit-learn for them."""
    predicted = probabilities >= 0.5 if multi_label else probabilities.argmax(axis=1)
    truth = labels if multi_label else labels[:, None] == np.arange(probabilities.shape[1])
    found = {"accuracy": oracle.accuracy_score(labels, predicted)}
    if not multi_label:
        found["balanced_accuracy"] = oracle.balanced_accuracy_score(labels, predicted)
    for average in ("macro", "micro"):
        values = oracle.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        found |= {f"{name}_{average}": value for name, value in zip(("precision", "recall", "f1"), values, strict=False)}
    found["mAP"] = oracle.average_precision_score(truth, probabilities, average="macro")
    found["auroc"] = oracle.roc_auc_score(truth, probabilities, average="macro")
    return found


def scaled(resamples: int, of: int, method):
    """A method whose time is that of `of` resamples, for all of them."""

    def run(warm: int) -> tuple[float, float]:
        seconds, cpu = method(0)
        return seconds * resamples / of, cpu * resamples / of

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--loop-resamples", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--multi-label", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    labels, probabilities = make_predictions(options.examples, options.classes, options.multi_label)
    evaluator = Evaluator(labels, probabilities, multi_label=options.multi_label)
    groups = np.arange(options.examples)
    rng = np.random.default_rng(1)

    def loop() -> list[dict[str, float]]:
        draws = (rng.integers(0, options.examples, options.examples) for _ in range(options.loop_resamples))
        return [by_scikit_learn(labels[rows], probabilities[rows], options.multi_label) for rows in draws]

    mine = evaluator.metrics().overall
    for name, value in by_scikit_learn(labels, probabilities, options.multi_label).items():
        assert abs(mine[name] - value) < 1e-9, name
    weights = np.stack([np.bincount(rng.integers(0, len(groups), len(groups)), minlength=len(groups)) for _ in range(100)], 1)
    weights = weights.astype(np.float32)
    methods = {
        "scikit-learn, loop (scaled)": scaled(options.resamples, options.loop_resamples, here(loop)),
        "Evaluator.metrics in blocks (scaled)": scaled(options.resamples, 100, here(lambda: evaluator.metrics(weights))),
        "bootstrap, from predictions to intervals": here(
            lambda: bootstrap(
                Evaluator(labels, probabilities, multi_label=options.multi_label), groups, resamples=options.resamples, seed=0
            )
        ),
    }
    kind = "multi-label" if options.multi_label else "single-label"
    print(f"{platform.machine()}, numpy {np.__version__}; rows: case, method, ms: median (best), x (best), CPU s")
    case = f"{options.resamples} resamples, {options.examples} x {options.classes} {kind}"
    print_rows(case, take_turns(methods, options.rounds), "scikit-learn")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
