"""The files of an evaluation: predictions.csv, recordings.csv, metrics.json, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

import beats_jax
from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.evaluation.metrics.result import summary_lines
from beats_jax.evaluation.predictions import PredictionTable, build_predictions, write_metrics, write_predictions
from beats_jax.evaluation.report.page import write_page
from beats_jax.evaluation.report.run import run_page
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.job import merge_errors
from beats_jax.pipelines.measuring.clips import Clips
from beats_jax.pipelines.measuring.measure import Measured
from beats_jax.pipelines.measuring.seen_rows import seen_figures
from beats_jax.pipelines.training.preparation import PreparedData
from beats_jax.pipelines.training.workdir import METRICS_FILE, write_text
from beats_jax.training.writers import read_rows

REPORT_FILE = "report.html"
REPORT_FILES = {"html": REPORT_FILE, "md": "RESULTS.md"}
PREDICTIONS_FILE = "predictions.csv"
RECORDINGS_FILE = "recordings.csv"
REPORTED_PACKAGES = ("jax", "flax", "optax", "grain", "orbax-checkpoint", "numpy")


def write_results(
    output: Path,
    experiment: Experiment,
    data: PreparedData,
    measured: Measured,
    *,
    command: str,
    history: Sequence[Mapping[str, Any]] = (),
    page: str = "html",
) -> None:
    """Writes predictions.csv, recordings.csv, the report and, last, metrics.json into `output`, and prints the figures.

    In a job of several processes the first one writes, and the others wait for it. page: html (report.html) | md (RESULTS.md).
    """
    merge_errors(data.errors)
    call_on_main(lambda: _write(output, experiment, data, measured, command=command, history=history, page=page))


def _write(output: Path, experiment: Experiment, data: PreparedData, measured: Measured, *, page: str, **fields: Any) -> None:
    metrics = {**measured.metrics, **seen_figures(data.seen, measured.rows)}
    evaluation, multi_label = experiment.evaluation, experiment.data.multi_label
    table = predictions_of(measured.rows, measured.probabilities, data.vocabulary.names, multi_label, evaluation.threshold)
    write_predictions(output / PREDICTIONS_FILE, table)
    # The recording or group of each row, by which a comparison resamples.
    codes = group_codes(measured.rows).tolist()
    write_text(output / RECORDINGS_FILE, "recording\n" + "".join(f"{code}\n" for code in codes))
    if page == "html":  # Markdown holds no clips: their files are not read again
        found = Clips(measured, experiment)
        fields |= {"worst_examples": found.worst_errors(), "confused": found.confused_pairs(), "gallery": found.gallery()}
    errors, report = data.errors.rows(), output / REPORT_FILES[page]
    content = run_page(
        title=measured.title,
        result=measured.result,
        data_summary=data_facts(data),
        settings=to_mapping(experiment),
        errors=errors,
        provenance=provenance(),
        analysis=measured.analysis,
        metrics=metrics,
        versions=versions(),
        folds=measured.folds,
        class_counts=data.report.splits,
        **fields,
    )
    write_page(report, content)
    write_metrics(output / METRICS_FILE, metrics)
    print("\n".join(summary_lines(measured.result)))
    if errors:
        print(f"{len(errors)} unusable files: {data.errors.path}")
    print(f"report: {report}", flush=True)


def predictions_of(
    rows: Manifest, probabilities: np.ndarray, class_names: Sequence[str], multi_label: bool, threshold: float
) -> PredictionTable:
    """The table of predictions for the rows of a manifest; probabilities: float [N, C]."""
    labels = [rows.labels[i] for i in range(len(rows))]
    files, marks = rows.files.tolist(), {"multi_label": multi_label, "threshold": threshold}
    return build_predictions(files, *rows.bounds(), labels, probabilities, class_names, **marks)


def data_facts(data: PreparedData) -> dict[str, str]:
    """The recordings in the report's words."""
    report = data.report
    facts = {
        "usable rows": f"{len(report.manifest)} of {report.rows_given}",
        "usable files": f"{sum(report.sample_rates.values())} of {report.files_given}",
        "duration": f"{report.total_seconds / 3600:.2f} h in all; files last {report.shortest_seconds:.2f} to "
        f"{report.longest_seconds:.2f} s, median {report.median_seconds:.2f} s",
        "sample rates": ", ".join(f"{number} at {rate} Hz" for rate, number in report.sample_rates.items()),
        "channels": ", ".join(f"{number} with {count}" for count, number in report.channels.items()),
        "encodings": ", ".join(f"{number} {kind}" for kind, number in report.encodings.items()),
    }
    return {**facts, **{f"note {i}": warning for i, warning in enumerate(report.warnings, start=1)}}


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """The learning curves of a run as rows {"step": 10, "train/loss": 1.2, ...}; empty where there are none."""
    short = {"train": "train", "validation": "val"}
    rows = []
    for row in read_rows(workdir / "history.jsonl"):
        split, names = short[row["split"]], [name for name in row if name not in ("step", "split", "timing")]
        rows.append({"step": row["step"], **{f"{split}/{name}": row[name] for name in names}})
    return rows


def versions() -> dict[str, str]:
    """Package -> version, for the report."""
    packages = {package: version(package) for package in REPORTED_PACKAGES}
    return {"beats_jax": beats_jax.__version__, "python": python_version(), **packages}
