"""The figures of the baselines, with intervals over the test recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from beats_jax.config import EvaluationConfig
from beats_jax.evaluation.metrics.calibration import Reliability, calibration_scores, fit_temperature, logits_of
from beats_jax.evaluation.metrics.false_alarms import recall_at_rate
from beats_jax.evaluation.metrics.intervals import group_numbers, percentile_interval, resample_weights
from beats_jax.evaluation.metrics.result import Estimate, EvaluationResult, evaluate_predictions, make_estimate
from beats_jax.evaluation.metrics.thresholds import apply_thresholds, choose_thresholds
from beats_jax.pipelines.studying.baselines import Baselines
from beats_jax.pipelines.studying.results import Measured, metrics_of
from beats_jax.pipelines.studying.store import ALL

MOST_DRAWS = 1000  # resamples of figures that are counted clip by clip


@dataclass(frozen=True)
class BaselineResult:
    """One baseline.

    Attributes:
      size: training rows, 0 = all. result: None where it failed. extra: F1 at validation's threshold, PR-AUC and recall at one
      false alarm an hour, over the classes of interest. reliability: after the temperature that validation chose.
    """

    name: str
    size: int
    failure: str
    result: EvaluationResult | None = None
    extra: dict[str, Estimate] | None = None
    ece: float | None = None
    reliability: Reliability | None = None

    @property
    def flat(self) -> dict[str, Any]:
        """For study.json."""
        if self.result is None or self.extra is None:
            return {"failure": self.failure}
        more = {name: one.value for name, one in self.extra.items()}
        more |= {f"{name}_{end}": getattr(one, end) for name, one in self.extra.items() for end in ("low", "high")}
        return {**self.result.flat(), **more, "ece_calibrated": self.ece}


def measure_baselines(baselines: Baselines, measured: Measured, resamples: int) -> list[BaselineResult]:
    """The figures of every baseline that was fitted; those of shares of the rows are named `cnn of 617`."""
    names, found = baselines.arms.rows.vocabulary.names, []
    for fitted in baselines.fits():
        outcome = baselines.store.read(fitted)
        name = fitted.arm if fitted.size == ALL else f"{fitted.arm} of {fitted.size}"
        if outcome.failure or outcome.val is None or outcome.test is None:
            found.append(BaselineResult(name, fitted.size, outcome.failure))
            continue
        config = EvaluationConfig(bootstrap_resamples=resamples)
        test = outcome.test.astype(np.float64)
        result = evaluate_predictions(measured.labels, test, names, measured.groups, False, config, 0)
        temperature = fit_temperature(logits_of(outcome.val, False), measured.val_labels, multi_label=False).value
        calibration = calibration_scores(logits_of(test, False), measured.labels, multi_label=False, temperature=temperature)
        extra = _extra(outcome.val, test, measured, min(resamples, MOST_DRAWS))
        found.append(BaselineResult(name, fitted.size, "", result, extra, calibration.ece, calibration.reliability))
    return found


def _extra(val: np.ndarray, test: np.ndarray, measured: Measured, draws: int) -> dict[str, Estimate]:
    """Means over the classes of interest, with intervals over the test groups."""
    thresholds = [one.threshold for one in choose_thresholds(measured.val_labels, val, multi_label=False, goal="f1")]
    found, wanted = apply_thresholds(test, thresholds), list(measured.wanted)
    truth = measured.labels[:, None] == np.arange(measured.classes)

    def f1(rows: np.ndarray) -> float:
        hits = (truth[rows] & found[rows]).sum(axis=0)
        total = truth[rows].sum(axis=0) + found[rows].sum(axis=0)
        return float(np.mean([2 * hits[c] / total[c] for c in wanted if total[c]] or [np.nan]))

    def recall(rows: np.ndarray) -> float:
        values = [recall_at_rate(truth[rows, c], test[rows, c], measured.seconds[rows]).recall for c in wanted]
        return float(np.mean([value for value in values if value is not None] or [np.nan]))

    point = metrics_of(val, test, measured)
    numbers = group_numbers(measured.groups, len(test))
    estimates = {
        "f1_wanted": _estimate(point["f1"], f1, numbers, draws),
        "recall_at_1_fa_per_hour": _estimate(point["recall_at_1_fa_per_hour"], recall, numbers, draws),
    }
    return {**estimates, "ap_wanted": Estimate(None if np.isnan(point["ap"]) else point["ap"])}


def _estimate(value: float, function: Callable[[np.ndarray], float], numbers: np.ndarray, draws: int) -> Estimate:
    groups = int(numbers.max()) + 1
    if groups < 2:
        return make_estimate(np.array(value), None)
    weights = resample_weights(0, groups, 0, draws)
    drawn = np.array([function(np.repeat(np.arange(len(numbers)), weights[numbers, i])) for i in range(draws)])
    return make_estimate(np.array(value), percentile_interval(drawn))
