"""review.csv: what somebody decided on detections, a line each.

    file,start,end,label,score,verdict,other_label,reviewer,time

`verdict` is yes (the label is right), no, unsure, or blank (an earlier verdict is taken back). With no, `other_label` may be the
right one. Lines are only ever added: the last one on a detection counts, whoever wrote it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.datasets.tables.cells import decimal, numbers
from beats_jax.errors import UserError
from beats_jax.spreadsheets import safe_cell

REVIEW_FILE = "review.csv"
COLUMNS = ("file", "start", "end", "label", "score", "verdict", "other_label", "reviewer", "time")
YES, NO, UNSURE, TAKEN_BACK = "yes", "no", "unsure", ""
VERDICTS = (YES, NO, UNSURE, TAKEN_BACK)

Place = tuple[str, str, str, str]  # file, start, end, label as they stand in a table


class Review(NamedTuple):
    """A line. start, end: seconds. score: NaN = unknown. time: ISO 8601 in UTC."""

    file: str
    start: float
    end: float
    label: str
    score: float
    verdict: str
    other_label: str = ""
    reviewer: str = ""
    time: str = ""

    @property
    def place(self) -> Place:
        """The detection that it is about."""
        return place_of(self.file, self.start, self.end, self.label)


def place_of(file: str, start: float, end: float, label: str) -> Place:
    """A detection as the key by which its reviews are found."""
    return file, decimal(start), decimal(end), label


def read_reviews(path: Path, *, scored: bool = False) -> list[Review]:
    """All lines, the oldest first; score, other_label, reviewer and time may be absent from the table.

    Args:
      scored: refuse a verdict yes or no without its score.
    Raises:
      UserError: a column is missing, a time or score is no number, or there is another verdict; the line is named.
    """
    table = read_table(path)
    table.require_columns(["file", "start", "end", "label", *(["score"] if scored else []), "verdict"])
    rows = len(table["file"])
    starts, ends = (numbers(table[name], name, table, needed=True).tolist() for name in ("start", "end"))
    blank = [""] * rows
    scores = numbers(table.get("score", blank), "score", table, needed=False).tolist()
    texts = zip(
        *(table.get(name, blank) for name in ("file", "label", "verdict", "other_label", "reviewer", "time")), strict=True
    )
    found = []
    for row, (file, label, verdict, *others) in enumerate(texts):
        _check(table, row, file, label, verdict.lower(), others[0])
        if scored and verdict.lower() in (YES, NO) and math.isnan(scores[row]):
            raise UserError(f"{table.at(row)}: the score is {table['score'][row]!r}; every reviewed detection needs its score")
        found.append(Review(file, starts[row], ends[row], label, scores[row], verdict.lower(), *others))
    return found


def _check(table: Table, row: int, file: str, label: str, verdict: str, other_label: str) -> None:
    if verdict not in VERDICTS:
        raise UserError(f"{table.at(row)}: the verdict is {verdict!r}; write yes, no or unsure")
    if other_label and verdict != NO:
        raise UserError(f"{table.at(row)}: other_label is {other_label!r} and the verdict {verdict!r}; another label needs no")
    if not file or not label:
        raise UserError(f"{table.at(row)}: the {'label' if file else 'file'} is blank; fill it in")
    if "time" in table and not verdict and not table["time"][row]:
        raise UserError(f"{table.at(row)} is not whole; `python -m beats_jax.review` repairs the table")


def standing(reviews: Iterable[Review]) -> dict[Place, Review]:
    """The verdict that counts on each detection: the last; none where it was taken back. In the order of their times."""
    last: dict[Place, Review] = {}
    for review in reviews:
        last.pop(review.place, None)
        if review.verdict != TAKEN_BACK:
            last[review.place] = review
    return last


def review_lines(reviews: Iterable[Review], *, header: bool) -> bytes:
    """Lines of the table, whole ones. `time` comes last, so that a line which a kill cut off is known by what it lacks."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for review in reviews:
        file, start, end, label = review.place
        texts = [safe_cell(text) for text in (review.other_label, review.reviewer)]
        writer.writerow(
            [safe_cell(file), start, end, safe_cell(label), decimal(review.score), review.verdict, *texts, review.time]
        )
    return text.getvalue().encode("utf-8", "surrogateescape")
