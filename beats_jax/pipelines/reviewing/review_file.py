"""The table of verdicts, to which pages in several tabs and processes add at once.

Each change is one write at the end of the file, under a lock, which is on the disk before the page shows it. A kill may cut off
the last line: the next change removes what is left of it. Nothing else is ever changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from beats_jax.datasets.tables.reviews import COLUMNS, TAKEN_BACK, Review, read_reviews, review_lines, standing
from beats_jax.errors import UserError
from beats_jax.files import cannot_write
from beats_jax.pipelines.exploring.label_table import checked_text

LOCK_SECONDS = 20.0
_TIME_AT_END = re.compile(rb",\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\Z")  # the last cell of a line that lacks its line break only


class ReviewFile:
    """The table at `path`, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[tuple[int, int], tuple[Review, ...]] | None = None

    def reviews(self) -> tuple[Review, ...]:
        """All lines, the oldest first. Raises `UserError` where the table is not one of ours or cannot be read."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        if found.st_size == 0:
            return ()
        state = found.st_size, found.st_mtime_ns
        if self._seen is None or self._seen[0] != state:
            self._seen = state, tuple(read_reviews(self.path)) if self._has_rows() else ()
        return self._seen[1]

    def repair(self) -> str:
        """Removes a last line that a kill cut off, and returns it; "" = all lines are whole. Raises `UserError` as `add`."""
        if not self.path.is_file():
            return ""
        with self._changing() as descriptor:
            return _repair(descriptor)

    def require_ours(self) -> None:
        """Raises `UserError` where verdicts could not be read, or not be added."""
        if self.reviews() or (self.path.is_file() and self.path.stat().st_size):
            self._has_rows(check=True)

    def add(self, reviews: Sequence[Review], reviewer: str) -> None:
        """Adds verdicts of a reviewer, at the time of now.

        Raises:
          UserError: a name or label that is empty, too long or holds control characters; a table with other columns; it cannot be
            written, or another process holds it for long.
        """
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        lines = [
            review._replace(
                other_label=checked_text(review.other_label, "label") if review.other_label else "",
                reviewer=reviewer,
                time=_now(),
            )
            for review in reviews
        ]
        self._append(lambda _: lines)

    def undo(self, reviewer: str, of: Callable[[Review], bool] = lambda _: True) -> Review | None:
        """Takes back the last verdict of a reviewer that still counts and is wanted by `of`; returns it, None = there is none.

        Raises:
          UserError: as `add`.
        """
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        taken: list[Review] = []

        def line(reviews: tuple[Review, ...]) -> list[Review]:
            own = [one for one in standing(reviews).values() if one.reviewer == reviewer and of(one)]
            taken.extend(own[-1:])
            return [one._replace(verdict=TAKEN_BACK, other_label="", time=_now()) for one in taken]

        self._append(line)
        return taken[0] if taken else None

    def _append(self, lines: Callable[[tuple[Review, ...]], list[Review]]) -> None:
        """Adds lines that depend on the table, which is read under the lock."""
        with self._changing() as descriptor:
            _repair(descriptor)
            size = os.fstat(descriptor).st_size
            wanted = lines(self.reviews())
            if not wanted:
                return
            if size:
                self._has_rows(check=True)
            _write_whole(descriptor, review_lines(wanted, header=size == 0), size)

    def _has_rows(self, *, check: bool = False) -> bool:
        """Whether there is a line below the header. Raises `UserError` where the header, as `check` asks, is not ours."""
        with self.path.open("rb") as file:
            header = file.readline().decode("utf-8", "replace").rstrip("\r\n")
            more = bool(file.read(1))
        if check and header != ",".join(COLUMNS):
            raise UserError(
                f"{self.path} has another header than {','.join(COLUMNS)} (a spreadsheet may have changed it); "
                "save it with commas and these columns, or give --review another file"
            )
        return more

    @contextmanager
    def _changing(self) -> Iterator[int]:
        """The file, open to add to, under the lock that all processes take."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCK_SECONDS):
                descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    yield descriptor
                finally:
                    os.close(descriptor)
        except Timeout as error:
            raise UserError(f"{self.path} is held by another process; try again") from error
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_whole(descriptor: int, data: bytes, size: int) -> None:
    """Writes at the end and waits for the disk; where that fails, the file has its old size again."""
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _repair(descriptor: int) -> str:
    """Completes or removes a last line without its line break; returns what was removed."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    whole = _whole_bytes(data)
    rest = data[whole:]
    if not rest:
        return ""
    if _TIME_AT_END.search(rest) and rest.count(b'"') % 2 == 0:
        _write_whole(descriptor, b"\n", size)
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
