"""Predictions and what they are worth: metrics, calibration, thresholds, groups of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import Experiment
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.datasets.splits import group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.analysis import Analysis, analyse
from beats_jax.evaluation.metrics.class_groups import group_members, mapping_of
from beats_jax.evaluation.metrics.esc50_groups import NATURE_GROUPS, SUPER_CATEGORIES
from beats_jax.evaluation.metrics.operating_point import OperatingPoint, choose_operating_point
from beats_jax.evaluation.metrics.result import EvaluationResult, evaluate_predictions
from beats_jax.pipelines.measuring.prediction import encode_labels
from beats_jax.pipelines.training.workdir import read_json, write_json

OPERATING_POINT_FILE = "operating_point.json"
KNOWN_GROUPINGS = {"esc50": SUPER_CATEGORIES, "nature": NATURE_GROUPS}


@dataclass(frozen=True)
class Measured:
    """Predictions and what they are worth.

    Attributes:
      rows: the rows that were predicted.
      probabilities: float64 [N, C].
      result: metrics with intervals.
      analysis: calibration, thresholds, groups of classes.
      metrics: what metrics.json will hold.
      title: heading of the report.
      folds: metrics of each fold of a cross-validation.
      peaks: float64 [N, C], where the window with the largest logit of each class starts, in seconds; None = not known.
    """

    rows: Manifest
    probabilities: np.ndarray
    result: EvaluationResult
    analysis: Analysis
    metrics: dict[str, Any]
    title: str
    folds: tuple[Mapping[str, Any], ...] = ()
    peaks: np.ndarray | None = None


def measure(
    experiment: Experiment,
    rows: Manifest,
    vocabulary: LabelVocabulary,
    probabilities: np.ndarray,
    title: str,
    point: OperatingPoint | None = None,
    peaks: np.ndarray | None = None,
) -> Measured:
    """Measures the predictions for `rows`; intervals draw whole groups (rows of one recording or group name).

    Args:
      probabilities: float64 [N, C], one row for each of `rows`.
      point: temperature and thresholds, chosen on other rows.
      peaks: see `Measured`.
    Raises:
      UserError: there is nothing to measure; see `groupings`.
    """
    if not len(rows):
        raise UserError("no row that could be read is left to evaluate; data.val_split or data.test_split must leave some")
    multi_label, evaluation, seed = experiment.data.multi_label, experiment.evaluation, experiment.training.seed
    labels = encode_labels(rows, vocabulary, np.arange(len(rows)), multi_label)
    recordings = group_codes(rows)
    result = evaluate_predictions(labels, probabilities, vocabulary.names, recordings, multi_label, evaluation, seed)
    analysis = analyse(
        labels, probabilities, vocabulary.names, recordings, groupings(evaluation.class_groups, vocabulary.names), point,
        multi_label=multi_label, config=evaluation, seed=seed,
    )  # fmt: skip
    return Measured(rows, probabilities, result, analysis, {**result.flat(), **analysis.flat()}, title, peaks=peaks)


def operating_point(
    experiment: Experiment, rows: Manifest, vocabulary: LabelVocabulary, probabilities: np.ndarray
) -> OperatingPoint | None:
    """Temperature and thresholds by these (validation) rows; None without any."""
    if not len(rows):
        return None
    multi_label = experiment.data.multi_label
    labels = encode_labels(rows, vocabulary, np.arange(len(rows)), multi_label)
    config = experiment.evaluation
    return choose_operating_point(labels, probabilities, vocabulary.names, multi_label=multi_label, config=config)


def write_operating_point(workdir: Path, point: OperatingPoint | None) -> None:
    """Keeps it with the run; nothing where there is none."""
    if point is not None:
        write_json(workdir / OPERATING_POINT_FILE, point.to_mapping())


def read_operating_point(run: Path, vocabulary: LabelVocabulary) -> OperatingPoint | None:
    """What the run has kept; None where it had no validation rows. Raises `UserError` where the file is damaged."""
    path = run / OPERATING_POINT_FILE
    if not path.is_file():
        return None
    settings = read_json(path)
    try:
        return OperatingPoint.from_mapping(settings, vocabulary.names)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def groupings(names: tuple[str, ...], class_names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Name → (class → group) for `evaluation.class_groups`: esc50, nature, or a table with the columns class and group.

    Raises:
      UserError: neither a known grouping nor a table, or it speaks of none of the classes.
    """
    found = {}
    for name in names:
        if name in KNOWN_GROUPINGS:
            grouping = KNOWN_GROUPINGS[name]
        else:
            path = Path(name).expanduser()
            if not path.is_file():
                known = ", ".join(KNOWN_GROUPINGS)
                raise UserError(f"evaluation.class_groups names {name!r}, which is neither a table nor one of {known}")
            table = read_table(path)
            table.require_columns(("class", "group"))
            grouping = dict(zip(table["class"], table["group"], strict=True))
        kept = mapping_of(class_names, grouping)
        group_members(class_names, kept)  # refuses a group that would be mixed up with the rest
        found[Path(name).stem] = kept
    return found
