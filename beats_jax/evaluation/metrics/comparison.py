"""Is one set of predictions better than another on the same examples?

Paired: both sides use the same resamples of the same recordings, so the difficulty of an example cancels. The interval is the
percentile interval of the difference; its two-sided p value is twice the smaller share of resamples on either side of zero
(Efron & Tibshirani 1993, chapter 15, with the correction of Davison & Hinkley 1997, section 4.2, by which p is never 0).
McNemar's test (1947), exact by the binomial distribution, counts only examples that one side has right. Holm's step-down rule
(1979) corrects p values of several comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.metrics.classification import Evaluator
from beats_jax.evaluation.metrics.intervals import group_numbers, percentile_interval, resampled_metrics


@dataclass(frozen=True)
class Difference:
    """A metric of both sides. None where a metric is undefined, or where there is nothing to resample."""

    first: float | None
    second: float | None
    difference: float | None  # second - first
    low: float | None  # 95 % interval of the difference
    high: float | None
    p: float | None  # two-sided, of no difference; not corrected for the number of metrics


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of the two got right, and the exact two-sided p of that split."""

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions on the same examples."""

    n: int  # examples
    num_groups: int  # recordings: what the bootstrap draws
    metrics: dict[str, Difference]
    classes: dict[str, tuple[Difference, ...]]  # name of a metric -> one per class
    mcnemar: McNemar | None  # None for multi-label data; it ignores groups: examples count as independent


def compare_predictions(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: Sequence[object] | np.ndarray | None,
    *,
    multi_label: bool,
    threshold: float = 0.5,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compares two sets of predictions of the same examples, in the same order.

    Args:
      labels, groups: as in `result.evaluate_predictions`. first, second: probabilities, float [N, C].
    Raises:
      ValueError: shapes that differ or do not fit, labels out of range, NaN.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise ValueError(
            f"probabilities of shape {first.shape} and {second.shape}; both must be of the same examples and classes"
        )
    one, two = (Evaluator(labels, values, multi_label=multi_label, threshold=threshold) for values in (first, second))
    numbers = group_numbers(groups, len(one.truth))
    before, after = one.metrics(), two.metrics()
    drawn = [resampled_metrics(evaluator, numbers, resamples=resamples, seed=seed) for evaluator in (one, two)]

    def differences(part: int, name: str) -> tuple[Difference, ...]:
        values = np.stack([np.atleast_1d(found[part][name]) for found in (before, after)], axis=-1)
        if drawn[0] is None or drawn[1] is None:
            return tuple(_difference(pair, None) for pair in values)
        changes = np.atleast_2d(drawn[1][part][name] - drawn[0][part][name])
        return tuple(_difference(pair, change) for pair, change in zip(values, changes, strict=True))

    return Comparison(
        n=len(one.truth),
        num_groups=int(numbers.max()) + 1 if numbers.size else 0,
        metrics={name: differences(0, name)[0] for name in before.overall},
        classes={name: differences(1, name) for name in before.classes},
        mcnemar=None if multi_label else mcnemar(_right(one), _right(two)),
    )


def require_same_examples(first: Mapping[str, Sequence[object]], second: Mapping[str, Sequence[object]]) -> None:
    """Checks that two tables, as columns such as `files` or `labels`, hold the same examples in the same order.

    Raises:
      ValueError: another number of rows, or a row that differs; the first one is named.
    """
    for name, column in first.items():
        other = second[name]
        if len(column) != len(other):
            raise ValueError(f"{name}: {len(column)} in the first and {len(other)} in the second; compare runs on the same data")
        for row, (one, two) in enumerate(zip(column, other, strict=True)):
            if one != two:
                raise ValueError(
                    f"{name}: row {row} is {one!r} in the first and {two!r} in the second; compare runs on the same data"
                )


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """McNemar's exact test from two bool [N]: which examples each has right. Without any disagreement p is 1."""
    from scipy.stats import binomtest

    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    p = float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0
    return McNemar(only_first, only_second, p)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """float64 [M]: p values corrected for M comparisons by Holm's rule, valid whatever their dependence. NaN stay and do not
    count.
    """
    values = np.asarray(p_values, np.float64)
    corrected = np.full(len(values), np.nan)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN sort last
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors)) if len(order) else []
    return corrected


def _right(evaluator: Evaluator) -> np.ndarray:
    """bool [N]: which examples are judged exactly right."""
    return (evaluator.truth == evaluator.predicted).all(axis=1)


def _difference(pair: np.ndarray, changes: np.ndarray | None) -> Difference:
    """From both values, [2], and their differences in every resample, [R]; resamples without the metric are left out."""
    first, second = (None if np.isnan(value) else float(value) for value in pair)
    if first is None or second is None:
        return Difference(first, second, None, None, None, None)
    changes = None if changes is None else changes[~np.isnan(changes)]
    if changes is None or not changes.size:
        return Difference(first, second, second - first, None, None, None)
    changes = np.where(np.abs(changes) < 1e-12, 0.0, changes)  # the same sums in another order are no difference
    low, high = percentile_interval(changes)
    smaller = min((changes <= 0).sum(), (changes >= 0).sum())
    p = min(1.0, 2 * (smaller + 1) / (len(changes) + 1))
    return Difference(first, second, second - first, float(low), float(high), float(p))
