"""Rows of a long job on disk: Parquet shards, whole or absent, to which a later call adds what is missing.

    FOLDER/_job.json                     what was computed, with what, on which windows; another job into the folder is refused
    FOLDER/part-PROCESS-000000.parquet   rows, and in the footer the recordings that are finished with them, with their bytes

A recording is done when a complete shard names it. No list beside the shards could disagree with them after a kill. One that has
grown since is taken out (`forget`), and its rows are computed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import cannot_write, remove_leftovers, whole_file, write_text
from beats_jax.json_files import read_json

if TYPE_CHECKING:
    import pyarrow as pa

PathLike = str | os.PathLike[str]
JOB_FILE = "_job.json"  # pandas, duckdb and R open the folder as one table and leave out names that begin so
FOLDER = b"beats_jax.folder"  # key in the footer of a shard: working folder, from which relative names of recordings lead
FINISHED = b"beats_jax.finished"  # key in the footer of a shard: JSON, recording → its bytes
JOB = b"beats_jax.job"  # key in the footer of a shard: hash of what its job computes, so that no shard of another one is read
UNKNOWN_SIZE = -1
ROWS_PER_SHARD = 50_000
SECONDS_PER_SHARD = 60.0  # what a killed job loses at most, besides the recordings that it was reading


class Store:
    """A folder of shards with the rows of one job. Each process of the job writes shards of its own, and holds them.

    Use it as a context: its end writes the rows that wait in memory. A killed job computes those again.
    """

    def __init__(
        self,
        folder: PathLike,
        identity: Mapping[str, Any],
        schema: pa.Schema,
        *,
        rows_per_shard: int = ROWS_PER_SHARD,
        process: int = 0,
    ) -> None:
        """Makes the folder, or opens that of the same job.

        Args:
          identity: all that the rows depend on, fit for JSON. schema: of the rows.
          process: number of this process in its job; process 0 opens the folder first.
        Raises:
          UserError: the folder holds another job (what differs is named) or other files, is in use, or cannot be written.
        """
        self.folder, self.schema = Path(folder), schema
        self._shard = f"part-{process:03d}"
        self._most = rows_per_shard
        self._tables: list[pa.Table] = []
        self._finished: dict[str, int] = {}
        self._flushed = time.monotonic()
        self._lock = FileLock(self.folder / f".lock-{process:03d}", timeout=0)
        self._job = job_hash(identity)
        self._open(json.loads(json.dumps(identity)))

    def done(self) -> set[str]:
        """Recordings whose rows are all on disk.

        Raises:
          UserError: a shard is damaged.
        """
        return finished_recordings(self.folder)

    def append(self, rows: pa.Table, finished: str, size: int = UNKNOWN_SIZE) -> None:
        """Takes all rows of a recording, which is then finished; writes a shard when there are enough, or after a minute.

        Args:
          size: bytes of the recording before it was read.
        Raises:
          UserError: the disk is full or gone.
        """
        self._tables.append(rows.cast(self.schema))
        self._finished[finished] = size
        if sum(map(len, self._tables)) >= self._most or time.monotonic() - self._flushed >= SECONDS_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Writes what waits in memory as a shard."""
        import pyarrow as pa

        if not self._finished:
            return
        table = pa.concat_tables(self._tables) if self._tables else self.schema.empty_table()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), JOB: self._job, FOLDER: os.fsencode(os.getcwd())})
        number = len(list(self.folder.glob(f"{self._shard}-*.parquet")))
        _write_shard(self.folder / f"{self._shard}-{number:06d}.parquet", table, self._finished)
        self._tables, self._finished, self._flushed = [], {}, time.monotonic()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.release()

    def _open(self, identity: Any) -> None:
        record = self.folder / JOB_FILE
        try:
            known, occupied = record.is_file(), self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))
        except OSError as error:  # a folder above may not be searched
            raise cannot_write(self.folder, error) from error
        if known:
            found = read_json(record, dict, remedy="give another output folder")
            if changes := differences(found, identity):
                raise UserError(f"{self.folder} holds the rows of another job: {changes}; give another output folder")
        elif occupied:
            raise UserError(f"{self.folder} is not the folder of a job ({JOB_FILE} is missing); give another output folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(f"{self.folder} is in use by another process; wait until it ends, or give another folder") from error
        remove_leftovers(self.folder)
        if not known:
            write_text(record, json.dumps(identity, indent=2, ensure_ascii=False) + "\n")


def job_hash(identity: Mapping[str, Any]) -> bytes:
    """Hash of all that the rows of a job depend on, as the footers of its shards have it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest().encode()


def differences(found: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """What differs between the identity that a folder holds and another one, for a message; "" = nothing."""
    differing = sorted(key for key in found.keys() | identity.keys() if found.get(key) != identity.get(key))
    return "; ".join(f"{key} was {_short(found.get(key))}, now {_short(identity.get(key))}" for key in differing)


def shards(folder: PathLike) -> list[Path]:
    """The shards of a folder, in order."""
    return sorted(Path(folder).glob("part-*.parquet"))


def finished_recordings(folder: PathLike) -> set[str]:
    """Recordings whose rows are all on disk, by any process. Raises `UserError` where a shard is damaged."""
    return set(finished_sizes(folder))


def finished_sizes(folder: PathLike) -> dict[str, int]:
    """`finished_recordings` with their bytes at that time; `UNKNOWN_SIZE` where nobody gave them."""
    return {name: size for path in shards(folder) for name, size in _read_finished(path).items()}


def finished_times(folder: PathLike) -> dict[str, float]:
    """`finished_recordings` → when their shard was written, seconds since 1970."""
    return {name: path.stat().st_mtime for path in shards(folder) for name in _read_finished(path)}


def finished_paths(folder: PathLike) -> dict[str, str]:
    """Recordings whose rows are on disk → where they were; without those of which a shard does not say it (older ones)."""
    paths: dict[str, str] = {}
    for shard in shards(folder):
        where = os.fsdecode(_read_metadata(shard).get(FOLDER, b""))
        paths |= {name: os.path.join(where, name) for name in _read_finished(shard) if where or os.path.isabs(name)}
    return paths


def forget(folder: PathLike, names: AbstractSet[str]) -> None:
    """Takes recordings and their rows (by the column `file`) out of a folder that no other process writes to.

    Each shard is replaced by a whole one, so that a kill leaves a recording finished with its rows, or neither.

    Raises:
      UserError: a shard is damaged or cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for path in shards(folder):
        finished = _read_finished(path)
        if finished.keys() & names:
            try:
                table = parquet.read_table(path, page_checksum_verification=True)
            except (OSError, ValueError) as error:
                raise damage_error(path, error) from error
            kept = table.filter(pa.array([name not in names for name in table["file"].to_pylist()], pa.bool_()))
            _write_shard(path, kept, {name: size for name, size in finished.items() if name not in names})


def read_rows(folder: PathLike, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a folder, a table a shard. All rows of a recording are in one shard, side by side.

    Args:
      columns: names, in their order in the tables; None = all.
    Raises:
      UserError: the folder holds no job, or a shard is damaged.
    """
    import pyarrow.parquet as parquet

    if not (Path(folder) / JOB_FILE).is_file():
        raise UserError(f"{folder} holds no rows of a job ({JOB_FILE} is missing)")
    for path in shards(folder):
        try:
            wanted = None if columns is None else list(columns)
            yield parquet.read_table(path, columns=wanted, page_checksum_verification=True)
        except (OSError, ValueError) as error:  # pyarrow's own errors are both
            raise damage_error(path, error) from error


def _write_shard(path: Path, table: pa.Table, finished: Mapping[str, int]) -> None:
    import pyarrow.parquet as parquet

    metadata = {**(table.schema.metadata or {}), FINISHED: json.dumps(finished).encode()}
    with whole_file(path) as file:
        parquet.write_table(table.replace_schema_metadata(metadata), file, write_page_checksum=True)


def _read_metadata(path: Path) -> dict[bytes, bytes]:
    import pyarrow.parquet as parquet

    try:
        return parquet.read_schema(path).metadata or {}
    except (OSError, ValueError) as error:
        raise damage_error(path, error) from error


def _read_finished(path: Path) -> dict[str, int]:
    try:
        found = json.loads(_read_metadata(path)[FINISHED])
        return found if isinstance(found, dict) else dict.fromkeys(found, UNKNOWN_SIZE)  # a list: from before sizes were kept
    except (ValueError, KeyError) as error:
        raise damage_error(path, error) from error


def damage_error(path: Path, error: Exception) -> UserError:
    """The error for a shard that cannot be read."""
    return UserError(f"{path} is damaged ({' '.join(str(error).split())[:100]}); delete it, its recordings are computed again")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
