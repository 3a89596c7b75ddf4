"""A loaded model over audio files, as tables: a row a file or a window."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.files import search_folder, some
from beats_jax.errors import UserError
from beats_jax.inference.files import THREADS, PathLike, file_rows, file_scores, probabilities, warn_of_rates
from beats_jax.inference.job import iterate_rows
from beats_jax.inference.program import Outputs
from beats_jax.inference.reduce import EachWindow, Pooled, Row, pool_window
from beats_jax.inference.store import Store, read_rows
from beats_jax.inference.stream import Recordings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from beats_jax.inference.model import Files, Model

COLUMNS = ["file", "start", "end", "embedding"]
Line = tuple[str, float, float, np.ndarray]  # file, start, end (seconds), embedding or probabilities


def embed_files(
    model: Model,
    files: Files,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    pooling: str = "mean",
    layer: int = -1,
    batch_size: int | None = None,
    output: PathLike | None = None,
) -> pd.DataFrame:
    """Embeddings of recordings.

    Args:
      files: a file, a folder (all recordings below it), or a list of files.
      window_seconds: a row for each window of this length; None = a row a file, from all of its windows (`Model.grid`).
      hop_seconds: from one window to the next; None = the length of a window.
      pooling, layer: as in `Model.embed`.
      batch_size: windows computed at once; None = what suits the device.
      output: folder for the rows as Parquet, written while they are computed (`inference.store`); the same call adds what is
        missing there. None = in memory only.
    Returns:
      columns file, start, end (seconds; the last window ends where the sound ends), embedding (float32 [D]). A file that
      cannot be read to its end has a row of NaN that starts where reading stopped; `attrs["errors"]` holds the reasons by file,
      `attrs["notes"]` what else lies in the folder.
    Raises:
      UserError: no recordings, an unknown pooling or layer, or an output of another job.
    """
    import pandas as pd

    model.require_pooling(pooling, layer)
    names, left_out = recordings_of(files)
    grid = model.grid(window_seconds, hop_seconds)
    program = model.program(Outputs((pooling,), (layer,)))
    nothing = np.full(model.num_features, np.nan, np.float32)
    if window_seconds is None:
        reducer, on_error = Pooled((pooling,)), "nan"
        lines = partial(_lines, names, nothing=nothing, value=lambda pooled: pooled[0, 0])
    else:
        reducer, on_error = EachWindow(), "rest"
        lines = partial(_lines, names, nothing=nothing, value=lambda values: pool_window(values, (pooling,))[0, 0])
    options = {"on_error": on_error, "batch_size": batch_size}
    if output is None:
        found = file_rows(program, names, grid, reducer, **options)
        table = pd.DataFrame([line for row in found for line in lines(row)], columns=COLUMNS)
        errors = {names[row.row]: row.error.reason for row in found if row.error}
    else:
        warn_of_rates(names, model.audio)
        identity = {**program.identity(), "grid": asdict(grid), "rows": "file" if window_seconds is None else "window"}
        with Store(output, identity, embedding_schema(model.num_features)) as store:
            done = store.done()
            skip = {row for row, name in enumerate(names) if name in done}
            recordings = Recordings.of_files(names)
            found = iterate_rows(program, recordings, grid, reducer, skip=skip, threads=THREADS, **options)
            errors = _store_rows(store, names, found, lines)
        shards = [shard.to_pandas() for shard in read_rows(output)]
        table = pd.concat(shards, ignore_index=True) if shards else pd.DataFrame([], columns=COLUMNS)
    table.attrs |= {**left_out, "errors": left_out["errors"] | errors}
    return table


def embedding_schema(num_features: int) -> pa.Schema:
    """Columns of stored embeddings."""
    import pyarrow as pa

    columns = {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}
    return pa.schema({**columns, "embedding": pa.list_(pa.float32(), num_features)})


def _store_rows(
    store: Store, names: Sequence[str], found: Iterable[Row], lines: Callable[[Row], Iterable[Line]]
) -> dict[str, str]:
    """Adds rows to the store; those without an answer are left out, so that the next call tries their files again.

    Returns:
      file → why it could not be read to its end.
    """
    import pyarrow as pa

    errors = {}
    for row in found:
        if row.error is not None:
            errors[names[row.row]] = row.error.reason
        if row.value is not None:
            columns = zip(*lines(row), strict=True)
            arrays = [pa.array(list(column), field.type) for column, field in zip(columns, store.schema, strict=True)]
            store.append(pa.Table.from_arrays(arrays, schema=store.schema), names[row.row])
    return errors


def predict_files(
    model: Model,
    files: Files,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Class probabilities of recordings; arguments, rows and errors as in `embed_files`.

    Returns:
      columns file, start, end and one a class, float64.
    Raises:
      UserError: no recordings, or a model without a head.
    """
    import pandas as pd

    model.require_head()
    names, left_out = recordings_of(files)
    grid = model.grid(window_seconds, hop_seconds)
    nothing = np.full(len(model.labels), np.nan)
    if window_seconds is None:
        found = file_scores(model, names, grid=grid, batch_size=batch_size)
        lines = partial(_lines, names, nothing=nothing, value=lambda scores: scores)
    else:
        found = file_rows(model.program(Outputs(logits=True)), names, grid, EachWindow(), on_error="rest", batch_size=batch_size)
        lines = partial(_lines, names, nothing=nothing, value=lambda values: probabilities(values["logits"], model.multi_label))
    rows = [line for row in found for line in lines(row)]
    places = pd.DataFrame([row[:3] for row in rows], columns=COLUMNS[:3])
    scores = pd.DataFrame(np.stack([row[3] for row in rows]), columns=list(model.labels))
    table = pd.concat([places, scores], axis=1)
    unread = {names[row.row]: row.error.reason for row in found if row.error}
    table.attrs |= {**left_out, "errors": left_out["errors"] | unread}
    return table


def _lines(names: Sequence[str], row: Row, *, value: Callable[[Any], np.ndarray], nothing: np.ndarray) -> Iterator[Line]:
    """The lines of a row: one for its answer or one a window, and one of NaN from where it could not be read on."""
    name = names[row.row]
    if isinstance(row.value, list):
        for window in row.value:
            yield name, window.start, window.start + window.seconds, value(window.values)
    elif row.value is not None:
        yield name, row.start, row.end, value(row.value)
    if row.error is not None:
        yield name, (row.end if row.value is not None else 0.0), math.nan, nothing


def recordings_of(files: Files) -> tuple[list[str], dict[str, Any]]:
    """The recordings in a file, a folder or a list of files, by name.

    With them `errors` (file → why it is left out) and `notes` (sentences about the other files in the folder).

    Raises:
      UserError: there are none, or it is something else.
    """
    if isinstance(files, str | os.PathLike):
        path = Path(files)
        if not path.is_dir():
            return [str(path)], {"errors": {}, "notes": []}
        found = search_folder(path)
        if not found.paths:
            faults = some([str(error) for error in found.errors])
            raise UserError(f"{path} holds no recordings" + (f": {faults}" if faults else ""))
        errors = {str(error.path): error.reason for error in found.errors}
        return [str(path) for path in found.paths], {"errors": errors, "notes": found.notes}
    wrong = next((file for file in files if not isinstance(file, str | os.PathLike)), None)
    if wrong is not None:
        raise UserError(f"the list of files holds a {type(wrong).__name__}; give names of files, or a folder")
    if not len(files):
        raise UserError("the list of files is empty; give at least one audio file")
    return [os.fspath(file) for file in files], {"errors": {}, "notes": []}
