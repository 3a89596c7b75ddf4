"""What is clustered: regions, or windows of `embed`, with their vectors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.recorders.metadata import COLUMNS
from beats_jax.inference.search.embeddings import Embeddings, open_embeddings
from beats_jax.pipelines.discovering.regions import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("file", "start", "end")


@dataclass(frozen=True, eq=False)
class Items:
    """N sounds, by file and start.

    Attributes:
      frame: file, start, end (seconds), low_hz, high_hz, snr_db (NaN for windows), `recorders.metadata.COLUMNS`; index 0 to N-1.
      vectors: float32 [N, D]. recordings: all that were searched, also those without a sound.
    """

    frame: pd.DataFrame
    vectors: np.ndarray
    recordings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: the vector is finite."""
        return np.asarray(np.isfinite(self.vectors).all(axis=1))

    def fingerprint(self) -> str:
        """Hash of the recordings, places and vectors: other sounds have another, also where there are as many of them."""
        digest = hashlib.sha256(json.dumps([self.recordings, self.frame["file"].tolist()]).encode())
        for name in ("start", "end", *BOUNDS):
            digest.update(self.frame[name].to_numpy(np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.vectors))
        return digest.hexdigest()

    def take(self, rows: np.ndarray) -> Items:
        """The given rows (int [R] or bool [N])."""
        return replace(self, frame=self.frame[rows] if rows.dtype == bool else self.frame.iloc[rows], vectors=self.vectors[rows])


def open_items(folder: Path | str, column: str | None = None) -> Items:
    """The rows of an output of `discover` or `embed`, with the vectors of a column.

    Raises:
      UserError: no embeddings, a damaged part, or an unknown column.
    """
    from beats_jax.inference.store import finished_recordings

    table = open_embeddings(folder)
    searched = sorted(finished_recordings(table.folder))
    if not len(table):
        return Items(_frame(table), np.zeros((0, 0), np.float32), tuple(searched))
    name = table.require_column(column)
    frame = _frame(table)
    order = np.lexsort([frame["end"], frame["start"], frame["file"].to_numpy(str)])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    vectors, seen = np.empty((len(table), table.columns[name]), np.float32), 0
    for part in table.read_vectors(name):
        vectors[place[seen : seen + len(part)]] = part
        seen += len(part)
    return Items(frame.iloc[order].reset_index(drop=True), vectors, tuple(searched))


def _frame(table: Embeddings) -> pd.DataFrame:
    import pandas as pd

    found = table.places(np.arange(len(table))).to_pandas() if table.parts else pd.DataFrame({name: [] for name in PLACE})
    columns: dict[str, Any] = {name: found[name] for name in PLACE}
    for name in BOUNDS:
        columns[name] = found[name].astype(float) if name in found else pd.Series(np.nan, found.index, dtype=float)
    for name, kind in COLUMNS.items():
        values = found[name].tolist() if name in found else [None] * len(found)
        texts = [value if isinstance(value, str) else None for value in values]
        columns[name] = pd.Series(texts, dtype=object) if kind is str else pd.Series(values, dtype=np.float64)
    return pd.DataFrame(columns)
