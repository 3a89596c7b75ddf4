"""Labels given on a page: a table that `train` reads, to which several pages may add at once.

    time,reviewer,file,start,end,label        `label_settings` has the arguments of `train`

Every change reads the table, adds to it and replaces it whole, under a lock: a kill leaves the table before or after, and two
tabs lose nothing of each other's. One reviewer has one label for a window, the last one; reviewers may disagree.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from beats_jax.datasets.sources.text_table import read_table
from beats_jax.datasets.tables.cells import decimal
from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.spreadsheets import safe_cell

LABELS_FILE = "labels.csv"
COLUMNS = ("time", "reviewer", "file", "start", "end", "label")
LONGEST_LABEL = 200
LOCK_SECONDS = 20.0


class GivenLabel(NamedTuple):
    """A row of the table: `time` is ISO 8601 in UTC, `start` and `end` are seconds."""

    time: str
    reviewer: str
    file: str
    start: float
    end: float
    label: str

    @property
    def place(self) -> tuple[str, str, str]:
        """The window, with times as the table has them."""
        return self.file, decimal(self.start), decimal(self.end)


class LabelTable:
    """The table at `path`, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[GivenLabel]:
        """All labels, the oldest first. Raises `UserError` where the table is not one of ours."""
        if not self.path.is_file():
            return []
        table = read_table(self.path)
        table.require_columns(COLUMNS)
        cells = zip(*(table[name] for name in COLUMNS), strict=True)
        return [self._row(list(row), table.at(number)) for number, row in enumerate(cells)]

    def add(self, windows: Sequence[tuple[str, float, float]], label: str, reviewer: str) -> int:
        """Labels windows (file, start, end); returns how many the table has now.

        Raises:
          UserError: a label or name that is empty, too long or holds control characters; the table cannot be read or written.
        """
        label, reviewer = checked_text(label, "label"), checked_text(reviewer or "unknown", "reviewer")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return self._change([GivenLabel(now, reviewer, *window, label) for window in windows], reviewer)

    def remove(self, windows: Sequence[tuple[str, float, float]], reviewer: str) -> int:
        """Takes back a reviewer's labels of windows; returns how many the table has now. Raises `UserError` as `add`."""
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        return self._change([GivenLabel("", reviewer, *window, "") for window in windows], reviewer)

    def _change(self, changes: Sequence[GivenLabel], reviewer: str) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCK_SECONDS):
                places = {change.place for change in changes}
                kept = [row for row in self.rows() if row.reviewer != reviewer or row.place not in places]
                rows = [*kept, *(change for change in changes if change.label)]
                if rows:
                    write_text(self.path, _as_csv(rows))
                else:
                    self.path.unlink(missing_ok=True)  # a header alone is no table for `train`
        except Timeout as error:
            raise UserError(f"{self.path} is held by another process; try again") from error
        return len(rows)

    def _row(self, cells: list[str], where: str) -> GivenLabel:
        time, reviewer, file, start, end, label = cells
        try:
            return GivenLabel(time, reviewer, file, float(start), float(end), label)
        except ValueError as error:
            raise UserError(
                f"{where} has times {start!r} and {end!r}, which are no seconds; correct or remove the line"
            ) from error


def latest_labels(rows: Sequence[GivenLabel]) -> dict[tuple[str, str, str], str]:
    """Place → the label that was given last, by anybody."""
    return {row.place: row.label for row in rows}


def label_settings(path: Path) -> list[str]:
    """The arguments with which `train` reads a table of labels."""
    return ["--config.data.source=csv", f"--config.data.metadata_file={path.absolute()}", "--config.data.audio_column=file"]


def checked_text(text: str, what: str) -> str:
    """A checked label or name. Raises `UserError` for one that is empty, too long or holds control characters."""
    text = unicodedata.normalize("NFC", text).strip()
    if not text or len(text) > LONGEST_LABEL or any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise UserError(f"the {what} is {shown!r}; it must have 1 to {LONGEST_LABEL} characters, without line breaks")
    return text


def _as_csv(rows: Sequence[GivenLabel]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        file, start, end = row.place
        writer.writerow([row.time, *map(safe_cell, (row.reviewer, file)), start, end, safe_cell(row.label)])
    return text.getvalue()
