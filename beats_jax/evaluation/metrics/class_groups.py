"""The same predictions seen by groups of classes, such as birds and mammals.

An example belongs to the groups of its true classes; it is given the groups of its predicted classes, so the confusion of groups
is the confusion of classes added up in blocks. The score of a group is the sum of its classes' probabilities (single-label), or
the largest of them (multi-label). Classes without a group form one more, `OTHER`. Intervals: as everywhere, whole recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.config.validation import nearest
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.classification import Evaluator, Metrics, confusion_matrix, predicted_matrix, truth_matrix
from beats_jax.evaluation.metrics.intervals import bootstrap, group_numbers
from beats_jax.evaluation.metrics.result import Estimate, make_estimate

OTHER = "other"
Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class GroupResult:
    """One group of classes. Counts are of examples."""

    name: str
    classes: tuple[str, ...]
    n: int  # examples that truly hold a class of the group
    predicted: int  # examples that were given one
    accuracy: Estimate  # share of the group's examples that are right to the class, within the group's classes
    recall: Estimate  # share of the group's examples that were given any class of the group
    precision: Estimate
    f1: Estimate
    ap: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class GroupEvaluation:
    """Predictions by groups of classes."""

    groups: tuple[GroupResult, ...]  # in the order of the mapping, `OTHER` last
    metrics: dict[str, Estimate]  # those of `metrics.METRIC_NAMES`, over groups in place of classes
    confusion: np.ndarray  # int64: [K, K] (true, predicted), or [K, 2, 2] if multi-label


def group_members(class_names: Sequence[str], group_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Group -> its classes, in the order of the mapping; classes without a group are `OTHER`, last, where there are any.

    Raises:
      UserError: the mapping names a class that is not there (for a part of a data set see `mapping_of`), or a group "other" that
        would be mixed up with ours.
    """
    members: dict[str, list[str]] = {}
    for name, group in group_of.items():
        if name not in class_names:
            raise UserError(f"the groups of classes name {name!r}, which is no class; {nearest(name, list(class_names))}")
        members.setdefault(group, []).append(name)
    rest = [name for name in class_names if name not in group_of]
    if rest and OTHER in members:
        raise UserError(f"a group is called {OTHER!r}, as are the classes without a group ({', '.join(rest)}); rename it")
    return {group: tuple(names) for group, names in members.items()} | ({OTHER: tuple(rest)} if rest else {})


def mapping_of(class_names: Sequence[str], group_of: Mapping[str, str]) -> dict[str, str]:
    """The part of a mapping that speaks of these classes, such as that of ESC-50 for ESC-10.

    Raises:
      UserError: it speaks of none of them.
    """
    kept = {name: group for name, group in group_of.items() if name in class_names}
    if not kept:
        raise UserError(f"the groups speak of none of the classes {', '.join(class_names)}; they know {', '.join(group_of)}")
    return kept


def evaluate_class_groups(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    group_of: Mapping[str, str],
    recordings: Sequence[object] | np.ndarray | None,
    *,
    multi_label: bool,
    threshold: float = 0.5,
    resamples: int = 10_000,
    seed: int = 0,
) -> GroupEvaluation:
    """Measures predictions by groups of classes.

    Args:
      labels: int [N] class numbers, or 0/1 [N, C] if `multi_label`.
      probabilities: float [N, C].
      class_names: C names.
      group_of: class -> group.
      recordings: [N] what the bootstrap draws whole; None = every example for itself.
    Raises:
      UserError: see `group_members`.
      ValueError: shapes or values that do not fit.
    """
    probabilities = np.asarray(probabilities)
    members = group_members(class_names, group_of)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(f"{len(class_names)} class names for probabilities of shape {probabilities.shape}")
    predicted = predicted_matrix(probabilities, multi_label, threshold)
    truth = truth_matrix(labels, len(class_names), multi_label)
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} labels, but {len(predicted)} rows of probabilities")
    columns = [np.array([class_names.index(name) for name in names], int) for names in members.values()]
    group_truth, group_predicted = (
        np.stack([marks[:, inside].any(axis=1) for inside in columns], axis=1) for marks in (truth, predicted)
    )
    score = np.max if multi_label else np.sum
    scores = np.stack([score(probabilities[:, inside], axis=1, initial=0) for inside in columns], axis=1)
    right = np.stack([(truth[:, inside] == predicted[:, inside]).all(axis=1) for inside in columns], axis=1)

    numbers = group_numbers(recordings, len(truth))

    def measured(given: np.ndarray) -> tuple[Estimates, list[Estimates]]:
        marks = group_truth if multi_label else group_truth.argmax(axis=1)
        evaluator = Evaluator(marks, scores, multi_label=multi_label, predicted=given)
        return _estimates(evaluator, bootstrap(evaluator, numbers, resamples=resamples, seed=seed))

    metrics, by_group = measured(group_predicted)
    _, to_the_class = measured(group_truth & right)  # its recall is the share that is right to the class
    counts = zip(group_truth.sum(axis=0).tolist(), group_predicted.sum(axis=0).tolist(), strict=True)
    return GroupEvaluation(
        groups=tuple(
            GroupResult(name, names, n, given, accuracy=exact["recall"], **values)
            for (name, names), (n, given), values, exact in zip(members.items(), counts, by_group, to_the_class, strict=True)
        ),
        metrics=metrics,
        confusion=confusion_matrix(group_truth, group_predicted, multi_label=multi_label),
    )


def _estimates(evaluator: Evaluator, interval: Metrics | None) -> tuple[Estimates, list[Estimates]]:
    """The metrics over all groups, and those of each group."""
    point = evaluator.metrics()
    overall = {name: make_estimate(value, interval.overall[name] if interval else None) for name, value in point.overall.items()}
    by_group = [
        {
            name: make_estimate(values[k], interval.classes[name][k] if interval else None)
            for name, values in point.classes.items()
        }
        for k in range(evaluator.truth.shape[1])
    ]
    return overall, by_group
