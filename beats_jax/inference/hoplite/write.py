"""Brings a Perch-Hoplite database up to a table of embeddings, and repairs one. A kill leaves the old database or the new one.

Perch-Hoplite commits SQLite first and writes the index after it; killed in between, it has windows without vectors, which its
`skip` never embeds again. Here a copy with the new rows is written beside the database, reaches the disk, and takes its name in
one step (`files.whole_folder`). It costs the disk of a second database; no order of two writes could do the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import cannot_write, finish_exchange, remove_leftovers, whole_folder
from beats_jax.inference.hoplite.copy import Added, Known, Rows, copy_files, open_copy
from beats_jax.inference.hoplite.database import Database, inspect, open_database, require_whole
from beats_jax.inference.hoplite.schema import AUDIO_SOURCES, MODEL_CONFIG, SQLITE_FILE
from beats_jax.inference.hoplite.sources import AudioSources

WINDOWS_PER_STEP = 200_000  # what a kill loses at most; each step copies the database


@dataclass(frozen=True)
class Model:
    """What made the vectors: their length, `config` for the metadata `model_config`, Hz of the sound, names of the logits."""

    dimension: int
    config: Mapping[str, Any]
    sample_rate: int
    labels: Sequence[str] = ()


def check_database(path: Path, model: Model) -> None:
    """Raises `UserError` where `update_database` would: another model, not whole, damaged, in use."""
    with _held(_real(path)) as old:
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
    path, rows, total = _real(path), iter(rows), Added(0, 0)
    while True:
        added = _add_some(path, model, rows, roots)
        total = Added(total.recordings + added.recordings, total.windows + added.windows)
        if added.windows < WINDOWS_PER_STEP:
            return total


def _add_some(path: Path, model: Model, rows: Iterator[Rows], roots: Sequence[Path]) -> Added:
    """Adds the next windows, somewhat more than `WINDOWS_PER_STEP` if there are so many, in one step."""
    with _held(path) as old:
        if old is not None:
            _require_same_model(old, model)
            require_whole(old)
        sources = AudioSources(old and old.metadata.get(AUDIO_SOURCES), roots, model.sample_rate)
        known = Known.of(old)
        fresh = known.new_windows(rows, sources)
        first = next(fresh, None)
        if first is None:
            return Added(0, 0)
        recordings = windows = 0
        with _replaced(old), whole_folder(path, replace=True) as folder, open_copy(old, folder, model.dimension) as copy:
            for place, part in chain([first], fresh):
                added = copy.add(known, place, part)
                recordings, windows = recordings + added.recordings, windows + added.windows
                if windows >= WINDOWS_PER_STEP:
                    break
            metadata = {MODEL_CONFIG: model.config, AUDIO_SOURCES: sources.to_json()}
            copy.finish(metadata | ({"logits": {"labels": list(model.labels)}} if model.labels else {}))
        return Added(recordings, windows)


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
    path, notes = _real(path), []
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
            copy_files(old, folder)
        lacking = np.union1d(found.without_vector, found.not_finite)
        dropped = np.union1d(lacking, found.doubled)
        dimension = old.config["embedding_dim"]
        with _replaced(old), whole_folder(path, replace=True) as folder, open_copy(old, folder, dimension) as copy:
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
def _replaced(old: Database | None) -> Iterator[None]:
    """Around the exchange of a held database.

    SQLite reaches its journals by name, where the new database will stand. So the old one must have no WAL open that its end
    would remove there, and a program that waits for its lock must not get it: it would write a WAL of it beside the new one.
    """
    if old is None:
        yield
        return
    old.connection.execute("PRAGMA journal_mode = DELETE")  # Perch-Hoplite sets WAL whenever it opens one
    handle = os.open(old.path / SQLITE_FILE, os.O_RDWR)
    try:
        yield
        os.pwrite(handle, bytes(100), 0)  # no database any more, for whoever still has the old file open
        old.connection.close()
    finally:
        os.close(handle)  # ends the lock, too


def _require_same_model(old: Database, model: Model) -> None:
    found = old.metadata.get(MODEL_CONFIG)
    flat = [_flat(config) if isinstance(config, Mapping) else {} for config in (found, json.loads(json.dumps(model.config)))]
    differing = sorted(key for key in flat[0].keys() | flat[1].keys() if flat[0].get(key) != flat[1].get(key))
    if differing or not flat[0]:
        was, now = (config.get(differing[0]) for config in flat)
        what = f"{differing[0]} was {was}, now {now}" if flat[0] else "it names no model"
        raise UserError(f"{old.path} holds embeddings of another model ({what[:160]}); give another place for the database")


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in config.items():
        parts |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return parts


def _real(path: Path) -> Path:
    """The folder itself, where the path is a link to it: the link must stay."""
    return path.resolve() if path.is_symlink() else path


def _unused(path: Path) -> Path:
    names = chain([path], (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000)))
    return next(name for name in names if not name.exists())
