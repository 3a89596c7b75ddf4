"""How often detections are right above each score, per label, from those that somebody has reviewed: a table to keep and reuse.

Reviewed detections are a sample; the interval at 95 % is Wilson's (1927), which holds for few clips and for shares near 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.config.rules import require
from beats_jax.datasets.sources.columns import number
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.spreadsheets import safe_cell

COLUMNS = ("label", "threshold", "precision", "precision_low", "precision_high", "right", "reviewed")
Z95 = 1.959963984540054
MOST_ROWS = 200  # thresholds of a label that are kept


@dataclass(frozen=True)
class PrecisionRow:
    """Of the detections with at least this score, `reviewed` were looked at and `right` of them are right."""

    threshold: float
    right: int
    reviewed: int

    @property
    def precision(self) -> float:
        """Share of right ones."""
        return self.right / self.reviewed

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the precision."""
        return wilson_interval(self.right, self.reviewed)


PrecisionTable = Mapping[str, tuple[PrecisionRow, ...]]  # label → rows by rising threshold


def wilson_interval(right: int, reviewed: int) -> tuple[float, float]:
    """95 % interval of a share, in [0, 1]; (0, 1) where nothing was counted."""
    if reviewed == 0:
        return 0.0, 1.0
    share, scale = right / reviewed, Z95**2 / reviewed
    middle, half = share + scale / 2, Z95 * math.sqrt(share * (1 - share) / reviewed + scale / (4 * reviewed))
    low, high = (middle - half) / (1 + scale), (middle + half) / (1 + scale)
    return (0.0 if right == 0 else max(0.0, low)), (1.0 if right == reviewed else min(1.0, high))


def precision_table(labels: Sequence[str], scores: np.ndarray, right: np.ndarray) -> PrecisionTable:
    """The table of reviewed detections.

    Args:
      labels: [N]. scores: float [N]. right: bool [N], the verdict.
    Returns:
      a row for each score that occurs (evenly chosen ones where there are more than `MOST_ROWS`), by rising threshold.
    Raises:
      ValueError: columns of different lengths, or a score that is not finite.
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    if not len(labels) == len(scores) == len(right) or not np.isfinite(scores).all():
        raise ValueError("labels, scores and verdicts must be of one length, and scores finite")
    names = np.array(labels, dtype=np.dtypes.StringDType())
    table: dict[str, tuple[PrecisionRow, ...]] = {}
    for label in sorted(set(names.tolist())):
        own = np.flatnonzero(names == label)
        order = own[np.argsort(-scores[own], kind="stable")]
        hits = np.cumsum(right[order])
        last = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
        if len(last) > MOST_ROWS:
            last = last[np.linspace(0, len(last) - 1, MOST_ROWS).round().astype(np.int64)]
        rows = [PrecisionRow(float(scores[order][place]), int(hits[place]), int(place) + 1) for place in last]
        table[label] = tuple(reversed(rows))
    return table


def threshold_for(rows: Sequence[PrecisionRow], wanted: float, *, sure: bool = False) -> float | None:
    """The lowest threshold from which on the precision is at least `wanted`; None where no threshold reaches it.

    Args:
      sure: ask it of the lower end of the interval, not of the share itself.
    Raises:
      UserError: `wanted` is no share.
    """
    require(0 < wanted <= 1, f"the wanted precision is {wanted}; it must be in (0, 1]")
    reached = [row.threshold for row in rows if (row.interval[0] if sure else row.precision) >= wanted]
    return min(reached, default=None)


def precision_above(rows: Sequence[PrecisionRow], threshold: float) -> PrecisionRow | None:
    """The reviewed detections with at least this score; None where there are none."""
    return next((row for row in rows if row.threshold >= threshold), None)


def write_precision_table(table: PrecisionTable, path: Path) -> None:
    """Writes it as CSV with the columns of `COLUMNS`. Raises `UserError` where that cannot be done."""
    lines = [",".join(COLUMNS)]
    for label, rows in table.items():
        quoted = '"' + safe_cell(label).replace('"', '""') + '"'
        for row in rows:
            low, high = row.interval
            figures = f"{row.precision:.6g},{low:.6g},{high:.6g}"
            lines.append(f"{quoted},{row.threshold!r},{figures},{row.right},{row.reviewed}")
    write_text(path, "\n".join([*lines, ""]))


def read_precision_table(path: Path) -> PrecisionTable:
    """What `write_precision_table` wrote; of each row the label, the threshold and both counts are read.

    Raises:
      UserError: it is another table, or has impossible numbers; the line is named.
    """
    cells = read_table(path)
    if missing := [name for name in ("label", "threshold", "right", "reviewed") if name not in cells]:
        raise UserError(f"{path} has no column {missing[0]!r}; a table of precision has {', '.join(COLUMNS)}")
    found: dict[str, list[PrecisionRow]] = {}
    for line, label, *texts in zip(
        cells.lines, *(cells[name] for name in ("label", "threshold", "right", "reviewed")), strict=True
    ):
        threshold, right, reviewed = (number(text, decimal_comma=cells.decimal_comma) for text in texts)
        if not (0 <= right <= reviewed and reviewed >= 1 and float(right).is_integer() and float(reviewed).is_integer()):
            raise UserError(f"{path} line {line}: {texts[1]!r} of {texts[2]!r} right is no count; restore the table")
        if math.isnan(threshold):
            raise UserError(f"{path} line {line}: the threshold {texts[0]!r} is no number; restore the table")
        found.setdefault(label, []).append(PrecisionRow(threshold, int(right), int(reviewed)))
    return {label: tuple(sorted(rows, key=lambda row: row.threshold)) for label, rows in found.items()}
