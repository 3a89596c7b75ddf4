"""Predictions beyond metrics: calibration of the probabilities, thresholds, and groups of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from beats_jax.config.schema import EvaluationConfig
from beats_jax.evaluation.metrics.calibration import CalibrationScores, calibration_scores, logits_of
from beats_jax.evaluation.metrics.class_groups import GroupEvaluation, evaluate_class_groups
from beats_jax.evaluation.metrics.classification import Evaluator, truth_of
from beats_jax.evaluation.metrics.intervals import bootstrap, group_numbers
from beats_jax.evaluation.metrics.operating_point import OperatingPoint
from beats_jax.evaluation.metrics.result import make_estimates
from beats_jax.evaluation.metrics.thresholds import ThresholdResult, threshold_results


@dataclass(frozen=True)
class Analysis:
    """Found on the measured rows.

    Attributes:
      plain: calibration before the temperature of `point`. calibrated: after it; None without one.
      thresholds: the figures of the thresholds of `point`, one a class; empty without one.
      detection: of two classes, the figures of each at its threshold with intervals, as in `flat`; empty without thresholds.
      groups: name of a grouping → its evaluation.
      point: chosen on validation rows; None without them.
    """

    plain: CalibrationScores
    calibrated: CalibrationScores | None = None
    thresholds: tuple[ThresholdResult, ...] = ()
    detection: Mapping[str, float | None] = field(default_factory=dict)
    groups: Mapping[str, GroupEvaluation] = field(default_factory=dict)
    point: OperatingPoint | None = None

    def flat(self) -> dict[str, float | None]:
        """For metrics.json: `ece`, `nll`, `brier`, the same `_calibrated`, and `temperature`.

        Of two classes also `threshold:NAME`, chosen on validation, and at it `f1:NAME`, `precision:NAME`, `recall:NAME`, with
        `_low` and `_high`.
        """
        numbers: dict[str, float | None] = dict(self.detection)
        for suffix, scores in (("", self.plain), ("_calibrated", self.calibrated)):
            if scores is not None:
                numbers |= {f"ece{suffix}": scores.ece, f"nll{suffix}": scores.nll, f"brier{suffix}": scores.brier}
        if self.point is not None:
            numbers["temperature"] = self.point.temperature
        return numbers


def analyse(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    recordings: np.ndarray,
    groupings: Mapping[str, Mapping[str, str]],
    point: OperatingPoint | None,
    *,
    multi_label: bool,
    config: EvaluationConfig,
    seed: int,
) -> Analysis:
    """Analyses predictions.

    Args:
      labels, probabilities: as in `result.evaluate_predictions`. recordings: [N], drawn whole by the bootstrap.
      groupings: name → (class → group), of known classes.
    Raises:
      UserError: see `class_groups.group_members`. ValueError: arrays that do not fit.
    """
    logits = logits_of(probabilities, multi_label)
    plain = calibration_scores(logits, labels, multi_label=multi_label)
    groups = {
        name: evaluate_class_groups(
            labels, probabilities, class_names, grouping, recordings, multi_label=multi_label, threshold=config.threshold,
            resamples=config.bootstrap_resamples, seed=seed,
        )
        for name, grouping in groupings.items()
    }  # fmt: skip
    if point is None:
        return Analysis(plain, groups=groups)
    calibrated = calibration_scores(logits, labels, multi_label=multi_label, temperature=point.temperature)
    thresholds = threshold_results(labels, probabilities, point.thresholds, multi_label=multi_label)
    detection: dict[str, float | None] = {}
    if len(class_names) == 2:
        truth = truth_of(labels, probabilities, multi_label)
        for i, name in enumerate(class_names):
            of_class = truth[:, i : i + 1], np.asarray(probabilities)[:, i : i + 1], point.thresholds[i]
            detection |= {f"threshold:{name}": point.thresholds[i], **_at_threshold(*of_class, name, recordings, config, seed)}
    return Analysis(plain, calibrated, thresholds, detection, groups, point)


def _at_threshold(
    truth: np.ndarray,
    scores: np.ndarray,
    threshold: float | None,
    name: str,
    recordings: np.ndarray,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, float | None]:
    """Figures of one class, bool and float [N, 1], with intervals over recordings; empty without a threshold."""
    if threshold is None:
        return {}
    evaluator = Evaluator(truth.astype(np.float32), scores, multi_label=True, threshold=threshold)
    numbers = group_numbers(recordings, len(truth))
    interval = bootstrap(evaluator, numbers, resamples=config.bootstrap_resamples, seed=seed)
    _, (figures,) = make_estimates(evaluator.metrics(), interval)
    found: dict[str, float | None] = {}
    for figure in ("f1", "precision", "recall"):
        estimate = figures[figure]
        ends = {f"{figure}:{name}_low": estimate.low, f"{figure}:{name}_high": estimate.high}
        found |= {f"{figure}:{name}": estimate.value, **ends}
    return found
