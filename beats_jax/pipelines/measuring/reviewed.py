"""From reviewed detections to a table of precision by threshold, which `detect --precision-table` uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from beats_jax.datasets.tables.reviews import NO, REVIEW_FILE, YES, read_reviews, standing
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.precision_table import (
    PrecisionTable,
    precision_table,
    threshold_for,
    wilson_interval,
    write_precision_table,
)
from beats_jax.pipelines.measuring.evaluate import new_folder

TABLE_FILE = "precision.csv"
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
    reviews = read_reviews(path, scored=True)
    places, last = {review.place for review in reviews}, standing(reviews)
    sure = [review for review in last.values() if review.verdict in (YES, NO)]
    again, unsure = len(reviews) - len(places), len(places) - len(sure)
    notes = [f"{unsure} detections without a verdict, or unsure, are left out."] if unsure else []
    notes += [f"{again} rows are of detections that were reviewed again; the last verdict counts."] if again else []
    return [one.label for one in sure], [one.score for one in sure], [one.verdict == YES for one in sure], notes
