"""Annotations of the DCASE few-shot challenge (task 5): Audiofilename, Starttime, Endtime, then Q or a column for each class.

Cells are POS (an event of the class), NEG (not of it) or UNK (annotators could not decide). An undecided event has the label UNK
(column Q) or "CLASS UNK", in these and in any other table.
"""

from __future__ import annotations

import numpy as np

from beats_jax.datasets.sources.text_table import Table
from beats_jax.datasets.tables.cells import numbers
from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError

PLACES = ("Audiofilename", "Starttime", "Endtime")
POSITIVE, NEGATIVE, UNKNOWN = "POS", "NEG", "UNK"
ONE_CLASS = "Q"


def is_dcase(columns: Table) -> bool:
    """Whether a table has the columns of the challenge."""
    return all(name in columns for name in PLACES)


def is_undecided(labels: np.ndarray, label: str) -> np.ndarray:
    """bool [N]: events of which annotators could not say whether they are of this label."""
    return np.isin(labels, [UNKNOWN, f"{label} {UNKNOWN}"])


def any_undecided(labels: np.ndarray) -> np.ndarray:
    """bool [N]: undecided events of any label."""
    return np.array([label == UNKNOWN or label.endswith(f" {UNKNOWN}") for label in labels.tolist()], bool)


def dcase_events(table: Table) -> Events:
    """A row for each cell that is POS or UNK; the class of the column Q is called POS.

    Raises:
      UserError: no column of classes, or a cell that is none of the three.
    """
    classes = [name for name in table if name not in PLACES]
    if not classes:
        raise UserError(f"{table.name} has no column {ONE_CLASS} and none of a class")
    starts, ends = (numbers(table[name], name, table, needed=True) for name in PLACES[1:])
    if (backwards := np.flatnonzero(ends < starts)).size:
        raise UserError(f"{table.at(int(backwards[0]))}: Endtime is before Starttime")
    rows: list[int] = []
    labels: list[str] = []
    for name in classes:
        for row, cell in enumerate(table[name]):
            if cell not in (POSITIVE, NEGATIVE, UNKNOWN):
                raise UserError(f"{table.at(row)}: column {name!r} is {cell!r}; write POS, NEG or UNK")
            if cell == NEGATIVE:
                continue
            rows.append(row)
            own = name != ONE_CLASS
            labels.append({POSITIVE: name if own else POSITIVE, UNKNOWN: f"{name} {UNKNOWN}" if own else UNKNOWN}[cell])
    files = [table[PLACES[0]][row] for row in rows]
    return Events.from_columns(files, starts[rows], ends[rows], labels)
