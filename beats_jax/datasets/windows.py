"""Which stretch of a row training reads: one window per visit; in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest


@dataclass(frozen=True)
class WindowTable:
    """Windows of a manifest, W of them.

    Attributes:
      row: int32 [W], row of the manifest.
      start_seconds: float64 [W], counted from the start of the file.
      seconds: float64 [W], sound in it.
    """

    row: np.ndarray
    start_seconds: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def row_bounds(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every row in its file, float64 [N] seconds, unknown ends replaced by the file's duration.

    Raises:
      ValueError: a row has neither an end nor a duration: the manifest has not been through `validation.validate`.
    """
    starts = np.where(np.isnan(manifest.starts), 0.0, manifest.starts)
    seconds = manifest.metadata.get("seconds")
    ends = manifest.ends if seconds is None else np.where(np.isnan(manifest.ends), seconds, np.fmin(manifest.ends, seconds))
    unknown = np.flatnonzero(np.isnan(ends))
    if len(unknown):
        raise ValueError(f"{len(unknown)} rows have no known duration; pass the manifest through validation.validate first")
    return starts, ends


def training_stretches(manifest: Manifest, data: DataConfig) -> WindowTable:
    """What an epoch of training visits once each: a window is drawn from every stretch.

    With `data.draw` "rows" a stretch is a row. With "time" a row has as many stretches as it lasts windows (rounded, one at
    least); their windows start in equal shares of the row, so that every start is as likely as any other, and an hour of one
    recording is heard as often as an hour of another.
    """
    starts, ends = row_bounds(manifest)
    seconds = ends - starts
    if data.draw == "rows":
        return WindowTable(np.arange(len(manifest), dtype=np.int32), starts, seconds)
    counts = np.maximum(1, np.rint(seconds / data.window_seconds)).astype(np.int64)
    row = np.repeat(np.arange(len(manifest), dtype=np.int32), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    spare = np.maximum(0.0, seconds - data.window_seconds)  # where a window may start
    step = (spare / counts)[row]
    return WindowTable(row, starts[row] + place * step, np.minimum(step + data.window_seconds, seconds[row]))


def training_window(start: float, end: float, window_seconds: float, crop: str, rng: np.random.Generator) -> tuple[float, float]:
    """One window of a row: its start and how much sound it holds, in seconds.

    A row longer than the window is cut at a uniformly random place (`crop` "random") or at its start ("start").
    """
    spare = max(0.0, end - start - window_seconds)
    offset = float(rng.uniform(0.0, spare)) if crop == "random" and spare > 0 else 0.0
    return start + offset, min(window_seconds, end - start)
