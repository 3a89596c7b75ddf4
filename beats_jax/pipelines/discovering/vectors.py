"""The embedding of every region, by the one way of inference: a region is a window of given start and end.

OUTPUT/embeddings/part-*.parquet   the columns of the regions, and `embedding`, pooled over the region, as `embed` writes it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import window_values
from beats_jax.inference.reduce import Pooled, Row, reduce_rows
from beats_jax.inference.sources import VectorSource
from beats_jax.inference.store import Store, finished_sizes, read_rows
from beats_jax.inference.stream import Recordings
from beats_jax.pipelines.discovering.encoder import COLUMN, Encoder
from beats_jax.pipelines.discovering.regions import REGIONS, region_schema
from beats_jax.pipelines.progress import WindowProgress
from beats_jax.pipelines.window_job import ReadSettings

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDINGS = "embeddings"


def vector_identity(encoder: Encoder, grid: Grid, margin: float, regions: Mapping[str, Any]) -> dict[str, Any]:
    """All that the vectors depend on, with the keys of a table of `embed`."""
    table = {"columns": {COLUMN: encoder.width}, "keep": "float32", "grid": asdict(grid), "rows": "region", "margin": margin}
    return {**encoder.identity, **table, **regions}


def vector_schema(width: int) -> pa.Schema:
    """The columns of the regions, and the vectors as lists of one size."""
    import pyarrow as pa

    return pa.schema([*region_schema(), pa.field(COLUMN, pa.list_(pa.float32(), width))])


def store_vectors(
    encoder: Encoder,
    grid: Grid,
    margin: float,
    identity: Mapping[str, Any],
    output: Path,
    errors: ErrorLog,
    reading: ReadSettings,
) -> None:
    """Embeds the regions of the recordings that `output` does not hold yet.

    Args:
      margin: seconds before and behind each region that are embedded with it.
    Raises:
      UserError: a folder of another job or a damaged shard; with strict `errors` the first recording that cannot be read.
    """
    with Store(output / EMBEDDINGS, identity, vector_schema(encoder.width)) as store:
        done, sizes = store.done(), finished_sizes(output / REGIONS)
        tables = [table for table in read_rows(output / REGIONS) if len(table)]
        rows = _rows_left(tables, done)
        with_some = set(rows["file"].to_pylist())
        for name in sorted(sizes.keys() - done - with_some):  # without a region: finished at once
            store.append(store.schema.empty_table(), name, sizes[name])
        if len(rows):
            print(f"{len(rows)} regions of {len(with_some)} recordings to embed", flush=True)
            _embed(store, encoder.source(rows), grid, margin, rows, sizes, errors, reading)


def _rows_left(tables: list[pa.Table], done: set[str]) -> pa.Table:
    """The regions of recordings that are not embedded, by file and start, as decoders read them."""
    import pyarrow as pa

    table = pa.concat_tables(tables) if tables else region_schema().empty_table()
    left = table.filter(pa.array([name not in done for name in table["file"].to_pylist()], pa.bool_()))
    return left.sort_by([("file", "ascending"), ("start", "ascending")])


def _embed(
    store: Store,
    source: VectorSource,
    grid: Grid,
    margin: float,
    rows: pa.Table,
    sizes: Mapping[str, int],
    errors: ErrorLog,
    reading: ReadSettings,
) -> None:
    files, starts, ends = rows["file"].to_pylist(), rows["start"].to_numpy(), rows["end"].to_numpy()
    stretches = Recordings(np.array(files, object), np.maximum(starts - margin, 0), ends + margin)
    values = window_values(source.program, stretches, grid, batch_size=reading.batch_size, threads=reading.threads)
    first = 0  # row of the recording whose regions come now
    pending: list[Row] = []
    with WindowProgress(float((ends - starts).sum()), "embedding", "embedded", unit="regions") as progress:
        for row in reduce_rows(values, Pooled(source.poolings), "rest"):
            pending.append(row)
            progress.advance(float(ends[row.row] - starts[row.row]), 1)
            last = len(pending) + first == len(files) or files[first + len(pending)] != files[first]
            if last:
                _finish(store, source, rows.slice(first, len(pending)), sorted(pending), sizes, errors)
                first, pending = first + len(pending), []


def _finish(
    store: Store, source: VectorSource, table: pa.Table, found: list[Row], sizes: Mapping[str, int], errors: ErrorLog
) -> None:
    """Takes the vectors of a recording, all of them or none."""
    import pyarrow as pa

    name = str(table["file"][0])
    fault = next((row.error for row in found if row.error is not None or row.value is None), None)
    if fault is not None:
        errors.add(name, f"a region of it cannot be read: {fault.reason}")
        return
    vectors = np.stack([source.arrange(row.value)[COLUMN] for row in found]).astype(np.float32)
    array = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    store.append(table.append_column(store.schema.field(COLUMN), array), name, sizes[name])
