"""The shards of a table of vectors, read as one table: checked before they are used, and never all of it in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.errors import UserError
from beats_jax.inference.store import JOB, JOB_FILE, damage_error, job_hash, shards

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as parquet

READERS = 2  # shards that are decoded at once, some 150 MB each
BATCH_ROWS = 8192


@dataclass(frozen=True)
class Part:
    """A shard: its file, its number of rows, and the number of the first one in the table."""

    path: Path
    rows: int
    first: int


def open_parts(folder: Path, identity: Mapping[str, Any]) -> tuple[list[Part], pa.Schema | None]:
    """The shards of a folder in order, and the columns that they share; None where there are none yet.

    Args:
      identity: of the job that wrote them.
    Raises:
      UserError: a shard is damaged, of another job, or has other columns.
    """
    parts, first, shared = [], 0, None
    job = job_hash(identity)
    for path in shards(folder):
        with _damage_of(path):
            file = _open(path)
            schema, rows = file.schema_arrow, file.metadata.num_rows
        if (schema.metadata or {}).get(JOB, job) != job:
            raise UserError(f"{path} is of another job than {folder / JOB_FILE}; move it away")
        schema = schema.remove_metadata()
        if shared is not None and schema != shared:
            raise UserError(f"{path} has other columns than {parts[0].path.name}: {_other_fields(schema, shared)}; move it away")
        shared = schema
        parts.append(Part(path, rows, first))
        first += rows
    stated, widths = identity.get("columns"), {name: width for name, (width, _) in vector_columns(shared).items()}
    if parts and stated is not None and stated != widths:
        raise UserError(f"{folder} has the vectors {widths}, and its {JOB_FILE} states {stated}; restore it from a copy")
    return parts, shared


def vector_columns(schema: pa.Schema | None) -> dict[str, tuple[int, np.dtype]]:
    """Columns of vectors → their length and type."""
    import pyarrow as pa

    fields = [field for field in schema or () if pa.types.is_fixed_size_list(field.type)]
    return {field.name: (field.type.list_size, np.dtype(field.type.value_type.to_pandas_dtype())) for field in fields}


def read_part(part: Part, columns: list[str] | None = None) -> pa.Table:
    """Some columns of a shard, or all. Raises `UserError` where it is damaged."""
    with _damage_of(part.path):
        return _open(part.path).read(columns=columns)


def read_vectors(parts: Sequence[Part], column: str) -> Iterator[np.ndarray]:
    """The vectors of a column in order, some thousand rows at a time, float [n, D].

    Raises:
      UserError: a shard is damaged.
    """
    waiting: deque[Future[list[np.ndarray]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for part in parts:
            waiting.append(pool.submit(_vectors_of, part, column))
            if len(waiting) > READERS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _vectors_of(part: Part, column: str) -> list[np.ndarray]:
    with _damage_of(part.path):
        arrays: list[Any] = [batch.column(0) for batch in _open(part.path).iter_batches(BATCH_ROWS, columns=[column])]
        if sum(map(len, arrays)) != part.rows or any(array.null_count for array in arrays):
            raise ValueError(f"it does not hold a vector in each of its {part.rows} rows")
        return [array.flatten().to_numpy(zero_copy_only=True).reshape(len(array), -1) for array in arrays]


def read_places(parts: Sequence[Part], schema: pa.Schema, rows: np.ndarray) -> pa.Table:
    """All columns but the vectors of the given rows (int64 [R], numbers in the table), in their order.

    Raises:
      UserError: a shard is damaged.
    """
    import pyarrow as pa

    vectors = vector_columns(schema)
    wanted = pa.schema([field for field in schema if field.name not in vectors])
    owners = np.searchsorted([part.first for part in parts], rows, side="right") - 1
    tables, order = [wanted.empty_table()], [np.zeros(0, np.int64)]
    for owner in np.unique(owners).tolist():
        own = np.flatnonzero(owners == owner)
        tables.append(read_part(parts[owner], wanted.names).take(rows[own] - parts[owner].first))
        order.append(own)
    return pa.concat_tables(tables).take(np.argsort(np.concatenate(order)))


def _open(path: Path) -> parquet.ParquetFile:
    import pyarrow.parquet as parquet

    return parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True)


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Errors of pyarrow as the user's error about a shard."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise damage_error(path, error) from error


def _other_fields(schema: pa.Schema, expected: pa.Schema) -> str:
    found, wanted = ({field.name: str(field.type) for field in one} for one in (schema, expected))
    return "; ".join(
        f"{name} is {found.get(name, 'missing')}, there {wanted.get(name, 'missing')}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    )
