"""One inference job: a program over recordings, one answer a recording, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import jax
import numpy as np

from beats_jax.audio.io import AudioError, audio_info
from beats_jax.inference.grid import Grid
from beats_jax.inference.program import Program
from beats_jax.inference.reduce import OnError, Reducer, Row, reduce_rows
from beats_jax.inference.run import WindowValues, run
from beats_jax.inference.stream import Stretches, window_batches
from beats_jax.parallel.exchange import gather_values
from beats_jax.parallel.mesh import inference_batch_size, local_mesh, to_local

HEADERS = 256  # files whose headers are read before the first batch


def window_values(
    program: Program,
    recordings: Stretches,
    grid: Grid,
    *,
    batch_size: int | None = None,
    threads: int = 2,
    mesh: jax.sharding.Mesh | None = None,
    samples: int = 0,
    skip: Container[int] = (),
    shared: bool = False,
) -> Iterator[WindowValues]:
    """Runs the program over every window of every row.

    Args:
      batch_size: windows at once, on all processes together where a mesh joins them; None = what suits the device.
      threads: recordings that are decoded at once.
      mesh: devices that share each batch.
      samples: length of the batches; 0 = what these rows need (`batch_samples`), so that no padding is computed.
      skip: rows to leave out. shared: this process takes its share of the files only, as the others do.
    """
    batch_size = inference_batch_size(mesh) if batch_size is None else batch_size
    if mesh is not None and jax.process_count() > 1:
        # Each process computes alone on its own devices: files give unequal numbers of windows, and in lockstep all processes
        # would wait for the one with the longest file. Only weights and answers cross.
        own = local_mesh(mesh)
        batch_size = max(own.size, batch_size * own.size // mesh.size)
        program, mesh = replace(program, params=to_local(own, program.params)), own  # type: ignore[type-var]
    samples = max(program.min_samples, samples or batch_samples(recordings, grid, program.audio.sample_rate))
    place = {"host_index": jax.process_index(), "host_count": jax.process_count()} if shared else {}
    batches = window_batches(recordings, grid, program.audio, batch_size, samples=samples, threads=threads, skip=skip, **place)
    return run(program, batches, mesh=mesh)


def iterate_rows(
    program: Program, recordings: Stretches, grid: Grid, reducer: Reducer, *, on_error: OnError = "nan", **options: Any
) -> Iterator[Row]:
    """Yields the answer of each row when its last window is computed; options as in `window_values`.

    Raises:
      AudioError: the first bad row, with `on_error` raise.
    """
    return reduce_rows(window_values(program, recordings, grid, **options), reducer, on_error)


def answer_rows(
    program: Program, recordings: Stretches, grid: Grid, reducer: Reducer, *, shared: bool = False, **options: Any
) -> list[Row]:
    """All of `iterate_rows`, in the order of the rows.

    Args:
      shared: all processes of a job call this with the same rows, share the files, and each gets all answers.
    """
    own = list(iterate_rows(program, recordings, grid, reducer, shared=shared, **options))
    return sorted(chain.from_iterable(gather_values(own) if shared else [own]), key=lambda row: row.row)


def batch_samples(recordings: Stretches, grid: Grid, sample_rate: int) -> int:
    """Samples of the longest window that the rows seem to have, so that short rows are not padded to a whole window.

    Durations come from validation (`metadata["seconds"]` of a manifest), else from the headers of at most `HEADERS` files. Where
    a row turns out to be longer, batches become a window long (`stream.window_batches`): a wrong header costs time and changes
    no result.
    """
    window = grid.window_samples(sample_rate)
    starts, ends = np.nan_to_num(np.asarray(recordings.starts, np.float64)), np.array(recordings.ends, np.float64)
    known = getattr(recordings, "metadata", {}).get("seconds")
    if known is not None:
        ends = np.where(np.isnan(ends), known, ends)
    longest = float(np.nanmax(ends - starts, initial=0.0))
    open_rows = np.flatnonzero(np.isnan(ends))
    for row in open_rows[:: math.ceil(len(open_rows) / HEADERS) or 1].tolist():
        if longest * sample_rate >= window:
            break
        longest = max(longest, header_seconds(str(recordings.files[row])) - starts[row])
    return min(window, math.ceil(longest * 100) * sample_rate // 100) if longest > 0 else window


def header_seconds(file: str) -> float:
    """Duration by the header; 0 where the file cannot be opened, which is listed when it is read."""
    try:
        return audio_info(file).seconds
    except (AudioError, OSError):
        return 0.0
