"""Scores of every window in a folder: how a detector's results are stored, and read back a recording at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.inference.reduce import Window
from beats_jax.inference.store import read_rows
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.window_job import PLACES, WindowTable, Words, place_types, recorder_types

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = "scores"
RECORDED = ("recorded_at", "zone", "site")  # what the rates of calls need of the recorder's columns
PREFIX = "p:"  # of the column of a label that is called like another column; as in predictions.csv
WORDS = Words("score", "scoring", "scored", "scores", "or give a longer --hop")


@dataclass(frozen=True)
class ScoredRecording:
    """W windows of a recording, by time.

    Attributes:
      starts, ends: float64 [W] seconds. scores: float32 [W, C]. recorded: the columns of `RECORDED`.
    """

    file: str
    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    recorded: Mapping[str, str | None]


def score_columns(labels: Sequence[str]) -> dict[str, str]:
    """label → its column: the label, with "p:" before it where another column has that name (duckdb takes A and a for one)."""
    taken = {name.casefold() for name in (*place_types(), *recorder_types())}
    columns = {}
    for label in labels:
        column = label
        while column.casefold() in taken:
            column = PREFIX + column
        taken.add(column.casefold())
        columns[label] = column
    return columns


def score_table(detector: Detector, tail: Any) -> WindowTable:
    """Columns file, start, end, what the recorder wrote, and the score of each label as float32."""
    import pyarrow as pa

    columns = score_columns(detector.labels)
    return WindowTable(
        program=detector.program,
        grid=replace(detector.grid, tail=tail),
        identity=detector.identity(),
        schema=pa.schema({**place_types(), **recorder_types(), **dict.fromkeys(columns.values(), pa.float32())}),
        columns=partial(_score_arrays, detector=detector, columns=list(columns.values())),
        row_bytes=4 * len(columns),
        words=WORDS,
    )


def _score_arrays(windows: list[Window], detector: Detector, columns: list[str]) -> dict[str, pa.Array]:
    import pyarrow as pa

    scores = detector.scores(np.stack([window.values["logits"] for window in windows])).astype(np.float32)
    return {column: pa.array(scores[:, place]) for place, column in enumerate(columns)}


def scored_recordings(folder: Path, columns: Sequence[str]) -> Iterator[ScoredRecording]:
    """The recordings of a folder, in the order of its shards; memory holds one shard.

    Args:
      columns: those of the labels that are wanted, in the order of the scores.
    Raises:
      UserError: the folder holds no job, or a shard is damaged.
    """
    for table in read_rows(folder, [*PLACES, *RECORDED, *columns]):
        files = table["file"].to_pylist()
        starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
        scores = np.empty((len(files), len(columns)), np.float32)
        for place, column in enumerate(columns):
            scores[:, place] = table[column].to_numpy()
        cells = {name: table[name].to_pylist() for name in RECORDED}
        first = 0
        for behind in range(1, len(files) + 1):
            if behind == len(files) or files[behind] != files[first]:
                recorded = {name: column[first] for name, column in cells.items()}
                rows = slice(first, behind)
                yield ScoredRecording(files[first], starts[rows], ends[rows], scores[rows], recorded)
                first = behind
