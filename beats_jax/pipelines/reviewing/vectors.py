"""The embedding of each clip: that of the window of its recording whose middle is nearest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.inference.search.embeddings import open_embeddings


def vectors_of(events: Events, folder: Path) -> np.ndarray:
    """float32 [N, D] of the clips, from an output of `embed`; NaN where their recording is not in it.

    Raises:
      UserError: no such output, or none of the recordings is in it.
    """
    table = open_embeddings(folder)
    places = table.places(np.arange(len(table)))
    files = [os.path.realpath(name) for name in places["file"].to_pylist()]
    middles = (places["start"].to_numpy() + places["end"].to_numpy()) / 2
    rows_of: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        rows_of.setdefault(file, []).append(row)
    nearest = np.full(len(events), -1, np.int64)
    for file, own in events.rows_of().items():
        rows = np.array(rows_of.get(os.path.realpath(file), ()), np.int64)
        if len(rows):
            wanted = (events.starts[own] + events.ends[own]) / 2
            nearest[own] = rows[np.abs(middles[rows][None] - wanted[:, None]).argmin(axis=1)]
    if (nearest < 0).all():
        raise UserError(f"{folder} holds none of these recordings; embed them, under the names that detect had")
    column = table.require_column(None)
    found = np.full((len(events), table.columns[column]), np.nan, np.float32)
    seen = 0
    for part in table.read_vectors(column):
        here = (nearest >= seen) & (nearest < seen + len(part))
        found[here] = part[nearest[here] - seen]
        seen += len(part)
    return found
