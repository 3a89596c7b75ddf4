"""From reviewed detections to a table of precision by threshold, which `detect --precision-table` uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from beats_jax.datasets.sources.columns import number
from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.precision_table import (
    PrecisionTable,
    precision_table,
    threshold_for,
    wilson_interval,
    write_precision_table,
)
from beats_jax.pipelines.measuring.evaluate import new_folder

TABLE_FILE, REVIEW_FILE = "precision.csv", "review.csv"
VERDICTS = {"yes": True, "no": False, "unsure": None, "": None}
WANTED = 0.9


def write_precision_of(reviewed: Path, output: Path) -> PrecisionTable:
    """Writes precision.csv into `output`, a new or empty folder, and prints how often each label is right.

    Args:
      reviewed: a table with the columns file, start, end, label, score and verdict (yes, no, unsure or blank), or the folder
        that holds it as review.csv.
    Raises:
      UserError: a column is missing, a score is no number, another verdict, nothing reviewed, or an `output` in use.
    """
    path = reviewed / REVIEW_FILE if reviewed.is_dir() else reviewed
    labels, scores, right, notes = read_reviewed(path)
    if not labels:
        raise UserError(f"{path} has no verdict yes or no; review some detections first")
    table = precision_table(labels, np.array(scores), np.array(right, bool))
    with new_folder(output):
        write_precision_table(table, output / TABLE_FILE)
    for note in notes:
        print(note)
    for label, rows in table.items():
        hits, reached = rows[0], threshold_for(rows, WANTED)
        low, high = wilson_interval(hits.right, hits.reviewed)
        at = "no threshold reaches 0.9" if reached is None else f"from a score of {reached:g} on at least {WANTED:g}"
        print(f"{label}: {hits.right} of {hits.reviewed} right, {hits.precision:.3f} [{low:.3f}, {high:.3f}]; {at}")
    print(f"{output / TABLE_FILE}: for detect --precision-table", flush=True)
    return table


def read_reviewed(path: Path) -> tuple[list[str], list[float], list[bool], list[str]]:
    """(labels, scores, right) of the detections with a verdict, each once, and sentences on the others.

    Raises:
      UserError: see `write_precision_of`; the line is named.
    """
    table = read_table(path)
    table.require_columns(["file", "start", "end", "label", "score", "verdict"])
    last: dict[tuple[str, ...], tuple[str, float, bool] | None] = {}
    rows = zip(*(table[name] for name in ("file", "start", "end", "label", "score", "verdict")), strict=True)
    for row, (file, start, end, label, score, verdict) in enumerate(rows):
        if verdict.lower() not in VERDICTS:
            raise UserError(f"{table.at(row)}: the verdict is {verdict!r}; write yes, no or unsure")
        decided = VERDICTS[verdict.lower()]
        found = None if decided is None else (label, _score(score, table, row), decided)
        last[file, start, end, label] = found  # reviewed again: the last verdict counts
    sure = [found for found in last.values() if found is not None]
    again, unsure = len(table["file"]) - len(last), len(last) - len(sure)
    notes = [f"{unsure} detections without a verdict, or unsure, are left out."] if unsure else []
    notes += [f"{again} rows are of detections that were reviewed again; the last verdict counts."] if again else []
    return [label for label, _, _ in sure], [score for _, score, _ in sure], [right for _, _, right in sure], notes


def _score(cell: str, table: Table, row: int) -> float:
    value = number(cell, decimal_comma=table.decimal_comma)
    if not np.isfinite(value):
        raise UserError(f"{table.at(row)}: the score is {cell!r}; every reviewed detection needs its score")
    return value
