"""The new database that takes the place of the old one: filled by SQL and usearch, and seen by nobody until it is whole."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.inference.hoplite.database import Database, sqlite_errors
from beats_jax.inference.hoplite.schema import (
    INDEX_FILE,
    OFFSETS,
    SQL_TYPES,
    SQLITE_FILE,
    TABLES,
    USEARCH_CONFIG,
    default_usearch_config,
    open_index,
    require_usearch,
)
from beats_jax.inference.hoplite.sources import AudioSources, Place

VECTORS_AT_ONCE = 4096
SAME_PLACE = 0.01  # degrees
# A deployment is where its recordings were made, if that is one place
PLACE_DEPLOYMENTS = """
UPDATE deployments SET (latitude, longitude) =
  (SELECT min(latitude), min(longitude) FROM recordings WHERE deployment_id = deployments.id)
WHERE latitude IS NULL AND (
  SELECT max(max(latitude) - min(latitude), max(longitude) - min(longitude)) FROM recordings WHERE deployment_id = deployments.id
) < ?
"""


class Rows(NamedTuple):
    """Windows of a recording: its file, what is known of it, float64 [N, 2] offsets, [N, D] vectors, [N, C] logits where kept."""

    file: str
    recorded_at: str | None
    columns: Mapping[str, str | float | None]
    offsets: np.ndarray
    vectors: np.ndarray
    logits: np.ndarray | None = None


class Added(NamedTuple):
    """How much a call added."""

    recordings: int
    windows: int


@dataclass
class Known:
    """The recordings and windows that a database holds, and those added since."""

    recordings: dict[Place, int] = field(default_factory=dict)
    windows: dict[int, set[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, database: Database | None) -> Known:
        known = cls()
        if database is None:
            return known
        query = "SELECT d.project, d.name, r.filename, r.id FROM recordings r JOIN deployments d ON d.id = r.deployment_id"
        known.recordings = {Place(*row[:3]): row[3] for row in database.connection.execute(query)}
        found = database.windows()
        for recording, offsets in zip(found.recordings.tolist(), found.offsets, strict=True):
            known.windows.setdefault(recording, set()).add(_time(offsets))
        return known

    def new_windows(self, rows: Iterable[Rows], sources: AudioSources) -> Iterator[tuple[Place, Rows]]:
        for part in rows:
            place = sources.place(part.file)
            held = self.windows.get(self.recordings.get(place, -1), set())
            new = np.array([_time(offsets) not in held for offsets in part.offsets], bool)
            if new.any():
                logits = None if part.logits is None else part.logits[new]
                yield place, part._replace(offsets=part.offsets[new], vectors=part.vectors[new], logits=logits)


class Copy:
    """The new database while it is filled. Nobody else sees it, and a kill throws it away: it needs no journal."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, index: Any) -> None:
        self.folder, self.connection, self.index = folder, connection, index
        self._keys: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self._present: dict[str, set[str]] = {}

    def add(self, known: Known, place: Place, part: Rows) -> Added:
        """Adds windows, and their recording where it is new."""
        vectors = _as_float16(part.vectors, part.file)
        recording, new = known.recordings.get(place), place not in known.recordings
        if recording is None:
            recording = known.recordings[place] = self._insert_recording(place, part)
        blobs = [np.asarray(offsets, OFFSETS).tobytes() for offsets in part.offsets]
        ids = []
        for row, blob in enumerate(blobs):
            values = {"recording_id": recording, "offsets": blob}
            if part.logits is not None:
                values["logits"] = np.asarray(part.logits[row], OFFSETS).tobytes()
            ids.append(self._insert("windows", values, {"logits": list}))
        known.windows.setdefault(recording, set()).update(map(_time, part.offsets))
        self._put(np.array(ids), vectors)
        return Added(int(new), len(ids))

    def restore(self, lacking: np.ndarray, rows: Iterable[Rows], sources: AudioSources) -> np.ndarray:
        """Puts in the vectors of windows that have none; returns their ids."""
        wanted: dict[tuple[Place, tuple[int, int]], list[int]] = {}
        query = (
            "SELECT w.id, d.project, d.name, r.filename, w.offsets FROM windows w JOIN recordings r ON r.id = w.recording_id "
            "JOIN deployments d ON d.id = r.deployment_id"
        )
        ids = set(lacking.tolist())
        for number, *names, blob in self.connection.execute(query).fetchall():
            if number in ids:
                wanted.setdefault((Place(*names), _time(np.frombuffer(blob, OFFSETS))), []).append(number)
        restored = []
        for part in rows if wanted else ():
            place, vectors = sources.place(part.file), _as_float16(part.vectors, part.file)
            for offsets, vector in zip(part.offsets, vectors, strict=True):
                # Of windows at one place only one is restored: they were doubles
                for number in wanted.pop((place, _time(offsets)), [])[:1]:
                    self._put(np.array([number]), vector[None])
                    restored.append(number)
        return np.array(restored, np.int64)

    def rebuild_index(self, old: Database, ids: np.ndarray) -> None:
        """A new index with the vectors of these windows; an index that forgets keys keeps their vectors in its file."""
        self.index = open_index(old.config)
        for first in range(0, len(ids), VECTORS_AT_ONCE):
            some = ids[first : first + VECTORS_AT_ONCE]
            self._put(some, old.vectors(some))

    def remove(self, ids: np.ndarray) -> None:
        """Removes windows from SQLite."""
        self.connection.executemany("DELETE FROM windows WHERE id = ?", [(number,) for number in ids.tolist()])

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Writes what is left in memory."""
        for key, value in metadata.items():
            self.connection.execute("INSERT OR REPLACE INTO hoplite_metadata VALUES (?, ?)", (key, json.dumps(value)))
        if {"latitude", "longitude"} <= self._columns("recordings"):
            self.connection.execute(PLACE_DEPLOYMENTS, (SAME_PLACE,))
        self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA journal_mode = WAL")  # as Perch-Hoplite keeps it
        self._flush()
        (self.folder / INDEX_FILE).unlink(missing_ok=True)
        try:
            self.index.save(self.folder / INDEX_FILE)
            # usearch raises nothing where the disk fills while it saves: what it wrote must open
            written = require_usearch().Index.restore(self.folder / INDEX_FILE, view=True)
            if len(written) != len(self.index):
                raise RuntimeError(f"{len(written)} of {len(self.index)} vectors arrived")
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.folder.parent} cannot take {INDEX_FILE} ({error}); make room there and give the command again"
            ) from error

    def _insert_recording(self, place: Place, part: Rows) -> int:
        key = (place.deployment, place.project)
        found = self.connection.execute("SELECT id FROM deployments WHERE name = ? AND project = ?", key).fetchone()
        deployment = found[0] if found else self._insert("deployments", {"name": key[0], "project": key[1]}, {})
        values = {"filename": place.filename, "datetime": part.recorded_at, "deployment_id": deployment, **part.columns}
        kinds = {name: float if isinstance(value, float) else str for name, value in part.columns.items()}
        return self._insert("recordings", values, kinds)

    def _insert(self, table: str, values: Mapping[str, Any], kinds: Mapping[str, type]) -> int:
        """One row; columns that the table lacks are added to it."""
        present = self._columns(table)
        values = {name: value for name, value in values.items() if value is not None or name in present}
        for name in values.keys() - present:
            self.connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {SQL_TYPES[kinds[name]]}")
            present.add(name)
        marks = ", ".join("?" * len(values))
        query = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
        return int(self.connection.execute(query, list(values.values())).lastrowid or 0)

    def _columns(self, table: str) -> set[str]:
        if table not in self._present:
            self._present[table] = {row[1] for row in self.connection.execute(f"PRAGMA table_info({table})")}
        return self._present[table]

    def _put(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._keys.append(ids)
        self._vectors.append(vectors)
        if sum(map(len, self._keys)) >= VECTORS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._keys:
            self.index.add(np.concatenate(self._keys).astype(np.uint64), np.concatenate(self._vectors))
            self._keys, self._vectors = [], []


@contextmanager
def open_copy(old: Database | None, folder: Path, dimension: int) -> Iterator[Copy]:
    """A copy of the database in a folder, or an empty one there, inside a transaction."""
    if old is not None:
        copy_files(old, folder)
    with sqlite_errors(folder), closing(sqlite3.connect(folder / SQLITE_FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        if old is None:
            for statement in filter(str.strip, TABLES.split(";")):
                connection.execute(statement)
            config = default_usearch_config(dimension)
            connection.execute("INSERT INTO hoplite_metadata VALUES (?, ?)", (USEARCH_CONFIG, json.dumps(config)))
            index = open_index(config)
        else:
            index = old.index if old.index is not None else open_index(old.config)
        yield Copy(folder, connection, index)


def copy_files(old: Database, folder: Path) -> None:
    """All files of a database. SQLite's by SQLite: to open and close it otherwise would end the lock on it."""
    with closing(sqlite3.connect(folder / SQLITE_FILE)) as target:
        old.connection.backup(target)
    for entry in old.path.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        elif not entry.name.startswith(SQLITE_FILE):
            shutil.copy2(entry, folder / entry.name)


def _as_float16(vectors: np.ndarray, file: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = np.asarray(vectors).astype(np.float16)
    if not np.isfinite(found).all():
        raise UserError(f"an embedding of {file} is not finite in float16, which Perch-Hoplite keeps; leave the recording out")
    return found


def _time(offsets: np.ndarray) -> tuple[int, int]:
    """Start and end in steps of 10 µs, by which windows are the same; Perch-Hoplite allows 1 µs."""
    return round(float(offsets[0]) * 1e5), round(float(offsets[1]) * 1e5)
