"""Regions of sound of every recording, as Parquet: a killed job goes on where it was.

OUTPUT/regions/part-*.parquet   file, start, end, low_hz, high_hz, snr_db, what the recorder wrote
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.audio.recorders.metadata import metadata_columns, recorder_metadata
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.inference.store import Store, forget
from beats_jax.pipelines.progress import WindowProgress
from beats_jax.pipelines.window_job import place_types, recorder_types
from beats_jax.pipelines.window_plan import Plan, file_size, make_plan

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

REGIONS = "regions"
BOUNDS = ("low_hz", "high_hz", "snr_db")
AHEAD = 4  # recordings a thread whose regions wait to be written in order

Finder = Callable[[str], "pd.DataFrame"]  # a file → start, end (seconds), low_hz, high_hz, snr_db of its regions


def region_schema() -> pa.Schema:
    """Places, bounds, and the columns of `recorders.metadata.COLUMNS`."""
    import pyarrow as pa

    return pa.schema({**place_types(), **dict.fromkeys(BOUNDS, pa.float64()), **recorder_types()})


def store_regions(
    find: Finder, identity: dict[str, Any], names: list[str], folder: Path, later: Path, errors: ErrorLog, threads: int
) -> None:
    """Finds the regions of the recordings that `folder` does not hold yet.

    Args:
      identity: all that the regions depend on, fit for JSON. later: folder of what was made of the regions; a recording that
        has grown since is taken out of both.
    Raises:
      UserError: a folder of another job; with strict `errors` the first recording that cannot be read to its end.
    """
    with Store(folder, identity, region_schema()) as store:
        plan = make_plan(names, folder, "searched")
        if later.is_dir():
            gone = {name for row, name in enumerate(names) if row not in plan.done}
            forget(later, gone)
        waiting = [row for row in range(len(names)) if row not in plan.done]
        errors.forget([names[row] for row in waiting])
        hours = plan.seconds_left / 3600
        done = f", {len(plan.done)} done already" if plan.done else ""
        print(f"{len(names)} recordings{done}; {hours:.2f} h to search for regions of sound", flush=True)
        if waiting:
            _search(store, find, plan, waiting, errors, threads)


def _search(store: Store, find: Finder, plan: Plan, rows: Sequence[int], errors: ErrorLog, threads: int) -> None:
    count = 0
    with WindowProgress(plan.seconds_left, "searching", "searched", unit="regions") as progress:
        for row, found, reason in _found_in_order(find, plan.names, rows, threads):
            name, size, now = plan.names[row], plan.sizes[row], file_size(plan.names[row])
            if not reason and now != size:
                reason = f"changed from {size} to {now} bytes while it was searched; give the same command again"
            if reason:
                errors.add(name, reason)
            else:
                store.append(_rows_of(name, found), name, size)
                count += len(found)
            progress.advance(float(plan.seconds[row]), len(found))
    print(f"{count} regions found", flush=True)


def _found_in_order(
    find: Finder, names: Sequence[str], rows: Sequence[int], threads: int
) -> Iterator[tuple[int, pd.DataFrame, str]]:
    """(row, regions, "" or why it has none), in order; threads are some recordings ahead."""
    waiting: deque[tuple[int, Future[tuple[pd.DataFrame, str]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for row in rows:
                waiting.append((row, pool.submit(_find, find, names[row])))
                if len(waiting) >= AHEAD * threads:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()


def _result(row: int, future: Future[tuple[pd.DataFrame, str]]) -> tuple[int, pd.DataFrame, str]:
    return (row, *future.result())


def _find(find: Finder, name: str) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    try:
        return find(name), ""
    except AudioError as error:
        return pd.DataFrame(), error.reason
    except OSError as error:  # the disk went away
        return pd.DataFrame(), f"cannot be read: {error}"


def _rows_of(name: str, found: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    schema = region_schema()
    cells = metadata_columns(recorder_metadata(name))
    ordered = found.sort_values(["start", "low_hz", "end", "high_hz"], kind="stable") if len(found) else found
    columns: dict[str, Any] = {"file": [name] * len(found)}
    columns |= {column: [value] * len(found) for column, value in cells.items()}
    for column in ("start", "end", *BOUNDS):
        columns[column] = ordered[column].to_numpy(np.float64) if len(found) else np.zeros(0)
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
