"""Embeds recordings of any number and length: windows in, Parquet shards out. A killed job goes on where it was.

OUTPUT/embeddings/part-*.parquet   file, start, end, embedding (or embedding_LAYER_POOLING ...), logits, what the recorder wrote
OUTPUT/embed.json                  model, windows, columns, labels of the logits
OUTPUT/errors.csv                  files that could not be read to their end, with the reason
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import beats_jax
from beats_jax.config.rules import require_one_of
from beats_jax.inference.reduce import Window
from beats_jax.inference.sources import FILTERBANK, VectorSource, open_source
from beats_jax.parallel.exchange import call_on_main, main_first
from beats_jax.pipelines import hoplite
from beats_jax.pipelines.hoplite import EMBEDDINGS, RECORD
from beats_jax.pipelines.training.workdir import write_json
from beats_jax.pipelines.window_job import ReadSettings, WindowTable, Words, place_types, recorder_types, store_windows

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = Words("embed", "embedding", "embedded", "embeddings", "give a longer --hop, or --keep float16")


@dataclass(frozen=True)
class EmbedSettings(ReadSettings):
    """What is embedded, and how; see `python -m beats_jax.embed --help`.

    Raises:
      UserError: a number out of its range.
    """

    model: str = "filterbank"
    window_seconds: float | None = None
    hop_seconds: float | None = None
    tail: str = "shift"
    layers: tuple[int, ...] = (-1,)
    poolings: tuple[str, ...] = ("mean",)
    logits: bool = False
    dtype: str = "auto"
    attention: str = "auto"
    keep: str = "float32"
    hoplite: Path | None = None
    hoplite_column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("keep", self.keep, ("float32", "float16"))


def embed(settings: EmbedSettings, output: Path, *, strict: bool, command: str) -> None:
    """Embeds the recordings that `output` does not hold yet.

    Raises:
      UserError: no recordings, an unknown model, layer or pooling, an output of another job or too small a disk; with `strict`
        the first file that cannot be read to its end.
    """
    print("loading the model ...", flush=True)
    options = {
        "logits": settings.logits,
        "dtype": settings.dtype,
        "window": settings.window_seconds,
        "hop": settings.hop_seconds,
        "attention": settings.attention,
    }
    source, grid, origin = main_first(lambda: open_source(settings.model, settings.layers, settings.poolings, **options))
    schema = embedding_schema(source, settings.keep)
    item = 2 if settings.keep == "float16" else 4
    table = WindowTable(
        program=source.program,
        grid=replace(grid, tail=settings.tail),
        identity={**source.program.identity(), "columns": dict(source.widths), "keep": settings.keep},
        schema=schema,
        columns=partial(_vector_columns, source=source, schema=schema),
        row_bytes=sum(width * (4 if name == "logits" else item) for name, width in source.widths.items()),
        words=WORDS,
    )
    path = Path(settings.model).expanduser()
    place = os.path.abspath(path) if path.exists() and settings.model != FILTERBANK else settings.model
    record = {**table.full_identity(), **origin, "labels": list(source.labels), "command": command}
    record["loaded_from"] = place  # where `search` finds the model again, from any folder
    record["beats_jax"] = beats_jax.__version__
    begin = partial(write_json, output / RECORD, record)
    database, column = settings.hoplite, settings.hoplite_column
    if database is None:
        store_windows(table, settings, output, output / EMBEDDINGS, strict=strict, begin=begin)
        return
    call_on_main(lambda: hoplite.check(database, table.full_identity(), column, source.labels))  # before hours of work

    def end(_: Any) -> None:
        print(hoplite.update(database, output, column, settings.inputs), flush=True)

    store_windows(table, settings, output, output / EMBEDDINGS, strict=strict, begin=begin, end=end)


def embedding_schema(source: VectorSource, keep: str) -> pa.Schema:
    """file, start, end (seconds), the vectors as lists of one size, the columns of `recorders.metadata.COLUMNS`."""
    import pyarrow as pa

    value = pa.float16() if keep == "float16" else pa.float32()
    vectors = {name: pa.list_(pa.float32() if name == "logits" else value, width) for name, width in source.widths.items()}
    return pa.schema({**place_types(), **vectors, **recorder_types()})


def _vector_columns(windows: list[Window], source: VectorSource, schema: pa.Schema) -> dict[str, pa.Array]:
    import pyarrow as pa

    vectors = [source.vectors(window.values) for window in windows]
    arrays: dict[str, Any] = {}
    for name in source.widths:
        kind = schema.field(name).type
        stacked = np.stack([vector[name] for vector in vectors]).astype(kind.value_type.to_pandas_dtype())
        arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(stacked.reshape(-1)), kind.list_size)
    return arrays
