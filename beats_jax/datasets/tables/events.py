"""Sounds in recordings, one a row: what every table of annotations or detections is read into, and written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.datasets.manifest import text_column

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("file", "start", "end", "label", "score", "low_hz", "high_hz")
NUMBERS = ("start", "end", "score", "low_hz", "high_hz")

Texts = Sequence[str] | np.ndarray
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Events:
    """N rows; all columns have the same length.

    Attributes:
      files: StringDType [N], paths or names of recordings.
      starts, ends: float64 [N], seconds from the start of the file, start <= end.
      labels: StringDType [N], without blanks around them; "" = none.
      scores: float64 [N]; NaN = none.
      low_hz, high_hz: float64 [N], bounds in frequency; NaN = none.
    """

    files: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    low_hz: np.ndarray
    high_hz: np.ndarray

    @classmethod
    def from_columns(
        cls,
        files: Texts,
        starts: Numbers,
        ends: Numbers,
        labels: Texts,
        *,
        scores: Numbers | None = None,
        low_hz: Numbers | None = None,
        high_hz: Numbers | None = None,
    ) -> Events:
        """From one item a row; a column left out is NaN.

        Raises:
          ValueError: columns of different lengths, a start or end that is not finite, or an end before its start.
        """
        unknown = np.full(len(files), np.nan)
        numbers = [
            np.asarray(unknown if column is None else column, np.float64) for column in (starts, ends, scores, low_hz, high_hz)
        ]
        start, end, score, low, high = numbers
        if any(len(column) != len(files) for column in (labels, *numbers)):
            raise ValueError(f"columns of events have {[len(labels), *map(len, numbers)]} rows, files has {len(files)}")
        if not (np.isfinite(start).all() and np.isfinite(end).all() and (start <= end).all()):
            raise ValueError("starts and ends of events must be finite, no end before its start")
        return cls(text_column(files), start, end, text_column([str(label).strip() for label in labels]), score, low, high)

    @classmethod
    def none(cls) -> Events:
        """No rows."""
        return cls.from_columns([], [], [], [])

    @classmethod
    def concatenate(cls, parts: Sequence[Events]) -> Events:
        """The rows of all parts, in order."""
        columns = [part.columns() for part in parts] or [cls.none().columns()]
        return cls(*(np.concatenate([column[name] for column in columns]) for name in COLUMNS))

    @classmethod
    def from_pandas(cls, table: pd.DataFrame) -> Events:
        """From columns with the names of `COLUMNS`; score, low_hz and high_hz may be absent. Raises `KeyError` for another."""
        optional = {name: table[name].to_numpy(np.float64) for name in ("score", "low_hz", "high_hz") if name in table}
        required = [table[name] for name in ("file", "start", "end", "label")]
        return cls.from_columns(
            required[0].tolist(),
            required[1].to_numpy(np.float64),
            required[2].to_numpy(np.float64),
            required[3].tolist(),
            scores=optional.get("score"),
            low_hz=optional.get("low_hz"),
            high_hz=optional.get("high_hz"),
        )

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by the names of `COLUMNS`."""
        values = (self.files, self.starts, self.ends, self.labels, self.scores, self.low_hz, self.high_hz)
        return dict(zip(COLUMNS, values, strict=True))

    def to_pandas(self) -> pd.DataFrame:
        """The columns of `COLUMNS`; texts are of Python's str."""
        import pandas as pd

        return pd.DataFrame({name: column if name in NUMBERS else column.tolist() for name, column in self.columns().items()})

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: np.ndarray | Sequence[int]) -> Events:
        """The given rows (int [R] or bool [N])."""
        chosen = np.asarray(rows)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        return Events(*(column[chosen] for column in self.columns().values()))

    def distinct(self) -> Events:
        """Each event (file, start, end, label) once, by its first row: tables of one detector repeat each other."""
        first: dict[tuple[str, float, float, str], int] = {}
        columns = (self.files, self.starts, self.ends, self.labels)
        for row, place in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            first.setdefault(place, row)
        return self.take(list(first.values()))

    def rows_of(self) -> dict[str, np.ndarray]:
        """file → int64 [rows of it], files in the order in which they come."""
        rows: dict[str, list[int]] = {}
        for row, file in enumerate(self.files.tolist()):
            rows.setdefault(file, []).append(row)
        return {file: np.array(found, np.int64) for file, found in rows.items()}
