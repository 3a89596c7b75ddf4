"""The rows of an output of `embed` as a Perch-Hoplite database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.recorders.metadata import COLUMNS
from beats_jax.errors import UserError
from beats_jax.inference.hoplite.schema import MODEL_KEY
from beats_jax.inference.hoplite.write import Model, Rows, check_database, repair_database, update_database
from beats_jax.inference.store import JOB_FILE, read_rows, shards
from beats_jax.json_files import read_json

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDINGS, RECORD = "embeddings", "embed.json"
LOGITS = "logits"
ROW_BYTES = 250  # of a window besides its vector: row and keys in SQLite, links in the index


def check(database: Path, identity: Mapping[str, Any], column: str | None, labels: Sequence[str]) -> None:
    """Raises `UserError` where `update` will, before anything is computed; `identity` is that of the job."""
    check_database(database, _model(identity, column, labels)[1])


def update(database: Path, output: Path, column: str | None, inputs: Sequence[str]) -> str:
    """Adds the windows of `output` that the database lacks, and says how many.

    Args:
      column: which embedding, where the output has several. inputs: folders among them become projects of the database.
    Raises:
      UserError: as `update_database`; no such column; too small a disk.
    """
    name, model = _read_model(output, column)
    _require_room(database, output, model)
    added = update_database(database, model, _rows(output, name), [Path(given) for given in inputs if Path(given).is_dir()])
    return f"{database}: {added.windows} windows added, of {added.recordings} new recordings"


def repair(database: Path, output: Path | None, column: str | None) -> list[str]:
    """Makes a database whole, with the vectors of `output` where it is given; returns what was found and done.

    Raises:
      UserError: as `repair_database`; no such column.
    """
    if output is None:
        return repair_database(database)
    name, model = _read_model(output, column)
    return repair_database(database, model, _rows(output, name))


def _read_model(output: Path, column: str | None) -> tuple[str, Model]:
    remedy = "give the --output of embed"
    identity = read_json(output / EMBEDDINGS / JOB_FILE, {"columns": {str: int}, "grid": dict, "audio": dict}, remedy=remedy)
    labels = read_json(output / RECORD, {"labels": [str]}, remedy=remedy)["labels"]
    return _model(identity, column, labels)


def _model(identity: Mapping[str, Any], column: str | None, labels: Sequence[str]) -> tuple[str, Model]:
    """The column that the database takes, and what made it."""
    names = [name for name in identity["columns"] if name != LOGITS]
    if column is None and len(names) > 1:
        raise UserError(f"the output has several embeddings; give --hoplite-column with one of {', '.join(names)}")
    name = column or names[0]
    if name not in names:
        raise UserError(f"--hoplite-column {name} is not in the output; it has {', '.join(names)}")
    dimension = identity["columns"][name]
    made_by = {key: value for key, value in identity.items() if key not in ("columns", "keep")}
    config = {
        "model_key": MODEL_KEY,
        "embedding_dim": dimension,
        "model_config": {**made_by, "column": name, LOGITS: LOGITS in identity["columns"]},
        "logits_key": None,
        "logits_idxes": None,
    }
    return name, Model(dimension, config, int(identity["audio"]["filterbank"]["sample_rate"]), labels)


def _rows(output: Path, column: str) -> Iterator[Rows]:
    for table in read_rows(output / EMBEDDINGS):
        files = table["file"].to_numpy()
        firsts = np.flatnonzero(np.r_[True, files[1:] != files[:-1]]) if len(files) else []
        for first, end in zip(firsts, [*firsts[1:], len(files)], strict=True):
            part = table.slice(first, end - first)
            cells = {name: part[name][0].as_py() for name in COLUMNS}
            recorded_at = cells.pop("recorded_at")
            offsets = np.column_stack([part["start"].to_numpy(), part["end"].to_numpy()]).astype(np.float64)
            logits = _vectors(part, LOGITS) if LOGITS in part.column_names else None
            yield Rows(str(files[first]), recorded_at, cells, offsets, _vectors(part, column), logits)


def _vectors(table: pa.Table, column: str) -> np.ndarray:
    """[N, D] of a column of lists of one size."""
    lists = table[column].combine_chunks()
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)


def _require_room(database: Path, output: Path, model: Model) -> None:
    import pyarrow.parquet as parquet

    windows = sum(parquet.read_metadata(path).num_rows for path in shards(output / EMBEDDINGS))
    need = windows * (2 * model.dimension + 8 * len(model.labels) + ROW_BYTES)
    above = next(folder for folder in database.absolute().parents if folder.exists())
    free = shutil.disk_usage(above).free
    if need > free:
        raise UserError(
            f"{above} has {free / 1e6:.0f} MB free and a new copy of {database} takes {need / 1e6:.0f} MB; make room there"
        )
