"""The rows of a run as files of the run: manifest.csv.gz, a table that any program reads, and manifest.json with its hash.

The columns are file, start, end, labels (a JSON list), split, group, then the metadata. An empty start or end is the file's own.
Files below the run's own folder are written relative to it (`IN_RUN`), so that a run that has moved finds the data it generated.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.datasets.manifest import LabelColumn, Manifest, text_column
from beats_jax.errors import UserError
from beats_jax.files import sha256_of, whole_file, write_text
from beats_jax.spreadsheets import original_cell, safe_cell

TABLE_FILE, FACTS_FILE = MANIFEST_FILES = ("manifest.csv.gz", "manifest.json")
FORMAT = 1
COLUMNS = ("file", "start", "end", "labels", "split", "group")
LABELS = COLUMNS.index("labels")
IN_RUN = "{run}/"
ROWS_AT_A_TIME = 65_536  # as Python objects; a row of them takes some 500 bytes, one of columns 150


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the rows, whole or not at all; metadata is `seconds` and texts. Raises `UserError` when it cannot be written."""
    table = folder / TABLE_FILE
    with whole_file(table) as file, gzip.GzipFile("", "wb", 3, file, mtime=0) as packed:
        with io.TextIOWrapper(packed, "utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # else a carriage return in a name ends the row
            writer.writerow(map(safe_cell, (*COLUMNS, *manifest.metadata)))
            writer.writerows(map(safe_cell, row) for row in _rows(manifest, f"{folder}/"))
    names = list(manifest.labels.names)  # those of no row too: the order of a balanced stream depends on them
    hashes = {TABLE_FILE: sha256_of(table), "labels": _hash_of(names)}
    facts = {"format": FORMAT, "rows": len(manifest), "labels": names, "sha256": hashes}
    write_text(
        folder / FACTS_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    )  # last: without it there is no manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The rows that `write_manifest` wrote into the folder; None where it wrote none.

    Raises:
      UserError: a file is damaged, missing or of another format.
    """
    facts_file, table = folder / FACTS_FILE, folder / TABLE_FILE
    if not facts_file.is_file():
        return None
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        hashes, names, version = facts["sha256"], facts["labels"], facts["format"]
        whole = hashes["labels"] == _hash_of(names)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damage_error(facts_file, f"{type(error).__name__}: {error}") from error
    if version != FORMAT:
        raise UserError(f"{facts_file} has format {version!r}; this version of beats_jax reads format {FORMAT}")
    if not whole:
        raise _damage_error(facts_file, "the hash of its labels is another")
    if not table.is_file():
        raise _damage_error(table, "it is missing")
    if sha256_of(table) != hashes.get(TABLE_FILE):
        raise _damage_error(table, f"its sha256 is not that in {facts_file.name}")
    with gzip.open(table, "rt", encoding="utf-8", newline="") as text:
        return _from_rows(([original_cell(cell) for cell in row] for row in csv.reader(text)), f"{folder}/", names)


def _hash_of(names: list[str]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _damage_error(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged: {reason}; restore it from a copy, or start the run anew in another --workdir")


def _rows(manifest: Manifest, folder: str) -> Iterator[tuple[Any, ...]]:
    columns = [manifest.starts, manifest.ends, None, manifest.splits, manifest.groups, *manifest.metadata.values()]
    for begin in range(0, len(manifest), ROWS_AT_A_TIME):
        place = slice(begin, begin + ROWS_AT_A_TIME)
        files = [
            IN_RUN + file.removeprefix(folder) if file.startswith(folder) else file for file in manifest.files[place].tolist()
        ]
        labels = [json.dumps(manifest.labels[row], ensure_ascii=False) for row in range(begin, begin + len(files))]
        yield from zip(files, *(labels if column is None else _cells(column[place]) for column in columns), strict=True)


def _cells(column: np.ndarray) -> list[str]:
    """Numbers as Python writes them, which gives the same number back; NaN as nothing."""
    return ["" if value != value else repr(value) for value in column.tolist()] if column.dtype.kind == "f" else column.tolist()


def _from_rows(rows: Iterator[list[str]], folder: str, label_names: list[str]) -> Manifest:
    names = next(rows)  # metadata may have the name of one of the first columns, so columns go by their place
    parts: list[list[np.ndarray]] = [[_column(place, name, [])] for place, name in enumerate(names)]
    labels = _Labels(label_names)
    while block := list(islice(rows, ROWS_AT_A_TIME)):
        for place, cells in enumerate(zip(*block, strict=True)):
            if place == LABELS:
                labels.add(cells)
            else:
                files = (folder + cell.removeprefix(IN_RUN) if cell.startswith(IN_RUN) else cell for cell in cells)
                parts[place].append(_column(place, names[place], cells if place else files))
    files, starts, ends, _, splits, groups, *metadata = map(np.concatenate, parts)
    return Manifest(files, labels.column(), starts, ends, splits, groups, dict(zip(names[len(COLUMNS) :], metadata, strict=True)))


def _column(place: int, name: str, cells: Iterable[str]) -> np.ndarray:
    if COLUMNS[place : place + 1] in (("start",), ("end",)) or (place >= len(COLUMNS) and name == "seconds"):
        return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
    return text_column(list(cells))


class _Labels:
    """Labels as numbers while they are read; a million rows have few different lists of them."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._lists: dict[str, int] = {}
        self._rows: list[np.ndarray] = [np.zeros(0, np.int64)]

    def add(self, texts: Iterable[str]) -> None:
        """The cells of further rows."""
        self._rows.append(np.array([self._lists.setdefault(text, len(self._lists)) for text in texts], np.int64))

    def column(self) -> LabelColumn:
        """All of them."""
        place = {name: k for k, name in enumerate(self._names)}
        lists = [[place[name] for name in json.loads(text)] for text in self._lists]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        different = LabelColumn(tuple(self._names), np.array([k for ids in lists for k in ids], np.int32), offsets)
        return different.take(np.concatenate(self._rows))
