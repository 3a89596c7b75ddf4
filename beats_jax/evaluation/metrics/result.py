"""The result of one evaluation: metrics with intervals, classes, confusions and the worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.config.schema import EvaluationConfig
from beats_jax.evaluation.metrics.classification import Evaluator, Metrics, confusion_matrix
from beats_jax.evaluation.metrics.intervals import bootstrap, group_numbers


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where undefined (see `classification` and `intervals`)."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassResult:
    """One class. Counts are of examples."""

    name: str
    n: int  # examples that truly hold the class
    predicted: int  # examples that were given it
    precision: Estimate
    recall: Estimate
    f1: Estimate
    ap: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class WorstError:
    """A wrong prediction. `probability`: of the wrongly predicted class, or one minus that of a missed class where that is larger
    (multi-label)."""

    index: int
    wrong_class: str
    probability: float


@dataclass(frozen=True)
class EvaluationResult:
    """All figures of an evaluation."""

    class_names: tuple[str, ...]
    multi_label: bool
    threshold: float
    n: int  # examples
    num_groups: int  # recordings: what the bootstrap draws
    metrics: dict[str, Estimate]
    classes: tuple[ClassResult, ...]
    num_ap_classes: int  # classes with true examples: what mAP averages over
    num_auroc_classes: int  # classes with and without examples: what auroc averages over
    confusion: np.ndarray  # int64: [C, C] (true, predicted), or [C, 2, 2] if multi_label
    worst_errors: tuple[WorstError, ...]  # most confident first, all of them

    def flat(self) -> dict[str, float | int | None]:
        """The contents of `metrics.json`: `accuracy`, `accuracy_low`, `accuracy_high`, ..., `n`; None = undefined."""
        numbers: dict[str, float | int | None] = {
            "n": self.n,
            "groups": self.num_groups,
            "mAP_classes": self.num_ap_classes,
            "auroc_classes": self.num_auroc_classes,
        }
        for name, estimate in self.metrics.items():
            numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return numbers


def evaluate_predictions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    groups: Sequence[object] | np.ndarray | None,
    multi_label: bool,
    config: EvaluationConfig,
    seed: int,
) -> EvaluationResult:
    """Measures predictions; the same arguments give the same bits.

    Args:
      labels: int [N] class numbers, or 0/1 [N, C] if `multi_label`.
      probabilities: float [N, C]; the largest is predicted (of equals the first), or all >= config.threshold if `multi_label`.
      groups: [N] names of the recordings that examples come from, drawn whole by the bootstrap; None = every example for itself.
    Raises:
      ValueError: shapes that do not fit, labels out of range, NaN.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim == 2 and probabilities.shape[1] != len(class_names):
        raise ValueError(f"{len(class_names)} class names for {probabilities.shape[1]} columns of probabilities")
    evaluator = Evaluator(labels, probabilities, multi_label=multi_label, threshold=config.threshold)
    numbers = group_numbers(groups, len(evaluator.truth))
    point = evaluator.metrics()
    interval = bootstrap(evaluator, numbers, resamples=config.bootstrap_resamples, seed=seed)
    metrics, by_class = make_estimates(point, interval)
    counts = zip(evaluator.truth.sum(axis=0).tolist(), evaluator.predicted.sum(axis=0).tolist(), strict=True)
    return EvaluationResult(
        class_names=tuple(class_names),
        multi_label=multi_label,
        threshold=config.threshold,
        n=len(evaluator.truth),
        num_groups=int(numbers.max()) + 1 if numbers.size else 0,
        metrics=metrics,
        classes=tuple(
            ClassResult(name, n, predicted, **values)
            for name, (n, predicted), values in zip(class_names, counts, by_class, strict=True)
        ),
        num_ap_classes=int((~np.isnan(point.classes["ap"])).sum()),
        num_auroc_classes=int((~np.isnan(point.classes["auroc"])).sum()),
        confusion=confusion_matrix(evaluator.truth, evaluator.predicted, multi_label=multi_label),
        worst_errors=_worst_errors(evaluator, probabilities, class_names),
    )


def make_estimate(value: np.ndarray, interval: np.ndarray | None) -> Estimate:
    """The three numbers, NaN turned into None. An undefined value has no interval, even if some resample defined it."""
    if np.isnan(value):
        return Estimate(None)
    if interval is None or np.isnan(interval).any():
        return Estimate(float(value))
    return Estimate(float(value), float(interval[0]), float(interval[1]))


def make_estimates(point: Metrics, interval: Metrics | None) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
    """The metrics over all classes, and those of each class, by name."""

    def at(part: int, name: str, place: tuple[int, ...]) -> Estimate:
        return make_estimate(point[part][name][place], None if interval is None else interval[part][name][place])

    classes = range(len(point.classes["f1"]))
    return {name: at(0, name, ()) for name in point.overall}, [
        {name: at(1, name, (k,)) for name in point.classes} for k in classes
    ]


def _worst_errors(evaluator: Evaluator, probabilities: np.ndarray, class_names: Sequence[str]) -> tuple[WorstError, ...]:
    """Wrong predictions, the most confident first, equals in the order of the table."""
    given = evaluator.predicted & ~evaluator.truth
    confidence = np.where(given, probabilities, -np.inf)
    if evaluator.multi_label:
        missed = evaluator.truth & ~evaluator.predicted
        confidence = np.where(missed, 1 - probabilities, confidence)
    wrong = np.flatnonzero(~(evaluator.truth == evaluator.predicted).all(axis=1))
    worst_class = confidence[wrong].argmax(axis=1) if wrong.size else wrong
    values = confidence[wrong, worst_class]
    order = np.argsort(-values, kind="stable")
    return tuple(WorstError(int(wrong[i]), class_names[int(worst_class[i])], float(values[i])) for i in order)


METRIC_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision_macro": "precision (macro)",
    "recall_macro": "recall (macro)",
    "f1_macro": "F1 (macro)",
    "precision_micro": "precision (micro)",
    "recall_micro": "recall (micro)",
    "f1_micro": "F1 (micro)",
    "mAP": "mAP",
    "auroc": "AUROC",
}


def metric_title(name: str, multi_label: bool) -> str:
    """The name for readers; multi-label accuracy is called exact match."""
    return "exact match" if name == "accuracy" and multi_label else METRIC_TITLES[name]


def shown_metrics(result: EvaluationResult) -> list[tuple[str, Estimate]]:
    """(title, estimate) for readers. Single-label micro averages equal the accuracy and are left out."""
    return [
        (metric_title(name, result.multi_label), estimate)
        for name, estimate in result.metrics.items()
        if result.multi_label or not name.endswith("_micro")
    ]


def format_estimate(estimate: Estimate, digits: int = 3) -> tuple[str, str]:
    """("0.930", "[0.890, 0.960]"); "-" for an undefined value, "" for a missing interval."""
    if estimate.value is None:
        return "-", ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}", ""
    return f"{estimate.value:.{digits}f}", f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def interval_note(result: EvaluationResult) -> str:
    """One sentence on the intervals, or on why there are none."""
    if result.num_groups < 2:
        return f"No intervals: they need at least two recordings, and the data has {result.num_groups}."
    if all(estimate.low is None for estimate in result.metrics.values()):
        return "No intervals: the bootstrap was switched off."
    unit = "recordings" if result.num_groups < result.n else "examples"
    return f"Intervals: 95 %, bootstrap over {result.num_groups} {unit}."


def summary_lines(result: EvaluationResult) -> list[str]:
    """The result for the terminal: one aligned line per metric and a sentence on the intervals."""
    lines = [f"n = {result.n} examples, {len(result.class_names)} classes"]
    shown = shown_metrics(result)
    width = max(len(title) for title, _ in shown)
    over = {"mAP": result.num_ap_classes, "AUROC": result.num_auroc_classes}
    for title, estimate in shown:
        value, interval = format_estimate(estimate)
        note = f"over {over[title]} of {len(result.class_names)} classes" if title in over else ""
        lines.append(f"{title:<{width}}  {value:>5}  {interval:<14}  {note}".rstrip())
    return [*lines, interval_note(result)]
