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
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from beats_jax.datasets.distinct import ROWS_AT_A_TIME, Numbered, Once
from beats_jax.datasets.manifest import LabelColumn, Manifest, text_column
from beats_jax.errors import UserError
from beats_jax.files import sha256_of, whole_file, write_text
from beats_jax.spreadsheets import original_cell, safe_cell

TABLE_FILE, FACTS_FILE = MANIFEST_FILES = ("manifest.csv.gz", "manifest.json")
FORMAT = 1
COLUMNS = ("file", "start", "end", "labels", "split", "group")
LABELS = COLUMNS.index("labels")
IN_RUN = "{run}/"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the rows, whole or not at all; metadata is `seconds` and texts. Raises `UserError` when it cannot be written."""
    table = folder / TABLE_FILE
    with whole_file(table) as file, gzip.GzipFile("", "wb", 3, file, mtime=0) as packed:
        with io.TextIOWrapper(packed, "utf-8", newline="") as text:
            text.write(",".join(map(_quoted, (*COLUMNS, *manifest.metadata))) + "\n")
            for block in _blocks(manifest, f"{folder}/"):
                text.write("\n".join(map(",".join, zip(*block, strict=True))) + "\n")
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
        return _from_rows(csv.reader(text), f"{folder}/", names)


def _hash_of(names: list[str]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _damage_error(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged: {reason}; restore it from a copy, or start a new run in another --workdir")


def _blocks(manifest: Manifest, folder: str) -> Iterator[list[list[str]]]:
    """The cells of some rows at a time, by column."""

    def in_run(file: str) -> str:
        return _quoted(IN_RUN + file.removeprefix(folder) if file.startswith(folder) else file)

    names, ids, offsets = manifest.labels.names, manifest.labels.ids, manifest.labels.offsets
    labels = Once(lambda found: _quoted(json.dumps([names[k] for k in found], ensure_ascii=False)))
    columns = [manifest.files, manifest.starts, manifest.ends, manifest.splits, manifest.groups, *manifest.metadata.values()]
    texts = [Once(in_run), *(Once(_number if column.dtype.kind == "f" else _quoted) for column in columns[1:])]
    for begin in range(0, len(manifest), ROWS_AT_A_TIME):
        end = min(begin + ROWS_AT_A_TIME, len(manifest))
        cells = [text.over(column[begin:end].tolist()) for text, column in zip(texts, columns, strict=True)]
        block, bounds = ids[offsets[begin] : offsets[end]].tolist(), (offsets[begin : end + 1] - offsets[begin]).tolist()
        cells.insert(LABELS, labels.over(tuple(block[a:b]) for a, b in pairwise(bounds)))
        yield cells


def _number(value: float) -> str:
    """As `repr`, which reads back as the same number; NaN as an empty cell."""
    return '""' if value != value else f'"{value!r}"'


def _quoted(text: str) -> str:
    """A cell; without the quotes a carriage return in a name would end the row."""
    return '"' + safe_cell(text).replace('"', '""') + '"'


def _from_rows(rows: Iterator[list[str]], folder: str, label_names: list[str]) -> Manifest:
    def absolute(cell: str) -> str:
        cell = original_cell(cell)
        return folder + cell.removeprefix(IN_RUN) if cell.startswith(IN_RUN) else cell

    names = [original_cell(name) for name in next(rows)]  # columns go by place: metadata may have the name of one of the first
    parts: list[list[np.ndarray]] = [[_column(place, name, [])] for place, name in enumerate(names)]
    texts = [Once(absolute), *(Once(original_cell) for _ in names[1:])]
    lists = Numbered()
    codes = [np.zeros(0, np.int64)]
    while block := list(islice(rows, ROWS_AT_A_TIME)):
        for place, cells in enumerate(zip(*block, strict=True)):
            cells = texts[place].over(cells)
            if place == LABELS:
                codes.append(lists.over(cells))
            else:
                parts[place].append(_column(place, names[place], cells))
    files, starts, ends, _, splits, groups, *metadata = map(np.concatenate, parts)
    labels = LabelColumn.from_codes(label_names, [json.loads(text) for text in lists], np.concatenate(codes))
    return Manifest(files, labels, starts, ends, splits, groups, dict(zip(names[len(COLUMNS) :], metadata, strict=True)))


def _column(place: int, name: str, cells: list[str]) -> np.ndarray:
    if COLUMNS[place : place + 1] in (("start",), ("end",)) or (place >= len(COLUMNS) and name == "seconds"):
        return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
    return text_column(cells)
