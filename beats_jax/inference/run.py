"""The inference loop: runs a program over batches of windows and gives the results back in order.

    batches ─dispatch→ device queue, `in_flight` batches deep ─fetch→ WindowValues

JAX starts a computation and returns before it is done, so the loop sends the next batches before it waits for the oldest one:
decoding, transfer and computation then overlap.
"""

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

WINDOWS_PER_ROW = 8191  # rows of up to so many windows share no position


@dataclass(frozen=True)
class WindowValues:
    """The results of a batch for its W windows, without padding.

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
      in_flight: batches sent to the device before the oldest result is fetched. Two hide the transfer; more only hold memory.
    Yields:
      one result a batch, in order.
    """
    waiting: deque[tuple[WindowBatch, Any]] = deque()
    for batch in batches:
        waiting.append((batch, _dispatch(program, batch, mesh)))
        if len(waiting) > in_flight:
            yield _fetch(*waiting.popleft())
    while waiting:
        yield _fetch(*waiting.popleft())


def _dispatch(program: Program, batch: WindowBatch, mesh: jax.sharding.Mesh | None) -> Any:
    """Starts the computation of a batch; None where it holds no window and only brings the ends of rows."""
    is_real = batch.row != NO_ROW
    if not is_real.any():
        return None
    # Objectives draw masks and crops from the position of a window. Made of its row and number, it depends neither on the batch
    # size nor on the number of processes.
    positions = (batch.row * WINDOWS_PER_ROW + batch.number) & 0x7FFFFFFF
    arrays = {
        "waveforms": batch.waveforms,
        "lengths": batch.lengths,
        "rows": batch.row.astype(np.int32),
        "positions": positions.astype(np.int32),
        "example_mask": is_real,
    }
    with nullcontext() if mesh is None else jax.set_mesh(mesh):
        return program(program.params, jax.device_put(arrays) if mesh is None else put_batch(mesh, arrays))


def _fetch(batch: WindowBatch, results: Any) -> WindowValues:
    """Waits for the results and drops those of padding."""
    count = int((batch.row != NO_ROW).sum())  # padding comes last

    def fetch(value: jax.Array) -> np.ndarray:
        array = np.asarray(value)
        return array[:count] if array.ndim else array

    values = {} if results is None else jax.tree.map(fetch, results)
    row, number, start, seconds = (column[:count] for column in (batch.row, batch.number, batch.start, batch.seconds))
    return WindowValues(values, row, number, start, seconds, batch.finished, batch.errors)
