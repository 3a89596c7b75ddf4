"""Embeds recordings of any number and length: windows in, Parquet shards out. A killed job goes on where it was.

OUTPUT/embeddings/part-*.parquet   file, start, end, embedding (or embedding_LAYER_POOLING ...), logits, what the recorder wrote
OUTPUT/embed.json                  model, windows, columns, labels of the logits
OUTPUT/errors.csv                  files that could not be read to their end, with the reason
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import beats_jax
from beats_jax.audio.recorders.metadata import COLUMNS, metadata_columns, recorder_metadata
from beats_jax.config.rules import require, require_one_of
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.inference.files import rate_notes
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import header_seconds, window_values
from beats_jax.inference.reduce import EachWindow, Row, Window, reduce_rows
from beats_jax.inference.run import WindowValues
from beats_jax.inference.sources import VectorSource, open_source
from beats_jax.inference.store import Store, finished_recordings
from beats_jax.inference.stream import Recordings
from beats_jax.inference.tables import recordings_of
from beats_jax.parallel.exchange import barrier, call_on_main, main_first
from beats_jax.parallel.mesh import check_batch_size, make_mesh
from beats_jax.parallel.processes import is_main, process_index
from beats_jax.pipelines import hoplite
from beats_jax.pipelines.hoplite import EMBEDDINGS, RECORD
from beats_jax.pipelines.job import end_errors, open_errors
from beats_jax.pipelines.progress import WindowProgress
from beats_jax.pipelines.training.workdir import write_json

if TYPE_CHECKING:
    import pyarrow as pa

HEADER_THREADS = 8
PLACE_BYTES = 200  # of a row besides its vectors: file, times, what the recorder wrote; Parquet stores repeats once


@dataclass(frozen=True)
class EmbedSettings:
    """What is embedded, and how; see `python -m beats_jax.embed --help`.

    Raises:
      UserError: a number out of its range.
    """

    inputs: tuple[str, ...]
    model: str
    window_seconds: float | None = None
    hop_seconds: float | None = None
    tail: str = "shift"
    layers: tuple[int, ...] = (-1,)
    poolings: tuple[str, ...] = ("mean",)
    logits: bool = False
    dtype: str = "auto"
    keep: str = "float32"
    batch_size: int = 16
    threads: int = 4
    hoplite: Path | None = None
    hoplite_column: str | None = None

    def __post_init__(self) -> None:
        require_one_of("keep", self.keep, ("float32", "float16"))
        for name in ("batch_size", "threads"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be 1 or more")


@dataclass(frozen=True)
class Plan:
    """What lies ahead: recordings by name, their seconds as their headers state (0 = unknown), and which are done already."""

    names: list[str]
    seconds: np.ndarray
    done: frozenset[int]

    @property
    def seconds_left(self) -> float:
        """Seconds of sound still to embed, on all processes."""
        return float(sum(self.seconds[row] for row in range(len(self.names)) if row not in self.done))


def embed(settings: EmbedSettings, output: Path, *, strict: bool, command: str) -> None:
    """Embeds the recordings that `output` does not hold yet.

    Raises:
      UserError: no recordings, an unknown model, layer or pooling, an output of another job or too small a disk; with `strict`
        the first file that cannot be read to its end.
    """
    print("loading the model ...", flush=True)
    source, grid, origin = open_source(
        settings.model,
        settings.layers,
        settings.poolings,
        logits=settings.logits,
        dtype=settings.dtype,
        window=settings.window_seconds,
        hop=settings.hop_seconds,
    )
    grid = Grid(grid.window_seconds, grid.hop_seconds, settings.tail)  # type: ignore[arg-type]  checked by Grid
    mesh = make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        check_batch_size(mesh, settings.batch_size, setting="--batch-size")
    names, left_out = _find_recordings(settings.inputs)
    schema = embedding_schema(source, settings.keep)
    identity = {**source.program.identity(), "grid": asdict(grid), "columns": dict(source.widths), "keep": settings.keep}
    folder = output / EMBEDDINGS
    if (database := settings.hoplite) is not None:
        call_on_main(lambda: hoplite.check(database, identity, settings.hoplite_column, source.labels))  # before hours of work
    call_on_main(lambda: Store(folder, identity, schema).close())  # makes the folder, or refuses that of another job
    with Store(folder, identity, schema, process=process_index()) as store:
        errors = main_first(lambda: open_errors(output, strict=strict))
        for file, reason in left_out.items():
            errors.add(file, reason)
        plan = call_on_main(lambda: _plan(names, folder))
        call_on_main(lambda: _announce(plan, grid, source, settings, folder))
        call_on_main(lambda: write_json(output / RECORD, _record(identity, source, origin, command)))
        _embed_rows(store, source, grid, plan, settings, mesh, errors)
        end_errors(errors)
    barrier()
    if is_main():
        listed = len(ErrorLog(errors.path).rows())
        print(f"{len(finished_recordings(folder))} recordings in {folder}; {listed} files listed in {errors.path}", flush=True)
    if database is not None:
        call_on_main(lambda: print(hoplite.update(database, output, settings.hoplite_column, settings.inputs), flush=True))


def embedding_schema(source: VectorSource, keep: str) -> pa.Schema:
    """file, start, end (seconds), the vectors as lists of one size, the columns of `recorders.metadata.COLUMNS`."""
    import pyarrow as pa

    kinds = {str: pa.string(), float: pa.float64()}
    value = pa.float16() if keep == "float16" else pa.float32()
    vectors = {name: pa.list_(pa.float32() if name == "logits" else value, width) for name, width in source.widths.items()}
    places = {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}
    return pa.schema({**places, **vectors, **{name: kinds[kind] for name, kind in COLUMNS.items()}})


def _find_recordings(inputs: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The recordings of all inputs, each once, and why others are left out."""
    names: dict[str, None] = {}
    left_out: dict[str, str] = {}
    for given in inputs:
        if not Path(given).exists():
            raise UserError(f"--input {given} does not exist")
        found, rest = recordings_of(given)
        names |= dict.fromkeys(found)
        left_out |= rest["errors"]
        for note in rest["notes"]:
            print(note, flush=True)
    return list(names), left_out


def _plan(names: list[str], folder: Path) -> Plan:
    print(f"reading the headers of {len(names)} recordings ...", flush=True)
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        seconds = np.array(list(pool.map(header_seconds, names)), np.float64)
    done = finished_recordings(folder)
    return Plan(names, seconds, frozenset(row for row, name in enumerate(names) if name in done))


def _announce(plan: Plan, grid: Grid, source: VectorSource, settings: EmbedSettings, folder: Path) -> None:
    """Prints what the job will take, and refuses it where the disk is too small."""
    for note in rate_notes(plan.names, source.program.audio):
        print(f"warning: {note}", flush=True)
    left = [seconds for row, seconds in enumerate(plan.seconds.tolist()) if row not in plan.done]
    rate = source.program.audio.sample_rate
    counts = [len(grid.starts(round(seconds * rate), rate)) for seconds in left]
    windows = sum(counts)
    item = 2 if settings.keep == "float16" else 4
    row_bytes = PLACE_BYTES + sum(width * (4 if name == "logits" else item) for name, width in source.widths.items())
    longest = max(counts, default=0)
    free = shutil.disk_usage(folder).free
    done = f", {len(plan.done)} done already" if plan.done else ""
    print(
        f"{len(plan.names)} recordings{done}; {sum(left) / 3600:.2f} h to embed: {windows} windows of {grid.window_seconds:g} s, "
        f"{_size(windows * row_bytes)} on disk ({_size(free)} free), {_size(longest * row_bytes)} of memory for the longest",
        flush=True,
    )
    if windows * row_bytes > free:
        raise UserError(
            f"{folder} has {_size(free)} free and the embeddings take {_size(windows * row_bytes)}; make room, "
            "give a longer --hop, or --keep float16"
        )


def _embed_rows(
    store: Store, source: VectorSource, grid: Grid, plan: Plan, settings: EmbedSettings, mesh: Any, errors: ErrorLog
) -> None:
    values = window_values(
        source.program,
        Recordings.of_files(plan.names),
        grid,
        batch_size=settings.batch_size,
        threads=settings.threads,
        mesh=mesh,
        skip=plan.done,
        shared=True,
    )
    with WindowProgress(plan.seconds_left / jax.process_count(), show=is_main()) as progress:
        for row in reduce_rows(_watched(values, grid, progress), EachWindow(), "rest"):
            name = plan.names[row.row]
            if row.error is not None:
                errors.add(name, row.error.reason)
            if row.value is not None:  # else nothing could be read, and the next call tries again
                store.append(_table(name, row, source, store.schema), name)


def _watched(values: Iterator[WindowValues], grid: Grid, progress: WindowProgress) -> Iterator[WindowValues]:
    hop = grid.hop_seconds or grid.window_seconds
    for batch in values:
        progress.advance(float(np.minimum(batch.seconds, hop).sum()), len(batch.row))
        yield batch


def _table(name: str, row: Row, source: VectorSource, schema: pa.Schema) -> pa.Table:
    """The windows of a recording as rows."""
    import pyarrow as pa

    windows: list[Window] = row.value
    vectors = [source.vectors(window.values) for window in windows]
    text = name.encode("utf-8", "backslashreplace").decode()
    cells: dict[str, Any] = {
        "file": [text] * len(windows),
        "start": [window.start for window in windows],
        "end": [window.start + window.seconds for window in windows],
        **{column: [value] * len(windows) for column, value in metadata_columns(recorder_metadata(name)).items()},
    }
    arrays = []
    for field in schema:
        if field.name in source.widths:
            stacked = np.stack([vector[field.name] for vector in vectors]).astype(field.type.value_type.to_pandas_dtype())
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(stacked.reshape(-1)), field.type.list_size))
        else:
            arrays.append(pa.array(cells[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _record(identity: dict[str, Any], source: VectorSource, origin: dict[str, Any], command: str) -> dict[str, Any]:
    return {**identity, **origin, "labels": list(source.labels), "command": command, "beats_jax": beats_jax.__version__}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
