"""The operating point: a temperature for all logits and a threshold for every class, chosen on validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from beats_jax.config.schema import EvaluationConfig
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, fit_temperature, logits_of
from beats_jax.evaluation.metrics.thresholds import choose_thresholds
from beats_jax.json_files import require_shape

REMEDY = "restore it from a copy, or train the run again"
SHAPE = {
    **{"class_names": [str], "goal": str, "wanted": (float, None), "thresholds": [(float, None)], "reasons": [str]},
    **{"temperature": float, "at_limit": bool, "n": int},
}


@dataclass(frozen=True)
class OperatingPoint:
    """Chosen on `n` validation rows, never on test rows.

    Attributes:
      goal, wanted: as in `thresholds.choose_thresholds`; wanted is None for "f1".
      thresholds: one a class; None = the goal cannot be reached. reasons: why, "" where it can.
      temperature: divides all logits. at_limit: the best one lies beyond the allowed range.
    """

    class_names: tuple[str, ...]
    goal: str
    wanted: float | None
    thresholds: tuple[float | None, ...]
    reasons: tuple[str, ...]
    temperature: float
    at_limit: bool
    n: int

    def to_mapping(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], class_names: Sequence[str]) -> OperatingPoint:
        """The reverse of `to_mapping`. Raises `UserError` for another format, other classes, or impossible values."""
        found = require_shape(settings, SHAPE, "the operating point", remedy=REMEDY)
        lists: dict[str, Any] = {name: tuple(found[name]) for name in ("class_names", "thresholds", "reasons")}
        point = cls(**{name: found[name] for name in SHAPE if name not in lists}, **lists)
        limits = [0 <= value <= 1 for value in point.thresholds if value is not None]
        if (
            point.class_names != tuple(class_names)
            or {len(point.thresholds), len(point.reasons)} != {len(class_names)}
            or point.goal not in ("f1", "precision", "recall")
            or not LOWEST_TEMPERATURE <= point.temperature <= HIGHEST_TEMPERATURE
            or point.n < 1
            or not all(limits)
        ):
            raise UserError(f"the operating point is of other classes than the model, or damaged; {REMEDY}")
        return point


def choose_operating_point(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], *, multi_label: bool, config: EvaluationConfig
) -> OperatingPoint:
    """The operating point by validation rows, one at least: labels int [N], or 0/1 [N, C] if `multi_label`, and probabilities."""
    wanted = None if config.threshold_goal == "f1" else config.threshold_wanted
    found = choose_thresholds(labels, probabilities, multi_label=multi_label, goal=config.threshold_goal, wanted=wanted)
    temperature = fit_temperature(logits_of(probabilities, multi_label), labels, multi_label=multi_label)
    return OperatingPoint(
        class_names=tuple(class_names),
        goal=config.threshold_goal,
        wanted=wanted,
        thresholds=tuple(result.threshold for result in found),
        reasons=tuple(result.why for result in found),
        temperature=temperature.value,
        at_limit=temperature.at_limit,
        n=len(probabilities),
    )
