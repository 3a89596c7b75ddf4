"""Brings a Perch-Hoplite database up to a table of embeddings, and repairs one; a kill at any moment leaves the old or the new one.

Perch-Hoplite commits SQLite first and writes the index after it; killed in between, the database has windows without vectors, which
its `skip` never embeds again. Here a copy with the new rows is written beside the database, reaches the disk, and takes its name in
one step (`files.whole_folder`). It costs the disk of a second database, and no order of two writes could do the same.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import cannot_write, finish_exchange, remove_leftovers, whole_folder
from beats_jax.inference.hoplite.database import Database, inspect, open_database, require_whole, sqlite_errors
from beats_jax.inference.hoplite.schema import (
    AUDIO_SOURCES,
    INDEX_FILE,
    MODEL_CONFIG,
    OFFSETS,
    SQL_TYPES,
    SQLITE_FILE,
    TABLES,
    USEARCH_CONFIG,
    default_usearch_config,
    open_index,
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


@dataclass(frozen=True)
class Model:
    """What made the vectors: their length, `config` for the metadata `model_config`, Hz of the sound, names of the logits."""

    dimension: int
    config: Mapping[str, Any]
    sample_rate: int
    labels: Sequence[str] = ()


def check_database(path: Path, model: Model) -> None:
    """Raises `UserError` where `update_database` would: another model, not whole, damaged, in use."""
    with _held(path) as old:
        if old is not None:
            _require_same_model(old, model)
            require_whole(old)


def update_database(path: Path, model: Model, rows: Iterable[Rows], roots: Sequence[Path]) -> Added:
    """Adds the windows that the database lacks; makes it where there is none.

    Args:
      roots: folders of recordings, each a project (`AudioSources`).
    Raises:
      UserError: the database is another model's, not whole, damaged or in use; a vector does not fit into float16; disk full.
    """
    with _held(path) as old:
        if old is not None:
            _require_same_model(old, model)
            require_whole(old)
        sources = AudioSources(old and old.metadata.get(AUDIO_SOURCES), roots, model.sample_rate)
        known = _Known.of(old)
        fresh = ((place, part) for place, part in known.new_windows(rows, sources))
        first = next(fresh, None)
        if first is None:
            return Added(0, 0)
        with whole_folder(path, replace=True) as folder, _open_copy(old, folder, model.dimension) as copy:
            metadata = {MODEL_CONFIG: model.config} | ({"logits": {"labels": list(model.labels)}} if model.labels else {})
            added = [copy.add(known, place, part) for place, part in chain([first], fresh)]
            copy.finish(metadata | {AUDIO_SOURCES: sources.to_json()})
        return Added(sum(part.recordings for part in added), sum(part.windows for part in added))


def repair_database(path: Path, model: Model | None = None, rows: Iterable[Rows] = ()) -> list[str]:
    """Makes a database whole: vectors that it lacks are taken from `rows`, and windows without one are removed from SQLite.

    What is removed stays in a copy of the database beside it. Recordings and their annotations stay in the database, so that
    Perch-Hoplite's `skip` embeds the removed windows again.

    Args:
      model: what made the vectors of `rows`.
    Returns:
      what was found and done, as lines.
    Raises:
      UserError: SQLite is damaged, of another version or in use; `rows` are of another model.
    """
    notes: list[str] = []
    with _held(path, notes) as old:
        if old is None:
            raise UserError(f"{path} is no Perch-Hoplite database ({SQLITE_FILE} is missing)")
        if model is not None:
            _require_same_model(old, model)
        windows = old.windows()
        found = inspect(old, windows)
        if not str(found):
            return [*notes, f"{path} is whole: {len(windows.ids)} windows, each with its vector"]
        backup = _unused(path.with_name(f"{path.name}.before-repair"))
        with whole_folder(backup) as folder:
            _copy_files(old, folder)
        lacking = np.union1d(found.without_vector, found.not_finite)
        dropped = np.union1d(lacking, found.doubled)
        with whole_folder(path, replace=True) as folder, _open_copy(old, folder, old.config["embedding_dim"]) as copy:
            if old.index is None or len(found.without_window) or len(dropped) > len(found.without_vector):
                copy.rebuild_index(old, np.setdiff1d(np.intersect1d(windows.ids, old.keys()), dropped))
            restored = copy.restore(lacking, rows, AudioSources(old.metadata.get(AUDIO_SOURCES)))
            removed = np.setdiff1d(dropped, restored)
            copy.remove(removed)
            copy.finish({})
        left = len(windows.ids) - len(removed)
        return [
            *notes,
            f"found in {path}: {found}",
            f"{len(restored)} vectors put in, {len(removed)} windows and {len(found.without_window)} vectors removed; "
            f"{left} windows, each with its vector",
            f"as it was: {backup}",
        ]


@dataclass
class _Known:
    """The recordings and windows that a database holds, and those added since."""

    recordings: dict[Place, int] = field(default_factory=dict)
    windows: dict[int, set[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, database: Database | None) -> _Known:
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


class _Copy:
    """The new database while it is filled. Nobody else sees it, and a kill throws it away: it needs no journal."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, index: Any) -> None:
        self.folder, self.connection, self.index = folder, connection, index
        self._keys: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self._present: dict[str, set[str]] = {}

    def add(self, known: _Known, place: Place, part: Rows) -> Added:
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
        except RuntimeError as error:  # usearch's own, without the number of the system's error
            raise UserError(f"{self.folder.parent} cannot take {INDEX_FILE} ({error}); make room there, and give it again") from error

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
def _held(path: Path, notes: list[str] | None = None) -> Iterator[Database | None]:
    """The database, None where there is none, while no other program can open it; what killed processes left is removed.

    Raises:
      UserError: it is in use, or damaged.
    """
    with ExitStack() as stack:
        lock = FileLock(path.absolute().with_name(f".{path.name}.lock"), timeout=0)
        try:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock)
        except Timeout as error:
            raise UserError(f"{path} is being written by another process; wait until it ends") from error
        except OSError as error:
            raise cannot_write(path, error) from error
        done = finish_exchange(path)
        if notes is not None and done:
            notes.append(done)
        remove_leftovers(path.absolute().parent)
        if not (path / SQLITE_FILE).is_file():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(f"{path} is no Perch-Hoplite database ({SQLITE_FILE} is missing); give another place")
            yield None
            return
        yield stack.enter_context(open_database(path, exclusive=True))


@contextmanager
def _open_copy(old: Database | None, folder: Path, dimension: int) -> Iterator[_Copy]:
    """A copy of the database in a folder, or an empty one there, inside a transaction."""
    if old is not None:
        _copy_files(old, folder)
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
        yield _Copy(folder, connection, index)


def _copy_files(old: Database, folder: Path) -> None:
    """All files of a database. SQLite's by SQLite: to open and close it otherwise would end the lock on it."""
    with closing(sqlite3.connect(folder / SQLITE_FILE)) as target:
        old.connection.backup(target)
    for entry in old.path.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        elif not entry.name.startswith(SQLITE_FILE):
            shutil.copy2(entry, folder / entry.name)


def _require_same_model(old: Database, model: Model) -> None:
    found = old.metadata.get(MODEL_CONFIG)
    flat = [_flat(config) if isinstance(config, Mapping) else {} for config in (found, json.loads(json.dumps(model.config)))]
    differing = sorted(key for key in flat[0].keys() | flat[1].keys() if flat[0].get(key) != flat[1].get(key))
    if differing or not flat[0]:
        what = f"{differing[0]} was {flat[0].get(differing[0])}, now {flat[1].get(differing[0])}" if flat[0] else "it names no model"
        raise UserError(f"{old.path} holds embeddings of another model ({what[:160]}); give another place for the database")


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in config.items():
        parts |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return parts


def _as_float16(vectors: np.ndarray, file: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = np.asarray(vectors).astype(np.float16)
    if not np.isfinite(found).all():
        raise UserError(f"an embedding of {file} is not finite in float16, which Perch-Hoplite keeps; leave the recording out")
    return found


def _time(offsets: np.ndarray) -> tuple[int, int]:
    """Start and end in steps of 10 µs, by which windows are the same; Perch-Hoplite allows 1 µs."""
    return round(float(offsets[0]) * 1e5), round(float(offsets[1]) * 1e5)


def _unused(path: Path) -> Path:
    names = chain([path], (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000)))
    return next(name for name in names if not name.exists())
