"""A Perch-Hoplite database as a table of embeddings to search in (`beats_jax.open_embeddings`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.errors import UserError
from beats_jax.inference.hoplite.read import read_database
from beats_jax.inference.hoplite.schema import MODEL_KEY
from beats_jax.inference.search.embeddings import Embeddings
from beats_jax.inference.search.nearest import Nearest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from beats_jax.inference.search.query import Examples

CHUNK = 20_000  # vectors given at once


class HopliteEmbeddings(Embeddings):
    """The windows of a database, in memory, by id. Made by `open_embeddings`.

    Attributes:
      annotations: of all its recordings (`read.Annotation`).
    """

    def __init__(self, folder: Path) -> None:
        """Reads all windows. Raises `UserError` as `read_database`."""
        rows = read_database(folder)
        lengths = rows.ends - rows.starts
        if rows.model.get("model_key") == MODEL_KEY:
            self.identity = dict(rows.model["model_config"])
        else:
            grid = {"window_seconds": float(np.median(lengths)) if len(lengths) else 0.0}
            name = str(rows.model.get("model_key") or "a model that it does not name")
            self.identity = {"model": name, "audio": {}, "grid": grid}
        column = str(self.identity.get("column", "embedding"))
        self.folder, self.record, self.labels, self.parts = folder, {}, (), []
        self.columns, self._loaded, self._models = {column: rows.embeddings.shape[1]}, {}, {}
        self._vectors = {column: (rows.embeddings.shape[1], rows.embeddings.dtype)}
        self.annotations, self._rows = rows.annotations, rows

    def __len__(self) -> int:
        return len(self._rows.files)

    def to_pandas(self) -> pd.DataFrame:
        """The whole table, vectors and all."""
        frame = self.places(np.arange(len(self))).to_pandas()
        frame[next(iter(self.columns))] = list(self._rows.embeddings)
        return frame

    def read_vectors(self, column: str) -> Iterator[np.ndarray]:
        """The vectors in order, float32 [n, D]."""
        for first in range(0, len(self), CHUNK):
            yield self._rows.embeddings[first : first + CHUNK]

    def places(self, rows: np.ndarray) -> pa.Table:
        """file, start, end of the given rows (int64 [R], by number), in their order."""
        import pyarrow as pa

        files = pa.array([self._rows.files[row] for row in rows.tolist()], pa.string())
        return pa.table({"file": files, "start": self._rows.starts[rows], "end": self._rows.ends[rows]})

    def _nearest(
        self, examples: Examples, others: Examples | None, k: int, metric: str, column: str, approximate: bool
    ) -> Nearest:
        if approximate:
            raise UserError(f"{self.folder} is a Perch-Hoplite database; search it without --approximate")
        return super()._nearest(examples, others, k, metric, column, approximate)
