"""The rows of a run as files in its folder: manifest.csv.gz, a table that any program reads, and manifest.json with its hash.

The columns are file, start, end, labels (a JSON list), split, group, then the metadata. An empty start or end is the file's.
Files below the folder of the run are written relative to it (`IN_RUN`), so that a run that has moved finds its generated data.
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
            writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # else a carriage return in a name ends a row
            writer.writerow(map(safe_cell, (*COLUMNS, *manifest.metadata)))
            writer.writerows(map(safe_cell, row) for row in _rows(manifest, f"{folder}/"))
    names = list(manifest.labels.names)  # with those of no row: the order of a balanced stream depends on them
    hashes = {TABLE_FILE: sha256_of(table), "labels": _hash_of(names)}
    facts = {"format": FORMAT, "rows": len(manifest), "labels": names, "sha256": hashes}
    # last: without it there is no manifest
    write_text(folder / FACTS_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


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
        raise _damage_error(facts_file, "the hash of its labels differs")
    if not table.is_file():
        raise _damage_error(table, "it is missing")
    if sha256_of(table) != hashes.get(TABLE_FILE):
        raise _damage_error(table, f"its sha256 is not that in {facts_file.name}")
    with gzip.open(table, "rt", encoding="utf-8", newline="") as text:
        return _from_rows(([original_cell(cell) for cell in row] for row in csv.reader(text)), f"{folder}/", names)


def _hash_of(names: list[str]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _damage_error(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged: {reason}; restore it from a copy, or start a new run in another --workdir")


def _rows(manifest: Manifest, folder: str) -> Iterator[tuple[Any, ...]]:
    columns = [manifest.starts, manifest.ends, None, manifest.splits, manifest.groups, *manifest.metadata.values()]
    for begin in range(0, len(manifest), ROWS_AT_A_TIME):
        place = slice(begin, begin + ROWS_AT_A_TIME)
        files = [IN_RUN + f.removeprefix(folder) if f.startswith(folder) else f for f in manifest.files[place].tolist()]
        labels = [json.dumps(manifest.labels[row], ensure_ascii=False) for row in range(begin, begin + len(files))]
        yield from zip(files, *(labels if column is None else _cells(column[place]) for column in columns), strict=True)


def _cells(column: np.ndarray) -> list[str]:
    """Numbers as `repr`, which reads back as the same number; NaN as an empty cell."""
    return ["" if value != value else repr(value) for value in column.tolist()] if column.dtype.kind == "f" else column.tolist()


def _from_rows(rows: Iterator[list[str]], folder: str, label_names: list[str]) -> Manifest:
    names = next(rows)  # columns go by place: metadata may have the name of one of the first columns
    parts: list[list[np.ndarray]] = [[_column(place, name, [])] for place, name in enumerate(names)]
    lists: dict[str, int] = {}  # a million rows have few different lists of labels
    codes = [np.zeros(0, np.int64)]
    while block := list(islice(rows, ROWS_AT_A_TIME)):
        for place, cells in enumerate(zip(*block, strict=True)):
            if place == LABELS:
                codes.append(np.array([lists.setdefault(text, len(lists)) for text in cells], np.int64))
            else:
                files = (folder + cell.removeprefix(IN_RUN) if cell.startswith(IN_RUN) else cell for cell in cells)
                parts[place].append(_column(place, names[place], cells if place else files))
    files, starts, ends, _, splits, groups, *metadata = map(np.concatenate, parts)
    number = {name: k for k, name in enumerate(label_names)}
    ids = [[number[name] for name in json.loads(text)] for text in lists]
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    different = LabelColumn(tuple(label_names), np.array([k for row in ids for k in row], np.int32), offsets)
    labels = different.take(np.concatenate(codes))
    return Manifest(files, labels, starts, ends, splits, groups, dict(zip(names[len(COLUMNS) :], metadata, strict=True)))


def _column(place: int, name: str, cells: Iterable[str]) -> np.ndarray:
    if COLUMNS[place : place + 1] in (("start",), ("end",)) or (place >= len(COLUMNS) and name == "seconds"):
        return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
    return text_column(list(cells))
