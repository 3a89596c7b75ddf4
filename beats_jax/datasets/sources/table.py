"""Tables of recordings: CSV (or semicolon- or tab-separated text) with any column names.

Every cell is read as text: a label column with numbers and words is a column of words ("1" and "01" stay different).
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beats_jax.audio.tfds_records import is_present, is_record
from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.folds import OWN_GROUPS
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import normalise_split
from beats_jax.errors import UserError

NO_TIME = ("", "nan", "na", "n/a", "none", "null")
Table = dict[str, list[str]]


@dataclass(frozen=True)
class Origin:
    """How messages call a table and its rows: `name`, and "line 2" for the first row of a text file."""

    name: str
    row_word: str = "line"
    first_row: int = 2

    def at(self, row: int) -> str:
        """A row, counted from 0, by the name under which the user finds it."""
        return f"{self.name} {self.row_word} {row + self.first_row}"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """The rows of `data.metadata_file`; see `load_table`."""
    if not data.metadata_file:
        raise UserError("data.metadata_file is empty; data.source 'csv' needs the table of file names and labels")
    return load_table(Path(data.metadata_file).expanduser(), data)


def load_table(path: Path, data: DataConfig) -> Manifest:
    """A manifest from a table.

    File names may be absolute, or relative to `data.root` (without it, the table's folder) or to the folder `audio` in it;
    Windows separators are understood. A file that is not there stays in the manifest: validation lists it. Blank start and end
    cells mean start and end of the file. With `multi_label` a cell holds a list (see `parse_labels`), and a blank one none.

    Raises:
      UserError: the table is absent, unreadable or empty, a named column is missing, a label is blank without `multi_label`, a
        time is not a number, a split is unknown, or no file exists.
    """
    return manifest_from_table(read_table(path), data, Origin(str(path)), path.parent)


def manifest_from_table(table: Table, data: DataConfig, origin: Origin, folder: Path) -> Manifest:
    """A manifest from columns of texts; `load_table` says how cells are read. `folder` stands in for an empty `data.root`."""
    by = "" if data.fold_by in OWN_GROUPS and data.fold_by not in table else data.fold_by
    optional = (data.start_column, data.end_column, data.split_column, data.group_column, by)
    require_columns(table, (data.audio_column, data.label_column, *(name for name in optional if name)), origin.name)
    files = resolved_files(table[data.audio_column], Path(data.root).expanduser() if data.root else folder, origin)
    labels = [_row_labels(cell, data, origin.at(row)) for row, cell in enumerate(table[data.label_column])]
    if not data.multi_label:
        _refuse_hidden_lists(labels, origin.name)
    splits = [_split(cell, origin.at(row)) for row, cell in enumerate(table[data.split_column])] if data.split_column else None
    return Manifest.from_columns(
        files,
        labels,
        starts=_seconds(table, data.start_column, origin),
        ends=_seconds(table, data.end_column, origin),
        splits=splits,
        groups=table[data.group_column] if data.group_column else None,
        metadata={name: table[name] for name in ("fold", by) if name in table},
    )


def read_table(path: Path) -> Table:
    """Columns of texts from a CSV; the separator (comma, semicolon or tab) is the one that occurs most in the first line.

    Raises:
      UserError: absent, not UTF-8 text, not a table, or no row in it.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"table {path} does not exist; check the path")
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise UserError(f"table {path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise UserError(
            f"table {path} cannot be read: {' '.join(str(error).split())}; save it as CSV with a header line"
        ) from error
    if not len(frame):
        raise UserError(f"table {path} has no rows below its header; give at least one recording per class")
    if not isinstance(frame.index, pd.RangeIndex):
        raise UserError(
            f"table {path} has more cells in its rows than in its header; put quotes around cells that hold {separator!r}"
        )
    # a row with too few cells comes back with NaN in the missing ones
    return {str(name).strip(): [str(cell).strip() for cell in frame[name].fillna("")] for name in frame.columns}


def resolved_files(names: Sequence[str], base: Path, origin: Origin) -> list[str]:
    """Paths of the files named in a table, below `base` or `base/audio` unless absolute. Raises `UserError` when none exists."""
    folders = [base, base / "audio"]
    files = [_resolve(name, folders, origin.at(row)) for row, name in enumerate(names)]
    require_some_exist(files, folders, origin.name)
    return files


def require_columns(table: Table, names: Sequence[str], where: str | Path) -> None:
    """Raises `UserError` naming the columns there are unless the table has all of `names`."""
    for name in names:
        if name not in table:
            close = nearest(name, list(table))
            hint = f"{close} " if close.startswith("did") else ""
            raise UserError(f"{where} has no column {name!r}; {hint}columns: {', '.join(table)}")


def require_some_exist(files: Sequence[str], folders: Sequence[Path], where: str | Path) -> None:
    """Raises `UserError` naming the folders that were searched when none of the files is there."""
    if not any(is_present(name) for name in files):
        places = " and ".join(str(folder) for folder in folders)
        raise UserError(
            f"none of the {len(files)} files of {where} exists, for example {files[0]}; looked in {places}; set data.root"
        )


def parse_labels(cell: str) -> list[str]:
    """The labels in one cell: `a,b`, `a;b`, `["a", "b"]` (JSON) or `['a', 'b']`; blank = none. A semicolon wins over commas.

    Raises:
      UserError: a bracketed list that is not closed or holds lists.
    """
    cell = cell.strip()
    if cell.startswith("["):
        items = _bracketed(cell)
    else:
        items = next(csv.reader([cell], delimiter=";" if ";" in cell else ",", skipinitialspace=True), [])
    return [item.strip() for item in items if item.strip()]


def _bracketed(cell: str) -> list[str]:
    try:
        items = json.loads(cell)
    except json.JSONDecodeError:
        # Python's way of printing a list; taken apart as quoted text, never evaluated
        inner = cell[1:-1]
        if not cell.endswith("]") or "[" in inner or "]" in inner or inner.count("'") % 2:
            raise UserError(f'labels {cell!r} are not a list; write a,b or a;b or ["a", "b"]') from None
        return next(csv.reader([inner], quotechar="'", skipinitialspace=True), [])
    if any(isinstance(item, list | dict) or item is None for item in items):
        raise UserError(f'labels {cell!r} hold something else than texts; write ["a", "b"]')
    return [str(item) for item in items]


def _row_labels(cell: str, data: DataConfig, place: str) -> list[str]:
    """Labels of one row. Without `multi_label` the cell is one label, commas and all, unless it is written as a list."""
    try:
        labels = parse_labels(cell) if data.multi_label or cell.startswith("[") else [cell] if cell else []
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    if not data.multi_label and len(labels) != 1:
        what = (
            "is blank; fill it in or remove the row" if not labels else f"holds {len(labels)} labels; set data.multi_label=True"
        )
        raise UserError(f"{place}: column {data.label_column!r} {what}")
    return labels


def _refuse_hidden_lists(labels: list[list[str]], where: str) -> None:
    """Raises `UserError` when a cell read as one label is a list of labels that other rows have."""
    known = {row[0] for row in labels}
    for name in sorted(known):
        parts = parse_labels(name) if any(mark in name for mark in ",;") else []
        if len(parts) > 1 and all(part in known for part in parts):
            raise UserError(f"{where}: label {name!r} is a list of other labels; set data.multi_label=True")


def _resolve(name: str, folders: Sequence[Path], place: str) -> str:
    """Path of a file named in a table: the first place where it is, else the first place where it should be."""
    if not name:
        raise UserError(f"{place}: the file name is blank; fill it in or remove the row")
    if is_record(name):
        return name
    places = [os.path.join(folder, variant) for variant in dict.fromkeys((name, name.replace("\\", "/"))) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[-len(folders)])


def _split(cell: str, place: str) -> str:
    if not cell:
        raise UserError(f"{place}: the split is blank; write train, val or test")
    try:
        return normalise_split(cell)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _seconds(table: Table, column: str, origin: Origin) -> list[float] | None:
    """Times of a column in seconds, NaN where a cell is blank; None without the column."""
    if not column:
        return None
    times = []
    for row, cell in enumerate(table[column]):
        if cell.lower() in NO_TIME:
            times.append(math.nan)
            continue
        try:
            times.append(float(cell))
        except ValueError:
            raise UserError(
                f"{origin.at(row)}: {column} is {cell!r}; write seconds as a number such as 12.5, or leave it blank"
            ) from None
    return times
