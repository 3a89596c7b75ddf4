"""Tables of one row an event in CSV and Parquet: ours, BirdNET's, HawkEars', Kaleidoscope's and any other with named columns."""

from __future__ import annotations

import csv
import io
import ntpath
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from beats_jax.datasets.sources.text_table import Table, name_columns, read_table
from beats_jax.datasets.tables.cells import ReadOptions, decimal, events_of_columns, list_columns, make_events, numbers, safe_text
from beats_jax.datasets.tables.dcase import dcase_events, is_dcase
from beats_jax.datasets.tables.events import COLUMNS, NUMBERS, Events
from beats_jax.datasets.tables.raven import is_raven, raven_events
from beats_jax.errors import UserError
from beats_jax.files import whole_file, write_text

_REFUSED = "\r\0"
OURS = {name: name for name in COLUMNS}
BIRDNET = {  # of version 3; ours are not scientific names, so both columns of names have them
    "start": "Start (s)",
    "end": "End (s)",
    "label": ("Scientific name", "Common name"),
    "score": "Confidence",
    "file": "File",
}
HAWKEARS = {"file": "recording", "label": "name", "start": "start_time", "end": "end_time", "score": "score"}
KALEIDOSCOPE_LABELS = ("MANUAL ID", "TOP1MATCH", "AUTO ID*", "AUTO ID", "common_name", "scientific_name")


def read_delimited(path: Path, options: ReadOptions) -> Events:
    """Events of any table with a header; columns are found by their names (`cells.MEANINGS`), or are those of DCASE task 5 or
    of Raven, whose tables spreadsheets and R save with other separators and with quotes.

    Raises:
      UserError: what `read_table`, `events_of_columns` and `raven_events` raise.
    """
    table = read_table(path, may_be_empty=True)
    return dcase_events(table) if is_dcase(table) else _named_events(table, options, path)


def _named_events(table: Table, options: ReadOptions, path: Path) -> Events:
    return raven_events(table, options, path) if is_raven(table) else events_of_columns(table, options, beside=path)


def read_kaleidoscope(path: Path, options: ReadOptions) -> Events:
    """Events of a cluster.csv or id.csv of Kaleidoscope, or of a table that BirdNET writes for it.

    The label is MANUAL ID where somebody has written one, else what the program found. Frequencies of an id.csv (bats) are in
    kHz, those of a cluster.csv in Hz. TOP1DIST is a distance, no score.

    Raises:
      UserError: as `read_delimited`; no column IN FILE, OFFSET or DURATION.
    """
    table = read_table(path, may_be_empty=True)
    for name in ("IN FILE", "OFFSET", "DURATION"):
        if name not in table:
            raise UserError(f"{path} has no column {name!r}, as tables of Kaleidoscope do; columns: {list_columns(table)}")
    blank = [""] * len(table["IN FILE"])
    rows = zip(table.get("INDIR", blank), table.get("FOLDER", blank), table["IN FILE"], strict=True)
    files = [_join(parts) for parts in rows]
    read = partial(numbers, table=table)
    starts, lengths = (read(table[name], name, needed=True) for name in ("OFFSET", "DURATION"))
    scores = next((read(table[name], name, needed=False) for name in ("SCORE", "confidence") if name in table), None)
    factor = 1000.0 if "PULSES" in table else 1.0
    bounds = {
        meaning: read(table[name], name, needed=False) * factor
        for meaning, name in (("low_hz", "Fmin"), ("high_hz", "Fmax"))
        if name in table
    }
    labels = _kaleidoscope_labels(table, options)
    ends = np.maximum(np.round(starts + lengths, 6), starts)  # a microsecond is less than a sample
    return make_events(files, starts, ends, labels, table, bounds if scores is None else {**bounds, "score": scores})


def _kaleidoscope_labels(table: Table, options: ReadOptions) -> list[str]:
    asked = options.columns.get("label")
    names = [name for name in ((asked,) if asked else KALEIDOSCOPE_LABELS) if name in table]
    if options.label:
        return [options.label] * len(table["IN FILE"])
    if not names:
        raise UserError(f"{table.name} has no column {asked or 'MANUAL ID'!r} of labels; columns: {list_columns(table)}")
    return [next((cell for cell in cells if cell), "") for cells in zip(*(table[name] for name in names), strict=True)]


def _join(parts: Sequence[str]) -> str:
    """INDIR, FOLDER and IN FILE as one path, with the separator that INDIR has."""
    kept = [part for part in parts if part]
    join = ntpath.join if kept and "\\" in kept[0] else os.path.join
    return join(*kept) if kept else ""


def write_delimited(
    events: Events, folder: Path, recordings: Mapping[str, float], *, name: str, columns: Mapping[str, str | tuple[str, ...]]
) -> list[Path]:
    """One CSV for all recordings, with a header even if there are no events.

    Args:
      columns: name of the column by meaning; several names = the same cell in each.
    Raises:
      UserError: a text that would not come back as it is.
    """
    data = events.columns()
    known = {
        meaning: data[meaning] for meaning in columns if meaning not in ("low_hz", "high_hz") or np.isfinite(data[meaning]).any()
    }
    names = {meaning: [named] if isinstance(named := columns[meaning], str) else list(named) for meaning in known}
    header = [column for found in names.values() for column in found]
    cells = []
    for meaning, values in known.items():
        text = [_cell(value, meaning) for value in values.tolist()]
        cells += [text] * len(names[meaning])
    return [_write_csv(folder / name, header, list(zip(*cells, strict=True)))]


def _cell(value: str | float, meaning: str) -> str:
    if meaning in NUMBERS:
        return decimal(float(value))
    return safe_text(str(value), meaning, refused=_REFUSED)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def write_kaleidoscope(events: Events, folder: Path, recordings: Mapping[str, float]) -> list[Path]:
    """`kaleidoscope.csv`, which Kaleidoscope opens as results: the label is TOP1MATCH, the score stands in a column SCORE.

    Raises:
      UserError: a text that would not come back as it is.
    """
    rows = []
    for file, start, end, label, score, low, high in zip(*(column.tolist() for column in events.columns().values()), strict=True):
        place, name = os.path.split(file)
        texts = [safe_text(text, "file", refused=_REFUSED) for text in (place, name)]
        found = [decimal(value) for value in (start, round(end - start, 6), low, high)]
        rows.append([texts[0], "", texts[1], "1", *found, safe_text(label, "label", refused=_REFUSED), decimal(score), ""])
    header = ["INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION", "Fmin", "Fmax", "TOP1MATCH", "SCORE", "MANUAL ID"]
    return [_write_csv(folder / "kaleidoscope.csv", header, rows)]


def read_parquet(path: Path, options: ReadOptions) -> Events:
    """Events of a Parquet file, ours or BirdNET's; columns are found by their names.

    Raises:
      UserError: it is no Parquet, or what `events_of_columns` and `raven_events` raise.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    cells = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
    columns, repeated = name_columns(table.column_names, cells)
    return _named_events(Table(columns, str(path), repeated=repeated), options, path)


def write_parquet(events: Events, folder: Path, recordings: Mapping[str, float]) -> list[Path]:
    """`detections.parquet` with the columns of `events.COLUMNS`; what is not known is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: pa.array(column, pa.float64(), from_pandas=True) if name in NUMBERS else pa.array(column.tolist(), pa.string())
        for name, column in events.columns().items()
    }
    path = folder / "detections.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        pq.write_table(pa.table(arrays), file)
    return [path]
