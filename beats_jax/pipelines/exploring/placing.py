"""A file from outside on a map: embedded by the very model and windows of the collection, and placed among its neighbours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.audio.io import audio_info
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.neighbours import nearest_by_cosine, place_among
from beats_jax.pipelines.exploring.collection import Collection
from beats_jax.pipelines.exploring.maps import MapSettings

NEIGHBOURS = 5  # as many as seed 000's page
MOST_SECONDS = 600.0  # of an upload that are embedded
MOST_BYTES = 1 << 30  # of an upload, whatever the server lets through


@dataclass(frozen=True)
class Placed:
    """W windows of a file: starts and ends (seconds), vectors [W, D], nearest rows [W, k] and their cosines [W, k].

    `seconds` is the length of the file, of which at most `MOST_SECONDS` are here.
    """

    starts: np.ndarray
    ends: np.ndarray
    vectors: np.ndarray
    rows: np.ndarray
    similar: np.ndarray
    seconds: float

    def places(self, collection: Collection, settings: MapSettings, places: np.ndarray) -> np.ndarray:
        """Where the windows fall on a map with these places, float32 [W, 2 or 3].

        Exact for PCA, which is a formula; for t-SNE and UMAP the mean place of the nearest neighbours (`place_among`).
        """
        if settings.method == "pca":
            return collection.principal.project(self.vectors)[:, : settings.dimensions]
        return place_among(places, self.rows[:, :NEIGHBOURS], self.similar[:, :NEIGHBOURS])


def place_file(collection: Collection, path: Path, neighbours: int = 10) -> Placed:
    """Embeds a file as the collection was embedded, and finds its neighbours.

    Raises:
      UserError: no sound can be read, or the model of the collection cannot be loaded.
    """
    seconds = audio_info(path).seconds
    clip = str(path) if seconds <= MOST_SECONDS else f"{path}@0-{MOST_SECONDS:g}"
    settings = collection.settings
    model = settings.model if settings.embeddings else ""  # a folder of audio has just been embedded by the model that it records
    found = collection.table.examples(clip, settings.column or None, model=model or None)
    if not np.isfinite(found.vectors).all():
        raise UserError(f"{path.name} has vectors that are not finite; it cannot be placed")
    rows, similar = nearest_by_cosine(collection.units, found.vectors, neighbours)
    stretches = [stretch for stretch in found.stretches if stretch is not None]
    starts, ends = (np.array([getattr(stretch, name) for stretch in stretches]) for name in ("start", "end"))
    return Placed(starts, ends, found.vectors, rows, similar, seconds)


@contextmanager
def scratch_file(name: str, data: bytes | memoryview, most: int = MOST_BYTES) -> Iterator[Path]:
    """The bytes of an upload as a file in a folder of its own, which is removed at the end; of its name only the suffix counts.

    Raises:
      UserError: it is empty or too large.
    """
    if not len(data):
        raise UserError("the file is empty; give a recording")
    if len(data) > most:
        raise UserError(f"the file has {len(data) / 1e6:.0f} MB, and at most {most / 1e6:.0f} MB are taken; cut it first")
    suffix = os.path.splitext(name)[1].lower()
    with tempfile.TemporaryDirectory(prefix="beats_jax_upload_") as folder:
        path = Path(folder) / f"upload{suffix if suffix in AUDIO_SUFFIXES else ''}"
        path.write_bytes(data)
        yield path
