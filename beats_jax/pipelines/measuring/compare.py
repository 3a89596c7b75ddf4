"""Compares two runs on the same examples: which is better, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import Experiment, to_mapping
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.comparison import Comparison, compare_predictions, require_same_examples
from beats_jax.evaluation.predictions import SEPARATOR, PredictionTable, read_predictions
from beats_jax.evaluation.report.comparison import comparison_page
from beats_jax.evaluation.report.page import write_page
from beats_jax.files import read_text
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.evaluate import new_folder
from beats_jax.pipelines.measuring.write import PREDICTIONS_FILE, RECORDINGS_FILE, versions
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, differing_settings, read_experiment, write_json

PAGE_FILE, MARKDOWN_FILE, NUMBERS_FILE = "comparison.html", "COMPARISON.md", "comparison.json"


def compare_runs(first: Path, second: Path, output: Path, *, page: str = "html", command: str = "") -> Comparison:
    """Compares the predictions of two runs (or of two `evaluate` outputs) on the same rows.

    Writes comparison.json and comparison.html (or COMPARISON.md) into `output`, a new or empty folder, and prints the findings.

    Raises:
      UserError: a folder without predictions.csv, other examples, labels or classes, an `output` in use.
    """
    # Tables only: neither audio nor a model is needed, and outputs of `evaluate` can be compared too.
    one, two = (read_run_predictions(run) for run in (first, second))
    two = in_the_order_of(one, two, second)
    try:
        require_same_examples(*({"classes": t.class_names, "files": t.files, "labels": t.labels} for t in (one, two)))
    except ValueError as error:
        raise UserError(f"{first} and {second} cannot be compared: {error}") from error
    settings = [_settings(run) for run in (first, second)]
    multi_label = any(bool(found.get("data", {}).get("multi_label")) for found in settings)
    how = Experiment().evaluation if not settings[0] else read_experiment(first).evaluation
    labels, recordings = label_numbers(first, one, multi_label), recordings_of(first, one)
    try:
        found = compare_predictions(
            labels, one.probabilities, two.probabilities, recordings,
            multi_label=multi_label, threshold=how.threshold, resamples=how.bootstrap_resamples,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{first} and {second} cannot be compared: {error}; measure them again") from error
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    differing = [line.replace(" was ", f": {names[0]} ", 1).replace(", now ", f", {names[1]} ", 1)
                 for line in differing_settings(settings[0], settings[1])]  # fmt: skip
    path = output / (MARKDOWN_FILE if page == "md" else PAGE_FILE)
    with new_folder(output):
        content = comparison_page(
            found, names, one.class_names, multi_label=multi_label, differing=differing, command=command, versions=versions(),
            provenance=provenance(),
        )  # fmt: skip
        write_page(path, content)
        write_json(output / NUMBERS_FILE, _numbers(found, names, one.class_names))
    print("\n".join(content.findings))
    print(f"comparison: {path}", flush=True)
    return found


def read_run_predictions(run: Path) -> PredictionTable:
    """predictions.csv of a finished run, or of an output of `evaluate`. Raises `UserError` if there is none."""
    if not (run / PREDICTIONS_FILE).is_file():
        raise UserError(f"{run} holds no {PREDICTIONS_FILE}; give a finished run, or an output of evaluate")
    return read_predictions(run / PREDICTIONS_FILE)


def _keys(table: PredictionTable) -> list[tuple[str, float, float]]:
    starts, ends = np.nan_to_num(table.starts), np.nan_to_num(table.ends, nan=-1.0)  # start and end of the file
    return list(zip(table.files, starts.tolist(), ends.tolist(), strict=True))


def in_the_order_of(first: PredictionTable, second: PredictionTable, run: Path) -> PredictionTable:
    """The second table with its rows in the order of the first (folds may come in another one).

    Raises:
      UserError: other rows than those of the first.
    """
    places = {key: row for row, key in enumerate(_keys(second))}
    wanted = _keys(first)
    missing = [key for key in wanted if key not in places]
    if missing or len(places) != len(set(wanted)):
        example = missing[0] if missing else next(key for key in places if key not in set(wanted))
        raise UserError(
            f"{run} was measured on other rows: {len(missing)} of {len(wanted)} are missing, {len(places)} there, for example "
            f"{example[0]} at {example[1]:g} s; compare runs on the same data"
        )
    rows = [places[key] for key in wanted]
    return PredictionTable(
        files=tuple(second.files[row] for row in rows),
        starts=second.starts[rows],
        ends=second.ends[rows],
        labels=tuple(second.labels[row] for row in rows),
        predictions=tuple(second.predictions[row] for row in rows),
        class_names=second.class_names,
        probabilities=second.probabilities[rows],
    )


def label_numbers(run: Path, table: PredictionTable, multi_label: bool) -> np.ndarray:
    """int64 [N] class numbers, or 0/1 [N, C]. Raises `UserError` for a label without a column."""
    place = {name: number for number, name in enumerate(table.class_names)}
    names = [[name for name in label.split(SEPARATOR) if name] if multi_label else [label] for label in table.labels]
    if unknown := sorted({name for row in names for name in row} - place.keys()):
        raise UserError(f"{run / PREDICTIONS_FILE} has the label {unknown[0]!r} but no column for it; measure the run again")
    if not multi_label:
        return np.array([place[name] for (name,) in names], np.int64)
    marks = np.zeros(table.probabilities.shape, np.int64)
    for row, found in enumerate(names):
        marks[row, [place[name] for name in found]] = 1
    return marks


def recordings_of(run: Path, table: PredictionTable) -> list[str]:
    """The units that the bootstrap draws whole: the run's own list, otherwise the files."""
    path = run / RECORDINGS_FILE
    if not path.is_file():
        return list(table.files)
    codes = read_text(path, remedy="measure the run again").split()[1:]
    if len(codes) != len(table.files):
        raise UserError(f"{path} has {len(codes)} rows and {PREDICTIONS_FILE} {len(table.files)}; measure the run again")
    return codes


def _settings(run: Path) -> dict[str, Any]:
    """Settings of the run; empty for an output of `evaluate`, which has none."""
    return to_mapping(read_experiment(run)) if (run / EXPERIMENT_FILE).is_file() else {}


def _numbers(found: Comparison, names: tuple[str, str], classes: tuple[str, ...]) -> dict[str, Any]:
    by_class = {name: dict(zip(classes, map(asdict, values), strict=True)) for name, values in found.classes.items()}
    metrics = {name: asdict(change) for name, change in found.metrics.items()}
    mcnemar = None if found.mcnemar is None else asdict(found.mcnemar)
    facts = {"first": names[0], "second": names[1], "n": found.n, "groups": found.num_groups}
    return {**facts, "metrics": metrics, "mcnemar": mcnemar, "classes": by_class}
