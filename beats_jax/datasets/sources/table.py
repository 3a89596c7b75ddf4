"""Manifests from tables of recordings, with any column names.

Every cell is a text: "1" and "01" are different labels.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.distinct import Once
from beats_jax.datasets.folds import OWN_GROUPS
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources.columns import NO_TIME, number, with_usual_columns
from beats_jax.datasets.sources.named_files import NamedFiles, require_some_exist, unnamed_notes
from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.datasets.splits import normalise_split
from beats_jax.errors import UserError


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """The rows of `data.metadata_file`; see `load_table`."""
    if not data.metadata_file:
        raise UserError("data.metadata_file is empty; data.source 'csv' needs the table of file names and labels")
    return load_table(Path(data.metadata_file).expanduser(), data)


def load_table(path: Path, data: DataConfig) -> Manifest:
    """A manifest from a table.

    File names are absolute, or relative to `data.root` (without it, the table's folder) or to the folder `audio` in it; Windows
    separators and accents composed in another way match too. A file spelled in two ways is one file; where its rows then have
    different labels they are left out, with a note. A missing file stays in the manifest, and validation lists it. Columns that
    the settings do not name are found by `sources.columns`, with a note. Blank start and end cells mean start and end of the
    file. With `multi_label` a cell holds a list (see `parse_labels`), which may be empty.

    Raises:
      UserError: the table is absent, unreadable or empty, a named column is missing, a label is blank without `multi_label`, a
        time is not a number, a split is unknown, or no file exists.
    """
    return manifest_from_table(read_table(path), data, path.parent)


def manifest_from_table(table: Table, data: DataConfig, folder: Path) -> Manifest:
    """A manifest from columns of texts, as `load_table`. `folder` replaces an empty `data.root`."""
    data, notes = with_usual_columns(table, data)
    by = "" if data.fold_by in OWN_GROUPS and data.fold_by not in table else data.fold_by
    optional = (data.start_column, data.end_column, data.split_column, data.group_column, by)
    table.require_columns((data.audio_column, data.label_column, *(name for name in optional if name)))
    if not table[data.audio_column]:
        raise UserError(f"{table.name} has no rows; give at least one recording per class")
    files = resolve_files(table, data.audio_column, Path(data.root).expanduser() if data.root else folder)
    labels = _each(table, data.label_column, lambda cell: _labels_of(cell, data))
    if not data.multi_label:
        _refuse_hidden_lists(labels, table.name)
    splits = _each(table, data.split_column, _split) if data.split_column else None
    manifest = Manifest.from_columns(
        files,
        labels,
        starts=_seconds(table, data.start_column),
        ends=_seconds(table, data.end_column),
        splits=splits,
        groups=table[data.group_column] if data.group_column else None,
        metadata={name: table[name] for name in ("fold", by) if name in table},
        notes=[*notes, *unnamed_notes(files, table.name)],
    )
    return manifest if data.multi_label else _without_contradictions(manifest, files, table, data.audio_column)


def _each(table: Table, column: str, value: Callable[[str], Any]) -> list[Any]:
    """The value of every cell. Raises `UserError` with the row and what `value` says."""
    cells, refused = table[column], ""

    def noted(cell: str) -> Any:
        nonlocal refused
        refused = cell
        return value(cell)

    try:
        return Once(noted).over(cells)
    except UserError as error:
        raise UserError(f"{table.at(cells.index(refused))}: {error}") from error


def _without_contradictions(manifest: Manifest, files: list[str], table: Table, audio_column: str) -> Manifest:
    """Drops the rows of a file that is spelled in two ways and has another label in each.

    The author of the table cannot see that it is one file, so this is no error; two labels for one spelling are one
    (`validation.merge_repeated_rows`).
    """
    names = table[audio_column]
    spellings = Counter(dict(zip(names, files, strict=True)).values())
    several = {file for file, number in spellings.items() if number > 1}
    rows: dict[tuple[str, float, float], list[int]] = {}
    for row, file in enumerate(files if several else ()):
        if file in several:
            stretch = (file, *np.nan_to_num([manifest.starts[row], manifest.ends[row]], nan=-1.0).tolist())
            rows.setdefault(stretch, []).append(row)
    bad = [group for group in rows.values() if len({manifest.labels[row] for row in group}) > 1]
    if not bad:
        return manifest
    first = [f"{names[row]} = {manifest.labels[row][0]}" for row in bad[0]]
    note = (
        f"{table.name}: {sum(map(len, bad))} rows are left out, because they give one file, spelled in two ways, different "
        f"labels: {', '.join(first)}{f' and {len(bad) - 1} more files' if len(bad) > 1 else ''}"
    )
    return manifest.take(np.setdiff1d(np.arange(len(manifest)), np.concatenate(bad))).with_notes(note)


def resolve_files(table: Table, column: str, base: Path) -> list[str]:
    """Paths of the files that a column names, below `base` or `base/audio` unless absolute. Raises `UserError` if none exists."""
    folders = [base, base / "audio"]
    named = NamedFiles(folders)

    def find(name: str) -> str:
        if not name:
            raise UserError("the file name is blank; fill it in or remove the row")
        if "\0" in name:
            raise UserError("the file name holds a NUL character; write it again")
        return named.find(name)

    files = _each(table, column, find)
    require_some_exist(files, folders, table.name)
    return files


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
        # a list as Python prints it: split as quoted text, never evaluated
        inner = cell[1:-1]
        if not cell.endswith("]") or "[" in inner or "]" in inner or inner.count("'") % 2:
            raise UserError(f'labels {cell!r} are not a list; write a,b or a;b or ["a", "b"]') from None
        return next(csv.reader([inner], quotechar="'", skipinitialspace=True), [])
    if any(isinstance(item, list | dict) or item is None for item in items):
        raise UserError(f'labels {cell!r} hold items that are no texts; write ["a", "b"]')
    return [str(item) for item in items]


def _labels_of(cell: str, data: DataConfig) -> list[str]:
    """Labels of one row. Without `multi_label` the whole cell is one label, unless it is a list in brackets."""
    labels = parse_labels(cell) if data.multi_label or cell.startswith("[") else [cell] if cell else []
    if not data.multi_label and len(labels) != 1:
        what = (
            "is blank; fill it in or remove the row" if not labels else f"holds {len(labels)} labels; set data.multi_label=True"
        )
        raise UserError(f"column {data.label_column!r} {what}")
    return labels


def _refuse_hidden_lists(labels: list[list[str]], where: str) -> None:
    """Raises `UserError` when a cell that counts as one label is a list of labels that other rows have."""
    known = {row[0] for row in labels}
    for name in sorted(known):
        parts = parse_labels(name) if any(mark in name for mark in ",;") else []
        if len(parts) > 1 and all(part in known for part in parts):
            raise UserError(f"{where}: label {name!r} is a list of other labels; set data.multi_label=True")


def _split(cell: str) -> str:
    if not cell:
        raise UserError("the split is blank; write train, val or test")
    return normalise_split(cell)


def _seconds(table: Table, column: str) -> list[float] | None:
    """Times of a column in seconds, NaN where a cell is blank; None without the column."""

    def seconds(cell: str) -> float:
        value = math.nan if cell.lower() in NO_TIME else number(cell, decimal_comma=table.decimal_comma)
        if math.isnan(value) and cell.lower() not in NO_TIME:
            raise UserError(f"{column} is {cell!r}; write seconds as a number such as 12.5, or leave it blank")
        return value

    return _each(table, column, seconds) if column else None
