"""Measures predictions: metrics, calibration, thresholds, groups of classes."""

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
from beats_jax.evaluation.metrics.class_groups import NATURE_GROUPS, SUPER_CATEGORIES, group_members, mapping_of
from beats_jax.evaluation.metrics.operating_point import OperatingPoint, choose_operating_point
from beats_jax.evaluation.metrics.result import EvaluationResult, evaluate_predictions
from beats_jax.pipelines.measuring.prediction import encode_labels
from beats_jax.pipelines.training.workdir import read_json, write_json

OPERATING_POINT_FILE = "operating_point.json"
KNOWN_GROUPINGS = {"esc50": SUPER_CATEGORIES, "nature": NATURE_GROUPS}


@dataclass(frozen=True)
class Measured:
    """Predictions and their figures."""

    rows: Manifest  # the N predicted rows
    probabilities: np.ndarray  # float64 [N, C]
    result: EvaluationResult
    analysis: Analysis
    metrics: dict[str, Any]  # for metrics.json
    title: str  # heading of the report
    folds: tuple[Mapping[str, Any], ...] = ()  # metrics of each fold of a cross-validation
    peaks: np.ndarray | None = None  # as in `RowPredictions`; None = not known


def measure(
    experiment: Experiment,
    rows: Manifest,
    vocabulary: LabelVocabulary,
    probabilities: np.ndarray,
    title: str,
    point: OperatingPoint | None = None,
    peaks: np.ndarray | None = None,
) -> Measured:
    """Measures the predictions for `rows`, float64 [N, C]; intervals draw whole groups (rows of one recording or group name).

    Args:
      point: temperature and thresholds, chosen on other rows. peaks: see `Measured`.
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
    """Writes it into the run's folder, if there is one."""
    if point is not None:
        write_json(workdir / OPERATING_POINT_FILE, point.to_mapping())


def read_operating_point(run: Path, vocabulary: LabelVocabulary) -> OperatingPoint | None:
    """The run's own; None where it had no validation rows. Raises `UserError` where the file is damaged."""
    path = run / OPERATING_POINT_FILE
    if not path.is_file():
        return None
    try:
        return OperatingPoint.from_mapping(read_json(path), vocabulary.names)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def groupings(names: tuple[str, ...], class_names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Name → (class → group) for `evaluation.class_groups`: esc50, nature, or a table with the columns class and group.

    Raises:
      UserError: neither a known grouping nor a table, or it names none of the classes.
    """
    found = {}
    for name in names:
        grouping = KNOWN_GROUPINGS.get(name)
        if grouping is None:
            path = Path(name).expanduser()
            if not path.is_file():
                raise UserError(
                    f"evaluation.class_groups names {name!r}, which is neither a table nor one of {', '.join(KNOWN_GROUPINGS)}"
                )
            table = read_table(path)
            table.require_columns(("class", "group"))
            grouping = dict(zip(table["class"], table["group"], strict=True))
        kept = mapping_of(class_names, grouping)
        group_members(class_names, kept)  # refuses a group called like the rest
        found[Path(name).stem] = kept
    return found
