"""A Perch-Hoplite database, opened and checked: every window must have its vector, and every vector its window."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import previous_folder
from beats_jax.inference.hoplite.schema import COLUMNS, INDEX_FILE, OFFSETS, SQLITE_FILE, USEARCH_CONFIG, open_index
from beats_jax.json_files import parse_json, require_shape

REMEDY = "restore it from a copy"
CONFIG_SHAPE = {"embedding_dim": int, "dtype": str, "metric_name": str, "expansion_add": int, "expansion_search": int}
CHUNK = 20_000  # vectors looked at together
WAIT_SECONDS = 2.0  # for another program that is writing


class Windows(NamedTuple):
    """int64 [N] ids and recordings; float64 [N, 2] offsets, start and end in seconds."""

    ids: np.ndarray
    recordings: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Database:
    """An open database.

    Attributes:
      metadata: what Perch-Hoplite and we keep under names. index: of usearch; None = absent or damaged, `index_fault` says which.
    """

    path: Path
    connection: sqlite3.Connection
    metadata: Mapping[str, Any]
    index: Any | None
    index_fault: str = ""

    @property
    def config(self) -> Mapping[str, Any]:
        """Settings of the index; `embedding_dim` is the length of its vectors."""
        return self.metadata[USEARCH_CONFIG]

    def windows(self) -> Windows:
        """All windows, by id."""
        rows = self.connection.execute("SELECT id, recording_id, offsets FROM windows ORDER BY id").fetchall()
        wrong = next((row[0] for row in rows if not isinstance(row[2], bytes) or len(row[2]) != 16), None)
        if wrong is not None:
            raise UserError(f"{self.path / SQLITE_FILE} is damaged (offsets of window {wrong} are no start and end); {REMEDY}")
        numbers = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
        offsets = np.frombuffer(b"".join(row[2] for row in rows), OFFSETS).astype(np.float64).reshape(-1, 2)
        return Windows(numbers[:, 0], numbers[:, 1], offsets)

    def keys(self) -> np.ndarray:
        """int64 [V], the windows that have a vector, sorted."""
        return np.sort(np.asarray(self.index.keys[:]).astype(np.int64)) if self.index is not None and len(self.index) else _NONE

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """float16 [N, D] of windows that have one."""
        if self.index is None or not len(ids):
            return np.zeros((0, self.config["embedding_dim"]), np.float16)
        found = self.index.get(np.asarray(ids, np.uint64))
        return np.stack([vector.reshape(-1) for vector in found]).astype(np.float16)


@dataclass(frozen=True)
class Findings:
    """What is wrong with a database; ids int64, empty = nothing.

    Attributes:
      without_vector: windows that the index lacks. without_window: vectors of no window. not_finite: windows whose vectors hold
        NaN or infinity. doubled: windows that repeat another of the same recording, times and vector.
      index_fault: why there is no index, "" = there is one.
    """

    without_vector: np.ndarray
    without_window: np.ndarray
    not_finite: np.ndarray
    doubled: np.ndarray
    index_fault: str = ""

    def __str__(self) -> str:
        counts = {
            "windows without a vector": self.without_vector,
            "vectors without a window": self.without_window,
            "windows whose vectors are not finite": self.not_finite,
            "windows twice": self.doubled,
        }
        faults = [f"{len(ids)} {name}" for name, ids in counts.items() if len(ids)]
        return ", ".join(([self.index_fault] if self.index_fault else []) + faults)


_NONE = np.zeros(0, np.int64)
_UNFINISHED = "SQLITE_READONLY"  # with an ending: to read, SQLite would have to write, as after a kill inside a write


@contextmanager
def open_database(path: Path, *, exclusive: bool = False) -> Iterator[Database]:
    """Opens a database to read it, or with `exclusive` so that no other program can open it meanwhile.

    Raises:
      UserError: there is none, it is damaged beyond its index, of another version, or in use.
    """
    file = path / SQLITE_FILE
    if not file.is_file():
        raise UserError(_missing(path))
    with sqlite_errors(path), closing(_connect(file, exclusive=exclusive)) as connection:
        if exclusive:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")  # fails while Perch-Hoplite holds it open: it would write its old index later
            connection.execute("COMMIT")  # the lock stays until the connection ends
        _require_schema(path, connection)
        metadata = _read_metadata(path, connection)
        index, fault = _read_index(path / INDEX_FILE, metadata[USEARCH_CONFIG])
        yield Database(path, connection, metadata, index, fault)


def inspect(database: Database, windows: Windows | None = None) -> Findings:
    """Looks at all windows and all vectors."""
    windows = windows or database.windows()
    keys = database.keys()
    both = np.intersect1d(windows.ids, keys)
    chunks = [both[first : first + CHUNK] for first in range(0, len(both), CHUNK)]
    finite = [np.isfinite(database.vectors(chunk)).all(axis=1) for chunk in chunks]
    return Findings(
        np.setdiff1d(windows.ids, keys),
        np.setdiff1d(keys, windows.ids),
        both[~np.concatenate(finite)] if finite else _NONE,
        _doubled(database, windows, both),
        database.index_fault,
    )


def require_whole(database: Database, windows: Windows | None = None) -> None:
    """Raises `UserError` where `inspect` finds anything."""
    found = str(inspect(database, windows))
    if found:
        raise UserError(f"{database.path} is not whole ({found}); python -m beats_jax.embed --repair {database.path}")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as the user's."""
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise UserError(f"{path} is in use by another program; close it there, and give the command again") from error
        if "full" in str(error):
            raise UserError(f"{path} cannot be written: the disk is full; free some space and give the command again") from error
        if getattr(error, "sqlite_errorname", "").startswith(_UNFINISHED):
            raise UserError(f"{path} was being written when its writer was stopped; open it where it may be written") from error
        raise UserError(f"{path / SQLITE_FILE} is damaged or no database ({error}); {REMEDY}") from error


def _missing(path: Path) -> str:
    if previous_folder(path).is_dir() and not path.exists():
        return f"{path} is missing, a write was stopped between two renames; python -m beats_jax.embed --repair {path}"
    return f"{path} is no Perch-Hoplite database ({SQLITE_FILE} is missing)"


def _connect(file: Path, *, exclusive: bool) -> sqlite3.Connection:
    uri = file.absolute().as_uri()
    if exclusive:
        return sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=WAIT_SECONDS, isolation_level=None)
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=WAIT_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if error.sqlite_errorname.startswith(_UNFINISHED) and os.access(file, os.W_OK):
            # The writer's journal is left: whoever opens the database next takes back what was half done.
            connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=WAIT_SECONDS)
            connection.execute("PRAGMA query_only = ON")
            return connection
        journal = file.with_name(f"{file.name}-wal")
        if "unable to open" not in str(error) or (journal.exists() and journal.stat().st_size):
            raise
        return sqlite3.connect(f"{uri}?immutable=1", uri=True)  # on a disk where nothing can be written, locks neither
    return connection


def _require_schema(path: Path, connection: sqlite3.Connection) -> None:
    for table, columns in COLUMNS.items():
        found = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        missing = [name for name in columns if name not in found]
        if missing:
            what = f"{table} lacks {', '.join(missing)}" if found else f"it has no table {table}"
            raise UserError(f"{path / SQLITE_FILE} is of another version than Perch-Hoplite 1.0 ({what}); convert it there")
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise UserError(f"{path / SQLITE_FILE} is damaged ({' '.join(fault.split())[:100]}); {REMEDY}")


def _read_metadata(path: Path, connection: sqlite3.Connection) -> dict[str, Any]:
    name = f"{path / SQLITE_FILE}: hoplite_metadata"
    rows = connection.execute("SELECT key, value FROM hoplite_metadata").fetchall()
    found = {key: parse_json(value, (dict, list, str, float, bool, None), f"{name}.{key}", remedy=REMEDY) for key, value in rows}
    require_shape(found, {USEARCH_CONFIG: CONFIG_SHAPE}, name, remedy=REMEDY)
    config = found[USEARCH_CONFIG]
    if config["embedding_dim"] < 1:
        raise UserError(f"{name} is damaged (embedding_dim is {config['embedding_dim']}); {REMEDY}")
    if config["dtype"] != "float16" or config["metric_name"] != "IP":
        raise UserError(f"{name} says {config['dtype']} and {config['metric_name']}; Perch-Hoplite 1.0 writes float16 and IP")
    return found


def _read_index(file: Path, config: Mapping[str, Any]) -> tuple[Any | None, str]:
    index = open_index(config)
    if not file.is_file():
        return None, f"{file.name} is missing"
    try:
        found = index.metadata(file)
        shape = (found["dimensions"], str(found["kind_scalar"]).rsplit(".", 1)[-1]) if found else None
        if shape is None:
            return None, f"{file.name} is no index"
    except (RuntimeError, ValueError, KeyError) as error:
        return None, f"{file.name} is torn ({error})"
    if shape != (config["embedding_dim"], "F16"):
        raise UserError(
            f"{file} holds vectors of {shape[0]} {shape[1]}, {SQLITE_FILE} says {config['embedding_dim']} F16: it is of another "
            f"database; {REMEDY}"
        )
    try:
        index.load(file)
    except (RuntimeError, ValueError) as error:
        return None, f"{file.name} is torn ({error})"
    index.expansion_add, index.expansion_search = config["expansion_add"], config["expansion_search"]
    return index, ""


def _doubled(database: Database, windows: Windows, with_vector: np.ndarray) -> np.ndarray:
    """Windows that repeat an earlier one; those with other vectors are channels of one sound, which Perch-Hoplite allows."""
    known = np.isin(windows.ids, with_vector)
    places = np.column_stack([windows.recordings[known], np.rint(windows.offsets[known] * 1e5)])
    _, group, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    several = counts[group.reshape(-1)] > 1
    if not several.any():
        return _NONE
    ids, groups = windows.ids[known][several], group.reshape(-1)[several]
    seen: set[tuple[int, bytes]] = set()
    repeats = []
    for window, place, vector in zip(ids.tolist(), groups.tolist(), database.vectors(ids), strict=True):
        key = (place, vector.tobytes())
        if key in seen:
            repeats.append(window)
        seen.add(key)
    return np.array(repeats, np.int64)
