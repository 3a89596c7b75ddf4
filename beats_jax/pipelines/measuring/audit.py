"""Labels that several models contradict: a ranking to listen to, a table that `review` opens, and figures without them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.audio.io import AudioError, audio_info, read
from beats_jax.config import EvaluationConfig, Experiment
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.label_audit import find_suspects
from beats_jax.evaluation.metrics.result import EvaluationResult, evaluate_predictions
from beats_jax.evaluation.predictions import PredictionTable, write_metrics
from beats_jax.evaluation.report.audit import SHOWN, Audit, audit_findings, audit_page
from beats_jax.evaluation.report.page import Example, write_page
from beats_jax.files import write_text
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.compare import in_the_order_of, label_numbers, read_run_predictions, recordings_of
from beats_jax.pipelines.measuring.confounds import LEVEL, background_features, confound_probabilities
from beats_jax.pipelines.measuring.evaluate import new_folder
from beats_jax.pipelines.measuring.write import REPORT_FILES, versions
from beats_jax.pipelines.training.workdir import METRICS_FILE, read_experiment
from beats_jax.spreadsheets import safe_cell

SUSPECTS_FILE = "suspects.csv"
COLUMNS = ("file", "start", "end", "label", "score", "given_label", "p_given", "margin")


def audit_labels(runs: Sequence[Path], output: Path, *, page: str, command: str) -> Audit:
    """Writes suspects.csv, metrics.json and the report into `output`, a new or empty folder, and prints the findings.

    Args:
      runs: finished trainings on the same rows, one label a row, whose predictions.csv holds no row that the model was trained
        on: a cross-validation (`data.fold=all`), or the test rows of a run. Their probabilities are averaged.
    Raises:
      UserError: a run without predictions, runs on other rows or classes, several labels a row, an `output` in use.
    """
    experiment = read_experiment(runs[0])
    if experiment.data.multi_label:
        raise UserError(f"{runs[0]} has several labels a row; an audit needs one")
    table, labels = _averaged(runs)
    recordings = recordings_of(runs[0], table)
    found = find_suspects(labels, table.probabilities)
    config = experiment.evaluation
    kept = np.setdiff1d(np.arange(len(labels)), found.rows)
    whole, without = (_figures(table, labels, recordings, rows, config) for rows in (np.arange(len(labels)), kept))
    audit = Audit(table, found, whole, without, *_confounds(table, labels, recordings, experiment), len(runs))
    with new_folder(output):
        write_text(output / SUSPECTS_FILE, _suspect_table(audit))
        content = audit_page(audit, _examples(audit, experiment), command=command, versions=versions(), provenance=provenance())
        report = output / REPORT_FILES[page]
        write_page(report, content)
        write_metrics(output / METRICS_FILE, _numbers(audit))
    print("\n".join(audit_findings(audit)))
    print(f"listen and decide: python -m beats_jax.review --detections {output / SUSPECTS_FILE}")
    print(f"report: {report}", flush=True)
    return audit


def _averaged(runs: Sequence[Path]) -> tuple[PredictionTable, np.ndarray]:
    """The rows of the first run with the mean probabilities of all, and the numbers of their labels."""
    first = read_run_predictions(runs[0])
    tables = [first, *(in_the_order_of(first, read_run_predictions(run), run) for run in runs[1:])]
    for run, table in zip(runs, tables, strict=True):
        if (table.class_names, table.labels) != (first.class_names, first.labels):
            raise UserError(f"{run} has other classes or labels than {runs[0]}; an audit needs runs on the same rows")
    mean = np.mean([table.probabilities for table in tables], axis=0)
    return replace(first, probabilities=mean), label_numbers(runs[0], first, False)


def _figures(
    table: PredictionTable, labels: np.ndarray, recordings: Sequence[object], rows: np.ndarray, config: EvaluationConfig
) -> EvaluationResult:
    groups = [recordings[row] for row in rows.tolist()]
    return evaluate_predictions(labels[rows], table.probabilities[rows], table.class_names, groups, False, config, 0)


def _confounds(
    table: PredictionTable, labels: np.ndarray, recordings: Sequence[object], experiment: Experiment
) -> tuple[float | None, float | None]:
    """AUROC of level alone, and of level and background; None where a class has too few readable rows or recordings."""
    features = background_features(table, experiment.audio, max(1, experiment.data.num_workers))
    rows = np.flatnonzero(np.isfinite(features).all(axis=1))
    if len(rows) == 0 or np.bincount(labels[rows], minlength=len(table.class_names)).min() < 2:
        return None, None
    groups = [recordings[row] for row in rows.tolist()]
    values = []
    for columns in (slice(LEVEL), slice(None)):
        found = replace(table, probabilities=np.zeros_like(table.probabilities))
        alone = confound_probabilities(features[rows, columns], labels[rows], groups)
        if alone is None:
            return None, None
        found.probabilities[rows] = alone
        result = _figures(found, labels, recordings, rows, EvaluationConfig(bootstrap_resamples=0))
        values.append(result.metrics["auroc"].value)
    return values[0], values[1]


def _suspect_table(audit: Audit) -> str:
    """A table of events: `label` and `score` are the suggested class, so that "yes" in `review` accepts the suggestion."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    table, found = audit.table, audit.suspects
    for row, suggested, margin in zip(found.rows.tolist(), found.suggested.tolist(), found.margins.tolist(), strict=True):
        given = table.class_names.index(table.labels[row])
        start, end = float(np.nan_to_num(table.starts[row])), _end(table, row)
        p = table.probabilities[row]
        names = safe_cell(table.files[row]), safe_cell(table.class_names[suggested]), safe_cell(table.labels[row])
        writer.writerow([names[0], start, end, names[1], p[suggested], names[2], p[given], margin])
    return text.getvalue()


def _end(table: PredictionTable, row: int) -> float | str:
    """The end of a row, of a whole file its length; empty where that cannot be read."""
    if np.isfinite(table.ends[row]):
        return float(table.ends[row])
    try:
        return float(audio_info(table.files[row]).seconds)
    except AudioError:
        return ""


def _examples(audit: Audit, experiment: Experiment) -> list[Example]:
    """The surest suspects with their sound."""
    table, found, audio = audit.table, audit.suspects, experiment.audio
    examples = []
    for row, suggested in zip(found.rows[:SHOWN].tolist(), found.suggested[:SHOWN].tolist(), strict=True):
        start, limit = float(np.nan_to_num(table.starts[row])), experiment.data.heard_seconds
        seconds = min(limit, float(table.ends[row]) - start) if np.isfinite(table.ends[row]) else limit
        span = {"start_seconds": start, "seconds": seconds, "channel": audio.channel}
        try:
            sound = read(table.files[row], sample_rate=audio.sample_rate, **span)
        except AudioError:
            sound = None  # the page lists the clip without it
        name, p = table.class_names[suggested], float(table.probabilities[row, suggested])
        examples.append(Example(table.files[row], start, table.labels[row], name, p, sound, audio.sample_rate))
    return examples


def _numbers(audit: Audit) -> dict[str, Any]:
    numbers: dict[str, Any] = {**audit.whole.flat(), "suspects": len(audit.suspects.rows), "models": audit.models}
    numbers |= {f"{name}_without_suspects": value for name, value in audit.without.flat().items()}
    numbers |= {"auroc_level_alone": audit.level, "auroc_level_and_background": audit.background}
    for name, threshold in zip(audit.table.class_names, audit.suspects.thresholds.tolist(), strict=True):
        numbers |= {f"suspects:{name}": audit.suspects_of(name), f"confident_from:{name}": threshold}
    return numbers
