"""The same predictions by groups of classes, such as birds and mammals.

An example belongs to the groups of its true classes and is predicted as the groups of its predicted classes, so the confusion of
groups is the confusion of classes summed in blocks. The score of a group is the sum of its classes' probabilities (single-label),
or the largest of them (multi-label). Classes without a group form one more, `OTHER`. Intervals draw whole recordings, as
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.config.validation import nearest
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.classification import Evaluator, confusion_matrix, predicted_matrix, truth_of
from beats_jax.evaluation.metrics.intervals import bootstrap, group_numbers
from beats_jax.evaluation.metrics.result import Estimate, make_estimates

OTHER = "other"


def _by_class(groups: Mapping[str, str]) -> dict[str, str]:
    """class -> group from group -> classes separated by spaces."""
    return {name: group for group, names in groups.items() for name in names.split()}


# The five major categories of its table (K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015; targets 0-9,
# 10-19, 20-29, 30-39, 40-49 of meta/esc50.csv).
SUPER_CATEGORIES = _by_class(
    {
        "animals": "dog rooster pig cow frog cat hen insects sheep crow",
        "natural soundscapes and water": "rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water "
        "toilet_flush thunderstorm",
        "human, non-speech": "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
        "drinking_sipping",
        "interior, domestic": "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
        "vacuum_cleaner clock_alarm clock_tick glass_breaking",
        "exterior, urban": "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw",
    }
)

# Birds, water, wind and mammals. Ours: ESC-50 has no such column. Poultry are birds; water is whatever flows, drips or rains,
# a flushed toilet too, but not a thunderstorm; mammals are animals only. All other classes are in no group.
NATURE_GROUPS = _by_class(
    {
        "birds": "rooster hen crow chirping_birds",
        "water": "rain sea_waves water_drops pouring_water toilet_flush",
        "wind": "wind",
        "mammals": "dog pig cow cat sheep",
    }
)


@dataclass(frozen=True)
class GroupResult:
    """One group of classes. Counts are of examples."""

    name: str
    classes: tuple[str, ...]
    n: int  # examples that truly hold a class of the group
    predicted: int  # examples that are predicted as one
    accuracy: Estimate  # share of the group's examples whose class within the group is right
    recall: Estimate  # share of the group's examples that are predicted as any class of the group
    precision: Estimate
    f1: Estimate
    ap: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class GroupEvaluation:
    """Predictions by groups of classes."""

    groups: tuple[GroupResult, ...]  # in the order of the mapping, `OTHER` last
    metrics: dict[str, Estimate]  # as in `EvaluationResult`, over groups in place of classes
    confusion: np.ndarray  # int64: [K, K] (true, predicted), or [K, 2, 2] if multi-label


def group_members(class_names: Sequence[str], group_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Group -> its classes, in the order of the mapping, and last `OTHER` if classes are left.

    Raises:
      UserError: the mapping names an unknown class (for a part of a data set see `mapping_of`), or a group "other" beside ours.
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
    """The part of a mapping that names these classes, such as that of ESC-50 for ESC-10. Raises `UserError` if it is empty."""
    kept = {name: group for name, group in group_of.items() if name in class_names}
    if not kept:
        raise UserError(f"the groups name none of the classes {', '.join(class_names)}; they name {', '.join(group_of)}")
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
      labels, probabilities, class_names: as in `result.evaluate_predictions`. group_of: class -> group.
      recordings: [N], drawn whole by the bootstrap; None = every example for itself.
    Raises:
      UserError: see `group_members`. ValueError: shapes or values that do not fit.
    """
    probabilities = np.asarray(probabilities)
    members = group_members(class_names, group_of)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(f"{len(class_names)} class names for probabilities of shape {probabilities.shape}")
    predicted = predicted_matrix(probabilities, multi_label, threshold)
    truth = truth_of(labels, probabilities, multi_label)
    columns = [np.array([class_names.index(name) for name in names], int) for names in members.values()]
    group_truth, group_predicted = (
        np.stack([marks[:, inside].any(axis=1) for inside in columns], axis=1) for marks in (truth, predicted)
    )
    score = np.max if multi_label else np.sum
    scores = np.stack([score(probabilities[:, inside], axis=1, initial=0) for inside in columns], axis=1)
    right = np.stack([(truth[:, inside] == predicted[:, inside]).all(axis=1) for inside in columns], axis=1)
    numbers = group_numbers(recordings, len(truth))

    def measure(given: np.ndarray) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
        marks = group_truth if multi_label else group_truth.argmax(axis=1)
        evaluator = Evaluator(marks, scores, multi_label=multi_label, predicted=given)
        return make_estimates(evaluator.metrics(), bootstrap(evaluator, numbers, resamples=resamples, seed=seed))

    metrics, by_group = measure(group_predicted)
    _, to_the_class = measure(group_truth & right)  # its recall is the share that is right to the class
    counts = zip(group_truth.sum(axis=0).tolist(), group_predicted.sum(axis=0).tolist(), strict=True)
    return GroupEvaluation(
        groups=tuple(
            GroupResult(name, names, n, given, accuracy=exact["recall"], **values)
            for (name, names), (n, given), values, exact in zip(members.items(), counts, by_group, to_the_class, strict=True)
        ),
        metrics=metrics,
        confusion=confusion_matrix(group_truth, group_predicted, multi_label=multi_label),
    )
