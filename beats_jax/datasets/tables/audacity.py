"""Label tracks of Audacity: start, end and label with tabs between them, and a second line with frequencies where there are any.

    1.5<tab>2.25<tab>Turdus merula
    \\<tab>1200<tab>8000                   (-1 = not known)

BirdNET adds a fourth cell, the confidence, which Audacity ignores; HawkEars writes "CODE;0.91" as the label. Format:
manual.audacityteam.org, "Importing and exporting labels". A label track holds the labels of one recording and no name of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from beats_jax.datasets.sources.text_table import Table
from beats_jax.datasets.tables.cells import (
    ReadOptions,
    decimal,
    make_events,
    numbers,
    recording_of,
    safe_text,
    table_names,
    write_tables,
)
from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.files import read_text
from beats_jax.spreadsheets import original_cell

ENDING = ".labels.txt"
_HAWKEARS = re.compile(r"(.+);(0(?:\.\d+)?|1(?:\.0+)?)")
_REFUSED = "\t\r\n\0"


def read_hawkears(path: Path, options: ReadOptions) -> Events:
    """A label track of HawkEars, whose labels end with the score. Raises `UserError` as `read_audacity`."""
    events = read_audacity(path, options)
    parts = [_HAWKEARS.fullmatch(label) for label in events.labels.tolist()]
    labels = [found[1] if found else label for found, label in zip(parts, events.labels.tolist(), strict=True)]
    scores = [float(found[2]) if found else score for found, score in zip(parts, events.scores.tolist(), strict=True)]
    bounds = {"low_hz": events.low_hz, "high_hz": events.high_hz}
    return Events.from_columns(events.files, events.starts, events.ends, labels, scores=scores, **bounds)


def read_audacity(path: Path, options: ReadOptions) -> Events:
    """The labels of a track; a point label is an event of no length.

    Raises:
      UserError: no UTF-8 text, a line without start and end, frequencies without a label above them, or a cell that is no number.
    """
    lines = read_text(path, remedy="export the labels again").replace("\r\n", "\n").split("\n")
    rows: list[list[str]] = []
    at: list[int] = []
    for number, line in enumerate(lines, start=1):
        cells = line.split("\t")
        if line.startswith("\\"):
            if not rows or len(cells) < 3 or len(rows[-1]) > 4:
                raise UserError(f"{path} line {number} has frequencies, but no label stands above it; export the labels again")
            rows[-1] += [""] * (4 - len(rows[-1])) + cells[1:3]
        elif line.strip():
            if len(cells) < 2:
                raise UserError(
                    f"{path} line {number} is {line[:60]!r}; a label has a start, an end and a text with tabs between them"
                )
            rows.append([*cells[:4], *[""] * (3 - len(cells))])
            at.append(number)
    table = Table({}, str(path), at, decimal_comma=True)
    columns = [[row[place] if place < len(row) else "" for row in rows] for place in range(6)]
    starts, ends = (numbers(columns[place], name, table, needed=True) for place, name in enumerate(("start", "end")))
    scores, low, high = (
        numbers(columns[place], name, table, needed=False) for place, name in ((3, "score"), (4, "low"), (5, "high"))
    )
    labels = [options.label or original_cell(label.strip()) for label in columns[2]]
    low, high = (np.where(bound < 0, np.nan, bound) for bound in (low, high))
    files = [options.recording or recording_of(path)] * len(rows)
    return make_events(files, starts, ends, labels, table, {"score": scores, "low_hz": low, "high_hz": high})


def write_audacity(events: Events, folder: Path, recordings: Mapping[str, float]) -> list[Path]:
    """A label track for each recording, in `folder/audacity`. Audacity keeps no scores.

    Args:
      recordings: file → its length in seconds; also those without events get a file.
    Raises:
      UserError: an event of another recording, or a label with a tab or line break.
    """
    rows_of = events.rows_of()
    if stranger := next((file for file in rows_of if file not in recordings), None):
        raise UserError(f"an event is of {stranger!r}, which is none of the {len(recordings)} recordings")
    texts: dict[Path, str] = {}
    for file, name in table_names(list(recordings), ENDING).items():
        lines = []
        for row in rows_of.get(file, ()):
            label = safe_text(str(events.labels[row]), "label", refused=_REFUSED)
            lines.append(f"{decimal(float(events.starts[row]))}\t{decimal(float(events.ends[row]))}\t{label}")
            bounds = [decimal(float(bound[row])) or "-1" for bound in (events.low_hz, events.high_hz)]
            if bounds != ["-1", "-1"]:
                lines.append("\t".join(["\\", *bounds]))
        texts[folder / "audacity" / name] = "".join(f"{line}\n" for line in lines)
    return write_tables(texts)
