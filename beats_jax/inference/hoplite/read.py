"""The windows of a Perch-Hoplite database as arrays, with the annotations of its recordings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.inference.hoplite.database import REMEDY, Database, open_database, require_whole
from beats_jax.inference.hoplite.schema import AUDIO_SOURCES, LABEL_TYPES, MODEL_CONFIG, OFFSETS, SQLITE_FILE
from beats_jax.inference.hoplite.sources import AudioSources


class Annotation(NamedTuple):
    """A label of a stretch of a recording; `kind` is one of `schema.LABEL_TYPES`, `provenance` says whose it is."""

    file: str
    start: float
    end: float
    label: str
    kind: str
    provenance: str


@dataclass(frozen=True, eq=False)
class HopliteRows:
    """N windows, by id.

    Attributes:
      files: N paths, below the project's folder where the database names it. starts, ends: float64 [N], seconds.
      embeddings: float32 [N, D], as stored (float16). annotations: of all recordings.
      model: the metadata `model_config`, {} = none.
    """

    files: list[str]
    starts: np.ndarray
    ends: np.ndarray
    embeddings: np.ndarray
    annotations: list[Annotation]
    model: Mapping[str, Any]


def read_database(path: str | os.PathLike[str]) -> HopliteRows:
    """Reads a database; nothing in it is changed.

    Raises:
      UserError: it is no database, of another version, damaged, not whole (`embed --repair` helps), or in use.
    """
    with open_database(Path(path)) as database:
        windows = database.windows()
        require_whole(database, windows)
        files = _files(database)
        lost = sorted(set(windows.recordings.tolist()) - files.keys())
        if lost:
            raise UserError(f"{database.path / SQLITE_FILE} is damaged (there is no recording {lost[0]}); {REMEDY}")
        return HopliteRows(
            [files[recording] for recording in windows.recordings.tolist()],
            windows.offsets[:, 0].copy(),
            windows.offsets[:, 1].copy(),
            database.vectors(windows.ids).astype(np.float32),
            _annotations(database, files),
            _model(database),
        )


def _files(database: Database) -> dict[int, str]:
    """Recording → its file."""
    sources = AudioSources(database.metadata.get(AUDIO_SOURCES))
    query = "SELECT r.id, d.project, r.filename FROM recordings r LEFT JOIN deployments d ON d.id = r.deployment_id"
    return {number: sources.file_of(project, filename) for number, project, filename in database.connection.execute(query)}


def _model(database: Database) -> Mapping[str, Any]:
    found = database.metadata.get(MODEL_CONFIG)
    return found if isinstance(found, Mapping) else {}


def _annotations(database: Database, files: dict[int, str]) -> list[Annotation]:
    query = "SELECT recording_id, offsets, label, label_type, provenance FROM annotations ORDER BY id"
    found = []
    for recording, blob, label, kind, provenance in database.connection.execute(query):
        offsets = np.frombuffer(blob, OFFSETS) if isinstance(blob, bytes) and len(blob) == 16 else ()
        if len(offsets) != 2 or kind not in range(len(LABEL_TYPES)) or recording not in files:
            raise UserError(f"{database.path / SQLITE_FILE} is damaged (annotation {label!r} of recording {recording}); {REMEDY}")
        found.append(Annotation(files[recording], float(offsets[0]), float(offsets[1]), label, LABEL_TYPES[kind], provenance))
    return found
