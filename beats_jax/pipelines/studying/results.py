"""From the outcomes of the fits to figures, comparisons with the real arm, words and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.calibration import calibration_scores, logits_of
from beats_jax.evaluation.metrics.classification import Evaluator
from beats_jax.evaluation.metrics.comparison import holm
from beats_jax.evaluation.metrics.false_alarms import recall_at_rate
from beats_jax.evaluation.metrics.intervals import group_numbers, resampled_metrics
from beats_jax.evaluation.metrics.seeds import SeedDifference, Word, compare_seeds, verdict
from beats_jax.evaluation.metrics.thresholds import choose_thresholds, threshold_results
from beats_jax.pipelines.studying.settings import CONTROLS, GATED, GENERATORS
from beats_jax.pipelines.studying.store import Fit, Outcome, Store

SYNTHETIC = ("scenes", *GENERATORS, *(f"{name}{GATED}" for name in GENERATORS))
LEAST_COMPARED = 3  # seeds: what fewer show is undecided
OTHERS = ("classic", "weighted", *CONTROLS)  # what a synthetic arm must also beat
METRICS = ("auroc", "ap", "f1", "accuracy", "balanced_accuracy", "recall_at_1_fa_per_hour", "brier", "ece")


@dataclass(frozen=True)
class Measured:
    """The rows that fits predict: labels int64, groups int64, seconds float64, of validation and test."""

    val_labels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    seconds: np.ndarray
    wanted: tuple[int, ...]
    classes: int

    @property
    def fewest(self) -> int:
        """Test groups of the rarest class of interest."""
        return min((len(np.unique(self.groups[self.labels == c])) for c in self.wanted), default=0)


@dataclass(frozen=True)
class ArmResult:
    """An arm at a size and a ratio, over its seeds.

    Attributes:
      values: metric → float [S]; `val_auroc` is that of validation. drawn: AUROC float [S, R] in resamples of the test groups.
      by_class: AUROC of each class, float [S, C]; class_drawn: [S, C, R]. kept: share that the gate kept, NaN without.
      failures: reasons of the seeds that failed.
    """

    size: int
    arm: str
    ratio: float
    seeds: tuple[int, ...]
    values: dict[str, np.ndarray]
    drawn: np.ndarray
    by_class: np.ndarray
    class_drawn: np.ndarray
    kept: float
    failures: tuple[str, ...]

    @property
    def title(self) -> str:
        """`vae_gated x4`."""
        return f"{self.arm} x{self.ratio:g}" if self.ratio else self.arm


@dataclass(frozen=True)
class Comparison:
    """An arm, at the ratio that validation chose, against real examples alone at the same size.

    Attributes:
      p: by Holm's rule over the arms of the size. against: the best control by validation, `beyond` the difference to it.
      classes: of each class of interest: (name, examples, difference).
    """

    result: ArmResult
    difference: SeedDifference | None
    p: float
    word: Word
    against: str
    beyond: SeedDifference | None
    classes: tuple[tuple[str, int, SeedDifference | None], ...]


def measure_arms(store: Store, fits: Sequence[Fit], measured: Measured, resamples: int) -> list[ArmResult]:
    """The results of all arms that have an outcome, by size, arm and ratio."""
    keys = sorted({(fit.size or 10**9, fit.arm, fit.ratio) for fit in fits})
    groups = group_numbers(measured.groups, len(measured.labels))
    results = []
    for size, arm, ratio in keys:
        own = [fit for fit in fits if (fit.size or 10**9, fit.arm, fit.ratio) == (size, arm, ratio)]
        outcomes = [(fit.seed, store.read(fit)) for fit in sorted(own, key=lambda fit: fit.seed)]
        results.append(_arm_result(own[0], outcomes, measured, groups, resamples))
    return results


def _arm_result(
    fit: Fit, outcomes: Sequence[tuple[int, Outcome]], measured: Measured, groups: np.ndarray, resamples: int
) -> ArmResult:
    good = [(seed, outcome) for seed, outcome in outcomes if not outcome.failure]
    rows, drawn, class_values, class_drawn = [], [], [], []
    for _, outcome in good:
        assert outcome.test is not None
        assert outcome.val is not None
        rows.append(metrics_of(outcome.val, outcome.test, measured))
        evaluator = Evaluator(measured.labels, outcome.test, multi_label=False)
        found = resampled_metrics(evaluator, groups, resamples=resamples, seed=0)
        class_values.append(evaluator.metrics().classes["auroc"])
        drawn.append(np.full(resamples, np.nan) if found is None else found.overall["auroc"])
        class_drawn.append(np.full((measured.classes, resamples), np.nan) if found is None else found.classes["auroc"])
    names = rows[0] if rows else {}
    kept = [outcome.kept for _, outcome in good if not np.isnan(outcome.kept)]
    return ArmResult(
        fit.size,
        fit.arm,
        fit.ratio,
        tuple(seed for seed, _ in good),
        {name: np.array([row[name] for row in rows]) for name in names},
        np.array(drawn).reshape(-1, resamples),
        np.array(class_values).reshape(-1, measured.classes),
        np.array(class_drawn).reshape(-1, measured.classes, resamples),
        float(np.mean(kept)) if kept else float("nan"),
        tuple(outcome.failure for _, outcome in outcomes if outcome.failure),
    )


def metrics_of(val: np.ndarray, test: np.ndarray, measured: Measured) -> dict[str, float]:
    """`METRICS` on test rows, and `val_auroc`; thresholds by validation. Means over the classes of interest; NaN = undefined."""
    found = Evaluator(measured.labels, test, multi_label=False).metrics()
    chosen = choose_thresholds(measured.val_labels, val, multi_label=False, goal="f1")
    at = threshold_results(measured.labels, test, [one.threshold for one in chosen], multi_label=False)
    wanted = list(measured.wanted)
    rates = [recall_at_rate(measured.labels == c, test[:, c], measured.seconds).recall for c in wanted]
    calibration = calibration_scores(logits_of(test, False), measured.labels, multi_label=False)
    validation = Evaluator(measured.val_labels, val, multi_label=False).metrics()
    return {
        "auroc": float(found.overall["auroc"]),
        "ap": _mean([float(found.classes["ap"][c]) for c in wanted]),
        "f1": _mean([at[c].f1 for c in wanted]),
        "accuracy": float(found.overall["accuracy"]),
        "balanced_accuracy": float(found.overall["balanced_accuracy"]),
        "recall_at_1_fa_per_hour": _mean(rates),
        "brier": calibration.brier if calibration.brier is not None else float("nan"),
        "ece": calibration.ece if calibration.ece is not None else float("nan"),
        "val_auroc": float(validation.overall["auroc"]),
    }


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def compare_arms(
    results: Sequence[ArmResult], names: Sequence[str], counts: Any, wanted: Sequence[int], margin: float, fewest: int
) -> list[Comparison]:
    """Every arm but the real one against it, size by size. counts: size → int [C], real training examples."""
    found = []
    for size in dict.fromkeys(result.size for result in results):
        own = [result for result in results if result.size == size and result.seeds]
        real = next((result for result in own if result.arm == "real"), None)
        if real is None:
            continue
        chosen = [_best_ratio([r for r in own if r.arm == arm]) for arm in dict.fromkeys(r.arm for r in own) if arm != "real"]
        controls = [result for result in chosen if result.arm in OTHERS]
        best = max([*controls, real], key=_validation)
        differences = [between(real, result) for result in chosen]
        corrected = holm([np.nan if one is None else one.p for one in differences])
        for result, difference, p in zip(chosen, differences, corrected.tolist(), strict=True):
            classes = tuple((names[c], int(counts[size][c]), between(real, result, c)) for c in wanted)
            beyond = between(best, result) if result.arm in SYNTHETIC else None
            enough = difference is not None and difference.seeds >= LEAST_COMPARED
            word = verdict(difference, p, margin, fewest) if enough else "open"
            found.append(Comparison(result, difference, p, word, best.title, beyond, classes))
    return found


def _validation(result: ArmResult) -> float:
    return float(np.nan_to_num(np.mean(result.values["val_auroc"]), nan=-1.0))


def _best_ratio(results: Sequence[ArmResult]) -> ArmResult:
    """By validation, among those with most seeds, so that no test row chooses."""
    most = max(len(result.seeds) for result in results)
    return max([result for result in results if len(result.seeds) == most], key=_validation)


def between(first: ArmResult, second: ArmResult, place: int | None = None) -> SeedDifference | None:
    """The difference in AUROC (of one class) over the seeds that both have; None without one."""
    shared = sorted(set(first.seeds) & set(second.seeds))
    if not shared:
        return None
    rows = [[result.seeds.index(seed) for seed in shared] for result in (first, second)]
    if place is None:
        values = [result.values["auroc"][row] for result, row in zip((first, second), rows, strict=True)]
        drawn = [result.drawn[row] for result, row in zip((first, second), rows, strict=True)]
    else:
        values = [result.by_class[row, place] for result, row in zip((first, second), rows, strict=True)]
        drawn = [result.class_drawn[row, place] for result, row in zip((first, second), rows, strict=True)]
    return compare_seeds(values[0], values[1], drawn[0], drawn[1])
