"""From predictions to the files that a run leaves: predictions.csv, metrics.json, report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

import beats_jax
from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.predictions import build_predictions, write_metrics, write_predictions
from beats_jax.evaluation.report import write_report
from beats_jax.evaluation.result import EvaluationResult, evaluate_predictions, summary_lines
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.prediction import encoded_labels
from beats_jax.pipelines.preparation import PreparedData
from beats_jax.pipelines.shown_clips import Clips
from beats_jax.pipelines.workdir import METRICS_FILE

REPORT_FILE = "report.html"
PREDICTIONS_FILE = "predictions.csv"
REPORTED_PACKAGES = ("jax", "flax", "optax", "grain", "orbax-checkpoint", "numpy")


@dataclass(frozen=True)
class Measured:
    """Predictions and what they are worth.

    Attributes:
      rows: the rows that were predicted.
      probabilities: float64 [N, C].
      result: metrics with intervals.
      metrics: what metrics.json will hold.
      title: heading of the report.
      folds: metrics of each fold of a cross-validation.
    """

    rows: Manifest
    probabilities: np.ndarray
    result: EvaluationResult
    metrics: dict[str, Any]
    title: str
    folds: tuple[Mapping[str, Any], ...] = ()


def measure(
    experiment: Experiment, rows: Manifest, vocabulary: LabelVocabulary, probabilities: np.ndarray, title: str
) -> Measured:
    """Measures the predictions for `rows`; intervals draw whole groups (rows of one recording or group name).

    Args:
      probabilities: float64 [N, C], one row for each of `rows`.
    Raises:
      UserError: there is nothing to measure.
    """
    if not len(rows):
        raise UserError("no row that could be read is left to evaluate; data.val_split or data.test_split must leave some")
    multi_label = experiment.data.multi_label
    labels = encoded_labels(rows, vocabulary, np.arange(len(rows)), multi_label)
    result = evaluate_predictions(
        labels, probabilities, vocabulary.names, group_codes(rows), multi_label, experiment.evaluation, experiment.training.seed
    )
    return Measured(rows, probabilities, result, result.flat(), title)


def write_results(
    output: Path,
    experiment: Experiment,
    data: PreparedData,
    measured: Measured,
    *,
    command: str,
    history: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes predictions.csv, report.html and, last, metrics.json into `output`, and prints the figures."""
    rows, evaluation = measured.rows, experiment.evaluation
    table = build_predictions(
        rows.files.tolist(),
        rows.starts,
        rows.ends,
        [rows.labels[i] for i in range(len(rows))],
        measured.probabilities,
        data.vocabulary.names,
        multi_label=experiment.data.multi_label,
        threshold=evaluation.threshold,
    )
    write_predictions(output / PREDICTIONS_FILE, table)
    errors = data.errors.rows()
    clips = Clips(rows, measured.result, measured.probabilities, experiment)
    write_report(
        output / REPORT_FILE,
        title=measured.title,
        result=measured.result,
        history=history,
        data_summary=data_facts(data),
        settings=to_mapping(experiment),
        errors=errors,
        worst_examples=clips.worst_errors(),
        confused=clips.confused_pairs(),
        gallery=clips.gallery(),
        provenance=provenance(),
        versions=versions(),
        command=command,
        folds=measured.folds or None,
        class_counts=data.report.splits or None,
    )
    write_metrics(output / METRICS_FILE, measured.metrics)
    print("\n".join(summary_lines(measured.result)))
    if errors:
        print(f"{len(errors)} unusable files: {data.errors.path}")
    print(f"report: {output / REPORT_FILE}", flush=True)


def data_facts(data: PreparedData) -> dict[str, str]:
    """What the report says of the recordings."""
    report = data.report
    rates = ", ".join(f"{number} at {rate} Hz" for rate, number in report.sample_rates.items())
    channels = ", ".join(f"{number} with {count}" for count, number in report.channels.items())
    facts = {
        "usable rows": f"{len(report.manifest)} of {report.rows_given}",
        "usable files": f"{sum(report.sample_rates.values())} of {report.files_given}",
        "duration": f"{report.total_seconds / 3600:.2f} h in all; files last {report.shortest_seconds:.2f} to "
        f"{report.longest_seconds:.2f} s, median {report.median_seconds:.2f} s",
        "sample rates": rates,
        "channels": channels,
        "encodings": ", ".join(f"{number} {kind}" for kind, number in report.encodings.items()),
    }
    return {**facts, **{f"note {i}": warning for i, warning in enumerate(report.warnings, start=1)}}


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """The learning curves of a run as rows {"step": 10, "train/loss": 1.2, ...}; empty where there are none."""
    path = workdir / "history.jsonl"
    if not path.is_file():
        return []
    short = {"train": "train", "validation": "val"}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        values = {
            f"{short[row['split']]}/{name}": value for name, value in row.items() if name not in ("step", "split", "timing")
        }
        rows.append({"step": row["step"], **values})
    return rows


def versions() -> dict[str, str]:
    """What the figures were made with."""
    return {
        "beats_jax": beats_jax.__version__,
        "python": python_version(),
        **{package: version(package) for package in REPORTED_PACKAGES},
    }
