"""The windows that training draws from rows, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest


@dataclass(frozen=True)
class WindowTable:
    """W windows of a manifest."""

    row: np.ndarray  # int32 [W]
    start_seconds: np.ndarray  # float64 [W], from the start of the file
    seconds: np.ndarray  # float64 [W], length

    def __len__(self) -> int:
        return len(self.row)


def row_bounds(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every row in its file, float64 [N] seconds. Raises `ValueError` for a manifest that is not validated."""
    starts = np.where(np.isnan(manifest.starts), 0.0, manifest.starts)
    seconds = manifest.metadata.get("seconds")
    ends = manifest.ends if seconds is None else np.where(np.isnan(manifest.ends), seconds, np.fmin(manifest.ends, seconds))
    unknown = np.flatnonzero(np.isnan(ends))
    if len(unknown):
        raise ValueError(f"{len(unknown)} rows have no known duration; pass the manifest through validation.validate first")
    return starts, ends


def training_stretches(manifest: Manifest, data: DataConfig) -> WindowTable:
    """The stretches of an epoch: training draws one window from each.

    With `data.draw` "rows" a stretch is a row. With "time" a row has one stretch per window of its duration (rounded, at least
    one); their windows start in equal shares of the row, so that every start is equally likely, and an hour of one recording
    is read as often as an hour of another.
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
    """(start, length) in seconds of one window: at a uniformly random place of the row (`crop` "random") or at its start."""
    spare = max(0.0, end - start - window_seconds)
    offset = float(rng.uniform(0.0, spare)) if crop == "random" and spare > 0 else 0.0
    return start + offset, min(window_seconds, end - start)
