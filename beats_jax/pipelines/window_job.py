"""A job that computes something of every window of recordings and stores it: plan, estimate, rows, and what could not be read.

A killed job goes on where it was; several processes share the recordings. The verbs `embed` and `detect` take this way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from beats_jax.audio.recorders.metadata import COLUMNS, metadata_columns, recorder_metadata
from beats_jax.config.rules import require
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.inference.files import rate_notes
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import window_values
from beats_jax.inference.program import Program
from beats_jax.inference.reduce import EachWindow, Window, reduce_rows
from beats_jax.inference.run import WindowValues
from beats_jax.inference.store import UNKNOWN_SIZE, Store, finished_recordings
from beats_jax.inference.stream import Recordings
from beats_jax.parallel.exchange import barrier, call_on_main, main_first, require_same
from beats_jax.parallel.mesh import check_batch_size, make_mesh
from beats_jax.parallel.processes import is_main, process_index
from beats_jax.pipelines.job import end_errors, open_errors
from beats_jax.pipelines.progress import WindowProgress
from beats_jax.pipelines.window_plan import Plan, file_size, find_recordings, make_plan

if TYPE_CHECKING:
    import pyarrow as pa

PLACE_BYTES = 200  # of a row besides its own columns: file, times, what the recorder wrote; Parquet stores repeats once
HELD_BYTES = 2000  # of the objects of a window in memory, until its recording is finished; its row is there up to four times
PLACES = ("file", "start", "end")


class Words(NamedTuple):
    """What messages call the work: "h to embed", "embedding", "h embedded"; `rows` and `remedy` where the disk is too small."""

    do: str
    doing: str
    done: str
    rows: str
    remedy: str


@dataclass(frozen=True)
class ReadSettings:
    """Which recordings, and how they are read.

    Raises:
      UserError: a number out of its range.
    """

    inputs: tuple[str, ...]
    batch_size: int | None = None  # None = what suits the device
    threads: int = 4

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} is {value}; it must be 1 or more")


@dataclass(frozen=True, eq=False)
class WindowTable:
    """What is computed of every window, and the table in which it is stored.

    Attributes:
      identity: all that the rows depend on besides the grid, fit for JSON.
      schema: `PLACES`, the columns of `recorders.metadata.COLUMNS`, and the table's own, in any order.
      columns: the windows of a recording → its own columns by name.
      row_bytes: of the own columns of a row.
    """

    program: Program
    grid: Grid
    identity: Mapping[str, Any]
    schema: pa.Schema
    columns: Callable[[list[Window]], Mapping[str, pa.Array]]
    row_bytes: int
    words: Words

    def full_identity(self) -> dict[str, Any]:
        """`identity` with the grid: another one into the same folder is refused."""
        return {**self.identity, "grid": asdict(self.grid)}


def place_types() -> dict[str, pa.DataType]:
    """Types of `PLACES`."""
    import pyarrow as pa

    return {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}


def recorder_types() -> dict[str, pa.DataType]:
    """Types of what the recorder wrote."""
    import pyarrow as pa

    kinds = {str: pa.string(), float: pa.float64()}
    return {name: kinds[kind] for name, kind in COLUMNS.items()}


def store_windows(
    table: WindowTable,
    settings: ReadSettings,
    output: Path,
    folder: Path,
    *,
    strict: bool,
    begin: Callable[[], None] = lambda: None,
    end: Callable[[Plan], None] = lambda plan: None,
) -> None:
    """Computes the rows of the recordings that `folder` does not hold yet; all processes of a job call it.

    Args:
      output: folder of errors.csv. folder: of the rows, inside it.
      begin, end: called by process 0 before the first row and when all rows are on disk, while it holds the folder.
    Raises:
      UserError: no recordings, a folder of another job or too small a disk; with `strict` the first file that cannot be read
        to its end.
    """
    mesh = make_mesh() if jax.device_count() > 1 else None
    if mesh is not None and settings.batch_size is not None:
        check_batch_size(mesh, settings.batch_size, setting="--batch-size")
    names, left_out = main_first(lambda: find_recordings(settings.inputs))
    identity = table.full_identity()
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    require_same("settings or recordings", {**identity, "recordings": len(names), "hash of their names": digest})
    call_on_main(lambda: Store(folder, identity, table.schema).close())  # makes the folder, or refuses that of another job
    with Store(folder, identity, table.schema, process=process_index()) as store:
        errors = main_first(lambda: open_errors(output, strict=strict))
        plan = call_on_main(lambda: make_plan(names, folder, table.words.done))
        errors.forget([*left_out, *(name for row, name in enumerate(names) if row not in plan.done)])  # read again
        for file, reason in left_out.items():
            errors.add(file, reason)
        if names:
            call_on_main(lambda: _announce(plan, table, folder))
        call_on_main(begin)
        if len(plan.done) < len(names):
            _store_rows(store, table, plan, settings, mesh, errors)
            store.flush()
        end_errors(errors)
        barrier()
        call_on_main(lambda: _report(folder, errors))
        call_on_main(lambda: end(plan))


def _announce(plan: Plan, table: WindowTable, folder: Path) -> None:
    """Prints what the job will take, and refuses it where the disk is too small."""
    grid, words, rate = table.grid, table.words, table.program.audio.sample_rate
    for note in rate_notes(plan.names, table.program.audio):
        print(f"warning: {note}", flush=True)
    left = [seconds for row, seconds in enumerate(plan.seconds.tolist()) if row not in plan.done]
    counts = [len(grid.starts(round(seconds * rate), rate)) for seconds in left]
    windows, longest, row_bytes = sum(counts), max(counts, default=0), PLACE_BYTES + table.row_bytes
    free = shutil.disk_usage(folder).free
    done = f", {len(plan.done)} done already" if plan.done else ""
    print(
        f"{len(plan.names)} recordings{done}; {sum(left) / 3600:.2f} h to {words.do}: {windows} windows of "
        f"{grid.window_seconds:g} s, {_size(windows * row_bytes)} on disk ({_size(free)} free), "
        f"{_size(longest * (4 * row_bytes + HELD_BYTES))} of memory for the longest",
        flush=True,
    )
    if windows * row_bytes > free:
        raise UserError(
            f"{folder} has {_size(free)} free and the {words.rows} take {_size(windows * row_bytes)}; make room, {words.remedy}"
        )


def _store_rows(
    store: Store, table: WindowTable, plan: Plan, settings: ReadSettings, mesh: jax.sharding.Mesh | None, errors: ErrorLog
) -> None:
    values = window_values(
        table.program,
        Recordings.of_files(plan.names),
        table.grid,
        batch_size=settings.batch_size,
        threads=settings.threads,
        mesh=mesh,
        skip=plan.done,
        shared=True,
    )
    with WindowProgress(plan.seconds_left / jax.process_count(), table.words.doing, table.words.done, show=is_main()) as progress:
        for row in reduce_rows(_watched(values, table.grid, progress), EachWindow(), "rest"):
            name, size, now = plan.names[row.row], plan.sizes[row.row], file_size(plan.names[row.row])
            gone = now == UNKNOWN_SIZE != size
            if gone:
                _require_input(store, plan, name, settings.inputs)
            reason = row.error.reason if row.error is not None else "has gone while it was read" if gone else ""
            if reason or now != size:
                errors.add(name, reason or f"changed from {size} to {now} bytes while it was read; give the same command again")
            if row.value is not None and not gone:  # else the next call tries again
                store.append(_rows_of(name, row.value, table), name, size)


def _require_input(store: Store, plan: Plan, name: str, inputs: Sequence[str]) -> None:
    """Stops the job where the disk of a recording has gone; a single file that has gone is an error like any other.

    Raises:
      UserError: no recording of the same input is left.
    """
    root = next((Path(given) for given in inputs if Path(given) in Path(name).parents), None)
    if not any(os.path.exists(other) for other in plan.names if root is None or root in Path(other).parents):
        store.flush()
        raise UserError(f"{root or name} has gone while it was read; put it back and give the same command again")


def _watched(values: Iterator[WindowValues], grid: Grid, progress: WindowProgress) -> Iterator[WindowValues]:
    hop = grid.hop_seconds or grid.window_seconds
    for batch in values:
        progress.advance(float(np.minimum(batch.seconds, hop).sum()), len(batch.row))
        yield batch


def _rows_of(name: str, windows: list[Window], table: WindowTable) -> pa.Table:
    """The windows of a recording as rows."""
    import pyarrow as pa

    own = table.columns(windows)
    cells: dict[str, Any] = {
        "file": [name] * len(windows),
        "start": [window.start for window in windows],
        "end": [window.start + window.seconds for window in windows],
        **{column: [value] * len(windows) for column, value in metadata_columns(recorder_metadata(name)).items()},
    }
    arrays = [own[field.name] if field.name in own else pa.array(cells[field.name], field.type) for field in table.schema]
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _report(folder: Path, errors: ErrorLog) -> None:
    listed = len(ErrorLog(errors.path).rows())
    print(f"{len(finished_recordings(folder))} recordings in {folder}; {listed} files listed in {errors.path}", flush=True)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
