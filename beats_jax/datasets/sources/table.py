"""Tables of recordings, with any column names: what their cells mean.

Every cell is read as text: a label column with numbers and words is a column of words ("1" and "01" stay different).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.folds import OWN_GROUPS
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources.columns import NO_TIME, number, with_usual_columns
from beats_jax.datasets.sources.named_files import NamedFiles, require_some_exist, unnamed_notes
from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.datasets.splits import normalise_split
from beats_jax.errors import UserError

SHOWN = 20  # columns that a message names


@dataclass(frozen=True)
class Origin:
    """How messages call a table and its rows: `name`, and "line 2" for a row that begins there (`lines`), else "row 0"."""

    name: str
    lines: Sequence[int] = ()

    def at(self, row: int) -> str:
        """A row, counted from 0, by the name under which the user finds it."""
        return f"{self.name} line {self.lines[row]}" if self.lines else f"{self.name} row {row}"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """The rows of `data.metadata_file`; see `load_table`."""
    if not data.metadata_file:
        raise UserError("data.metadata_file is empty; data.source 'csv' needs the table of file names and labels")
    return load_table(Path(data.metadata_file).expanduser(), data)


def load_table(path: Path, data: DataConfig) -> Manifest:
    """A manifest from a table.

    File names may be absolute, or relative to `data.root` (without it, the table's folder) or to the folder `audio` in it;
    Windows separators are understood, and accents composed otherwise than in the name of the file. A file spelled in two ways is
    one file; where its rows then have different labels they are left out, and a note says so. A file that is not there stays in
    the manifest: validation lists it. Columns that the settings do not name are found as `sources.columns` says, and a note
    names them. Blank start and end cells mean start and end of the file. With `multi_label` a cell holds a list (see
    `parse_labels`), and a blank one none.

    Raises:
      UserError: the table is absent, unreadable or empty, a named column is missing, a label is blank without `multi_label`, a
        time is not a number, a split is unknown, or no file exists.
    """
    table = read_table(path)
    return manifest_from_table(table, data, Origin(str(path), table.lines), path.parent)


def manifest_from_table(table: Table, data: DataConfig, origin: Origin, folder: Path) -> Manifest:
    """A manifest from columns of texts; `load_table` says how cells are read. `folder` stands in for an empty `data.root`."""
    data, notes = with_usual_columns(table, data, origin.name)
    by = "" if data.fold_by in OWN_GROUPS and data.fold_by not in table else data.fold_by
    optional = (data.start_column, data.end_column, data.split_column, data.group_column, by)
    require_columns(table, (data.audio_column, data.label_column, *(name for name in optional if name)), origin.name)
    names = table[data.audio_column]
    files = resolve_files(names, Path(data.root).expanduser() if data.root else folder, origin)
    labels = [_row_labels(cell, data, origin.at(row)) for row, cell in enumerate(table[data.label_column])]
    if not data.multi_label:
        _refuse_hidden_lists(labels, origin.name)
    splits = [_split(cell, origin.at(row)) for row, cell in enumerate(table[data.split_column])] if data.split_column else None
    manifest = Manifest.from_columns(
        files,
        labels,
        starts=_seconds(table, data.start_column, origin),
        ends=_seconds(table, data.end_column, origin),
        splits=splits,
        groups=table[data.group_column] if data.group_column else None,
        metadata={name: table[name] for name in ("fold", by) if name in table},
        notes=[*notes, *unnamed_notes(files, origin.name)],
    )
    return manifest if data.multi_label else _without_contradictions(manifest, names, origin)


def _without_contradictions(manifest: Manifest, names: Sequence[str], origin: Origin) -> Manifest:
    """The rows without those of a file that is spelled in two ways and has another label in each.

    Nobody can tell which is right, and whoever made the table did not see that it is one file. (A file that is spelled in the
    same way with two labels is seen, and `validation.merge_repeated_rows` refuses it.)
    """
    files = manifest.files.tolist()
    spellings: dict[str, str] = {}
    several = {file for file, name in zip(files, names, strict=True) if spellings.setdefault(file, name) != name}
    rows: dict[tuple[str, float, float], list[int]] = {}
    for row, file in enumerate(files):
        if file in several:
            stretch = (file, *np.nan_to_num([manifest.starts[row], manifest.ends[row]], nan=-1.0).tolist())
            rows.setdefault(stretch, []).append(row)
    bad = [group for group in rows.values() if len({manifest.labels[row] for row in group}) > 1]
    if not bad:
        return manifest
    first = [f"{names[row]} = {manifest.labels[row][0]}" for row in bad[0]]
    note = (
        f"{origin.name}: {sum(map(len, bad))} rows are left out, because they give one file, spelled in two ways, different "
        f"labels: {', '.join(first)}{f' and {len(bad) - 1} more files' if len(bad) > 1 else ''}"
    )
    return manifest.take(np.setdiff1d(np.arange(len(manifest)), np.concatenate(bad))).with_notes(note)


def resolve_files(names: Sequence[str], base: Path, origin: Origin) -> list[str]:
    """Paths of the files named in a table, below `base` or `base/audio` unless absolute. Raises `UserError` when none exists."""
    folders = [base, base / "audio"]
    named = NamedFiles(folders)
    for row, name in enumerate(names):
        if not name:
            raise UserError(f"{origin.at(row)}: the file name is blank; fill it in or remove the row")
        if "\0" in name:
            raise UserError(f"{origin.at(row)}: the file name holds a NUL character; write it again")
    files = [named.find(name) for name in names]
    require_some_exist(files, folders, origin.name)
    return files


def require_columns(table: Table, names: Sequence[str], where: str | Path) -> None:
    """Raises `UserError` naming the columns there are unless the table has all of `names`."""
    for name in names:
        if name not in table:
            close = nearest(name, list(table))
            hint = f"{close} " if close.startswith("did") else ""
            raise UserError(f"{where} has no column {name!r}; {hint}columns: {_some(list(table))}")
        if name in table.repeated:
            raise UserError(f"{where} has several columns {name!r}; rename or remove the others")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def parse_labels(cell: str) -> list[str]:
    """The labels in one cell: `a,b`, `a;b`, `["a", "b"]` (JSON) or `['a', 'b']`; blank = none. A semicolon wins over commas.

    Raises:
      UserError: a bracketed list that is not closed or holds lists.
    """
    cell = cell.strip()
    if cell.startswith("["):
        items = _parse_list(cell)
    else:
        items = next(csv.reader([cell], delimiter=";" if ";" in cell else ",", skipinitialspace=True), [])
    return [item.strip() for item in items if item.strip()]


def _parse_list(cell: str) -> list[str]:
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
        value = math.nan if cell.lower() in NO_TIME else number(cell, decimal_comma=table.decimal_comma)
        if math.isnan(value) and cell.lower() not in NO_TIME:
            raise UserError(f"{origin.at(row)}: {column} is {cell!r}; write seconds as a number such as 12.5, or leave it blank")
        times.append(value)
    return times
