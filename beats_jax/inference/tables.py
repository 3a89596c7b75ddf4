"""A loaded model over audio files, as tables: a row a file or a window."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.files import search_folder
from beats_jax.errors import UserError
from beats_jax.inference.files import THREADS, PathLike, file_rows, file_scores, probabilities, warn_of_rates
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import iterate_rows
from beats_jax.inference.program import Outputs, Program
from beats_jax.inference.reduce import EachWindow, Pooled, Reducer, Row, Window, pool_window
from beats_jax.inference.store import Store, read_rows
from beats_jax.inference.stream import Recordings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from beats_jax.inference.model import Files, Model


def embed_files(
    model: Model,
    files: Files,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    pooling: str = "mean",
    layer: int = -1,
    batch_size: int = 16,
    output: PathLike | None = None,
) -> pd.DataFrame:
    """Embeddings of recordings.

    Args:
      files: a file, a folder (all recordings below it), or a list of files.
      window_seconds: a row for each window of this length; None = a row a file, from all of its windows (`Model.grid`).
      hop_seconds: from one window to the next; None = the length of a window.
      pooling, layer: as in `Model.embed`.
      output: folder in which rows are kept as Parquet while they are computed (`inference.store`); the same call adds what is
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
    if window_seconds is None:
        reducer, on_error, pieces = Pooled((pooling,)), "nan", _whole(lambda value: value[0, 0])
    else:
        reducer, on_error = EachWindow(), "rest"
        pieces = _each(lambda window: pool_window(window.values, (pooling,))[0, 0])
    nothing = np.full(model.num_features, np.nan, np.float32)
    options = {"on_error": on_error, "batch_size": batch_size}
    if output is None:
        found = file_rows(program, names, grid, reducer, **options)
        rows = list(_table_rows(names, found, pieces, nothing))
        table = pd.DataFrame(rows, columns=["file", "start", "end", "embedding"])
        errors = {names[row.row]: row.error.reason for row in found if row.error}
    else:
        warn_of_rates(names, model.audio)
        identity = {**program.identity(), "grid": asdict(grid), "rows": "file" if window_seconds is None else "window"}
        with Store(Path(output), identity, embedding_schema(model.num_features)) as store:
            errors = _store_rows(store, program, names, grid, reducer, pieces, nothing, options)
        found = list(read_rows(Path(output)))
        table = pd.concat([shard.to_pandas() for shard in found], ignore_index=True) if found else _no_rows()
    table.attrs |= {**left_out, "errors": left_out["errors"] | errors}
    return table


def _no_rows() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([], columns=["file", "start", "end", "embedding"])


def embedding_schema(num_features: int) -> pa.Schema:
    """Columns of stored embeddings."""
    import pyarrow as pa

    columns = {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}
    return pa.schema({**columns, "embedding": pa.list_(pa.float32(), num_features)})


def _store_rows(
    store: Store,
    program: Program,
    names: Sequence[str],
    grid: Grid,
    reducer: Reducer,
    pieces: Pieces,
    nothing: np.ndarray,
    options: dict[str, Any],
) -> dict[str, str]:
    """Adds the recordings that the store does not have; those of which nothing could be read are tried again by the next call.

    Returns:
      file → why it could not be read to its end.
    """
    import pyarrow as pa

    done, errors = store.done(), {}
    skip = {row for row, name in enumerate(names) if name in done}
    for row in iterate_rows(program, Recordings.of_files(names), grid, reducer, skip=skip, threads=THREADS, **options):
        name = names[row.row]
        if row.error is not None:
            errors[name] = row.error.reason
        if row.value is None:
            continue
        columns = zip(*_table_rows(names, [row], pieces, nothing), strict=True)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, store.schema, strict=True)]
        store.append(pa.Table.from_arrays(arrays, schema=store.schema), name)
    return errors


def predict_files(
    model: Model, files: Files, window_seconds: float | None = None, hop_seconds: float | None = None, batch_size: int = 16
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
    if window_seconds is None:
        found, pieces = file_scores(model, names, grid=grid, batch_size=batch_size), _whole(lambda value: value)
    else:
        found = file_rows(model.program(Outputs(logits=True)), names, grid, EachWindow(), on_error="rest", batch_size=batch_size)
        pieces = _each(lambda window: probabilities(window.values["logits"], model.multi_label))
    rows = list(_table_rows(names, found, pieces, np.full(len(model.labels), np.nan)))
    places = pd.DataFrame([row[:3] for row in rows], columns=["file", "start", "end"])
    scores = pd.DataFrame(np.stack([row[3] for row in rows]), columns=list(model.labels))
    table = pd.concat([places, scores], axis=1)
    unread = {names[row.row]: row.error.reason for row in found if row.error}
    table.attrs |= {**left_out, "errors": left_out["errors"] | unread}
    return table


Pieces = Callable[[Row], Iterable[tuple[float, float, np.ndarray]]]


def _whole(value: Callable[[Any], np.ndarray]) -> Pieces:
    return lambda row: [(row.start, row.end, value(row.value))]


def _each(value: Callable[[Window], np.ndarray]) -> Pieces:
    return lambda row: ((window.start, window.start + window.seconds, value(window)) for window in row.value)


def _table_rows(
    names: Sequence[str], found: Iterable[Row], pieces: Pieces, nothing: np.ndarray
) -> Iterable[tuple[str, float, float, np.ndarray]]:
    """(file, start, end, value) of everything that was found, and of what could not be read."""
    for row in found:
        name = names[row.row]
        if row.value is not None:
            yield from ((name, *piece) for piece in pieces(row))
        if row.error is not None:
            yield name, (row.end if row.value is not None else 0.0), math.nan, nothing


def recordings_of(files: Files) -> tuple[list[str], dict[str, Any]]:
    """The names of the recordings that a caller means: a file, all below a folder, or a list of files.

    With them `errors` (file → why it is left out) and `notes` (sentences on what else lies in the folder).

    Raises:
      UserError: there are none, or it is something else.
    """
    if isinstance(files, str | os.PathLike):
        path = Path(files)
        if not path.is_dir():
            return [str(path)], {"errors": {}, "notes": []}
        found = search_folder(path)
        if not found.paths:
            raise UserError(f"{path} holds no recordings")
        errors = {str(error.path): error.reason for error in found.errors}
        return [str(path) for path in found.paths], {"errors": errors, "notes": found.notes}
    wrong = next((file for file in files if not isinstance(file, str | os.PathLike)), None)
    if wrong is not None:
        raise UserError(f"the list of files holds a {type(wrong).__name__}; give names of files, or a folder")
    if not len(files):
        raise UserError("the list of files is empty; give at least one audio file")
    return [os.fspath(file) for file in files], {"errors": {}, "notes": []}
