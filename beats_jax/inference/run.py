"""The one inference loop: batches of windows through a program, with the next batches under way while one is fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.inference.program import Program
from beats_jax.inference.stream import NO_ROW, WindowBatch
from beats_jax.parallel.mesh import put_batch

PLACES_A_ROW = 8191  # windows of different rows have different places, from which objectives draw their masks and crops


@dataclass(frozen=True)
class WindowValues:
    """What a program gave of the windows of a batch, W of them, padding left out.

    Attributes:
      values: arrays [W, ...] by name; (sum, count) over the batch where the program gives those; empty where W is 0.
      row, number, start, seconds, finished, errors: see `stream.WindowBatch`.
    """

    values: dict[str, Any]
    row: np.ndarray
    number: np.ndarray
    start: np.ndarray
    seconds: np.ndarray
    finished: tuple[int, ...]
    errors: tuple[tuple[int, AudioError], ...]


def run(
    program: Program, batches: Iterable[WindowBatch], *, mesh: jax.sharding.Mesh | None = None, in_flight: int = 2
) -> Iterator[WindowValues]:
    """Runs the program over every batch.

    Args:
      mesh: devices of this process that share each batch; None = the default device.
      in_flight: batches that are sent to the device before the results of the first of them are fetched. One more hides the
        transfer, more only hold memory.
    Yields:
      one result a batch, in order.
    """
    waiting: deque[tuple[WindowBatch, Any]] = deque()
    for batch in batches:
        waiting.append((batch, _start(program, batch, mesh)))
        if len(waiting) > in_flight:
            yield _fetch(*waiting.popleft())
    while waiting:
        yield _fetch(*waiting.popleft())


def _start(program: Program, batch: WindowBatch, mesh: jax.sharding.Mesh | None) -> Any:
    """The results, still under way; None for a batch that only carries the ends of rows."""
    real = batch.row != NO_ROW
    if not real.any():
        return None
    places = (batch.row * PLACES_A_ROW + batch.number) & 0x7FFFFFFF
    arrays = {
        "waveforms": batch.waveforms,
        "lengths": batch.lengths,
        "rows": batch.row.astype(np.int32),
        "positions": places.astype(np.int32),
        "example_mask": real,
    }
    with nullcontext() if mesh is None else jax.set_mesh(mesh):
        return program(program.params, jax.device_put(arrays) if mesh is None else put_batch(mesh, arrays))


def _fetch(batch: WindowBatch, results: Any) -> WindowValues:
    count = int((batch.row != NO_ROW).sum())  # padding comes last

    def real(value: jax.Array) -> np.ndarray:
        fetched = np.asarray(value)
        return fetched[:count] if fetched.ndim else fetched

    values = {} if results is None else jax.tree.map(real, results)
    row, number, start, seconds = (column[:count] for column in (batch.row, batch.number, batch.start, batch.seconds))
    return WindowValues(values, row, number, start, seconds, batch.finished, batch.errors)
