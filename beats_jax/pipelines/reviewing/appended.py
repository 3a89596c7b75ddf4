"""Tables to which pages in several tabs and processes add lines at once.

Each change is one write at the end of the file, under a lock, which is on the disk before the page shows it. A kill may cut off
the last line: the next change removes what is left of it. Nothing else is ever changed. The last cell of a line is its time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import cannot_write

LOCK_SECONDS = 20.0
_TIME_AT_END = re.compile(rb",\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\Z")  # the last cell of a line that lacks its line break only


@contextmanager
def changing(path: Path) -> Iterator[int]:
    """The file, open to add to, under the lock that all processes take.

    Raises:
      UserError: it cannot be written, or another process holds it for long.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
    except Timeout as error:
        raise UserError(f"{path} is held by another process; try again") from error
    except OSError as error:
        raise cannot_write(path, error) from error


def time_now() -> str:
    """As the last cell has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def repair_file(path: Path) -> str:
    """Removes a last line that a kill cut off, and returns it; "" = all lines are whole. Raises `UserError` as `changing`."""
    if not path.is_file():
        return ""
    with changing(path) as descriptor:
        return repair(descriptor)


def header_of(path: Path) -> tuple[str, bool]:
    """The first line, and whether there is one below it."""
    with path.open("rb") as file:
        return file.readline().decode("utf-8", "replace").rstrip("\r\n"), bool(file.read(1))


def write_whole(descriptor: int, data: bytes, size: int) -> None:
    """Writes at the end and waits for the disk; where that fails, the file has its old size again."""
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def repair(descriptor: int) -> str:
    """Completes or removes a last line without its line break; returns what was removed."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    whole = _whole_bytes(data)
    rest = data[whole:]
    if not rest:
        return ""
    if _TIME_AT_END.search(rest) and rest.count(b'"') % 2 == 0:
        write_whole(descriptor, b"\n", size)
        return ""
    os.ftruncate(descriptor, whole)
    os.fsync(descriptor)
    return rest.decode("utf-8", "replace")


def _whole_bytes(data: bytes) -> int:
    """How many bytes are whole lines: a line break within quotes ends none."""
    place = data.rfind(b"\n")
    while place >= 0 and data.count(b'"', 0, place) % 2:
        place = data.rfind(b"\n", 0, place)
    return place + 1
