"""Plain sentences on what the numbers mean; a sentence that does not apply is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from beats_jax.evaluation.metrics.result import ClassResult, Estimate, EvaluationResult, format_estimate
from beats_jax.evaluation.report.figures.curves import History, history_series

NAMED = 3  # best classes, weakest classes and confusions in a sentence
FEW_EXAMPLES = 10  # with fewer, a class's numbers are weak evidence


def findings(
    result: EvaluationResult,
    history: History,
    errors: Sequence[tuple[str, str]],
    folds: Sequence[Mapping[str, float | int | None]],
) -> list[str]:
    """The findings, most important first."""
    if result.n == 0:
        return ["There was no example to evaluate."]
    sentences = [
        _overall(result),
        *_classes(result),
        *_confusion(result),
        *_folds(folds),
        *_training(history),
        *_cautions(result),
    ]
    if errors:
        sentences.append(f"{_count(len(errors), 'file')} could not be used; see the list of bad files.")
    return sentences


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _overall(result: EvaluationResult) -> str:
    """The headline metric beside that of guessing."""
    source = f" from {_count(result.num_groups, 'recording')}" if result.num_groups < result.n else ""
    actual = np.array([found.n for found in result.classes])
    value, interval = format_estimate(result.metrics["mAP" if result.multi_label else "accuracy"])
    span = f" (95 % interval {interval[1:-1].replace(', ', ' to ')})" if interval else ""
    if result.multi_label:
        chance = actual[actual > 0].mean() / result.n if actual.any() else 0.0
        return f"On {_count(result.n, 'example')}{source} mAP is {value}{span}; random scores would give about {chance:.3f}."
    return (
        f"Of {_count(result.n, 'example')}{source}, a share of {value} was classified correctly{span}; "
        f"always naming the most frequent class would give {actual.max() / result.n:.3f}."
    )


def _classes(result: EvaluationResult) -> list[str]:
    """The best and the weakest classes by F1, among those with true examples, and whether their intervals lie apart."""
    known = [(found.f1.value, found) for found in result.classes if found.n and found.f1.value is not None]
    if len(known) < 2:
        return []
    known.sort(key=lambda pair: -pair[0])
    if known[0][0] == known[-1][0]:
        return [f"All classes reach an F1 of {known[0][0]:.3f}."]
    shown = min(NAMED, len(known) // 2)
    best, weakest = (", ".join(map(_class_text, part)) for part in (known[:shown], known[::-1][:shown]))
    return [f"Best recognised by F1: {best}.", f"Weakest: {weakest}.{_apart(known[0][1].f1, known[-1][1].f1)}"]


def _class_text(pair: tuple[float, ClassResult]) -> str:
    value, interval = format_estimate(pair[1].f1, 2)
    return f"{pair[1].name} {value} {interval}".rstrip() + f" (n = {pair[1].n})"


def _apart(best: Estimate, weakest: Estimate) -> str:
    """Whether the intervals of the best and the weakest class lie apart."""
    if best.low is None or weakest.high is None:
        return ""
    if weakest.high < best.low:
        return " The intervals of the best and the weakest lie apart."
    return " The intervals of the best and the weakest overlap: the order of the classes is not certain."


def _confusion(result: EvaluationResult) -> list[str]:
    """The most frequent confusions (single-label), or whether misses or false alarms prevail (multi-label)."""
    if result.multi_label:
        misses, false_alarms = int(result.confusion[:, 1, 0].sum()), int(result.confusion[:, 0, 1].sum())
        counts = f"{_count(false_alarms, 'false alarm')} and {_count(misses, 'missed label')}"
        return [f"At the threshold of {result.threshold:g} there are {counts}."]
    wrong = result.confusion - np.diag(np.diag(result.confusion))
    if not wrong.any():
        return ["No example was misclassified."]
    names, totals = result.class_names, result.confusion.sum(axis=1)
    largest = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:NAMED]]
    pairs = [f"{names[int(a)]} taken for {names[int(b)]}, {wrong[a, b]} of {totals[a]}" for a, b in largest if wrong[a, b]]
    both = [(a, b) for a, b in largest if wrong[a, b] and wrong[b, a]]
    mutual = f" {names[int(both[0][0])]} and {names[int(both[0][1])]} are taken for each other." if both else ""
    share = sum(int(wrong[a, b]) for a, b in largest) / int(wrong.sum())
    return [f"Most frequent confusions: {'; '.join(pairs)} ({share:.0%} of all errors).{mutual}"]


def _folds(folds: Sequence[Mapping[str, float | int | None]]) -> list[str]:
    """Spread over the folds of a cross-validation."""
    values = [fold["accuracy"] for fold in folds if fold.get("accuracy") is not None]
    if len(values) < 2:
        return []
    numbers = np.array(values, float)
    return [
        f"Over {len(numbers)} folds accuracy is {numbers.mean():.3f} on average, standard deviation {numbers.std(ddof=1):.3f}."
    ]


def _training(history: History) -> list[str]:
    """How the losses ended."""
    steps, losses = history_series(history, "val/loss")
    if len(steps) < 2:
        return []
    best = int(losses.argmin())
    if best == len(steps) - 1:
        return [f"Validation loss was lowest at the last evaluation (step {steps[-1]}): longer training may still help."]
    return [
        f"Validation loss was lowest at step {steps[best]} of {steps[-1]} ({losses[best]:.3g}, at the end {losses[-1]:.3g})"
        + ("; the model has begun to overfit." if losses[-1] > 1.1 * losses[best] else ".")
    ]


def _cautions(result: EvaluationResult) -> list[str]:
    """Limits of the numbers."""
    sentences = []
    few = [found.name for found in result.classes if 0 < found.n < FEW_EXAMPLES]
    if few:
        sentences.append(f"{_of_classes(few, result)} fewer than {FEW_EXAMPLES} examples; read their numbers with care.")
    none = [found.name for found in result.classes if found.n == 0]
    if none:
        sentences.append(f"{_of_classes(none, result)} no example here and cannot be judged.")
    accuracy = result.metrics["accuracy"]
    if accuracy.low is not None and accuracy.low == accuracy.high:
        sentences.append(
            "The interval of the accuracy has no width because no resample differed; it understates the uncertainty."
        )
    return sentences


def _of_classes(names: list[str], result: EvaluationResult) -> str:
    """ "crow and owl have", or "12 of 50 classes have" where a list would be long."""
    if len(names) > 4:
        return f"{len(names)} of {len(result.class_names)} classes have"
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} {'has' if len(names) == 1 else 'have'}"
