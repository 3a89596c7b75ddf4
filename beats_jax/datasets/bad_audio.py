"""The list of files that cannot be used: `errors.csv` with the columns file, reason; each file once."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from beats_jax.errors import UserError
from beats_jax.files import cannot_write, read_text, write_text
from beats_jax.spreadsheets import original_cell, safe_cell

HEADER = ("file", "reason")
REMEDY = "move it away; the bad files will be listed again"


class ErrorLog:
    """Writes bad files to a CSV as they are found, or raises at the first one. Safe to use from several threads.

    A resumed run appends to the same file and lists no file again. One write appends each line, so a crash leaves whole lines.
    """

    def __init__(self, path: str | os.PathLike[str], strict: bool = False) -> None:
        """Opens or creates the log. With `strict`, `add` raises.

        Raises:
          UserError: the file is another table or damaged, or it cannot be written.
        """
        self.path = Path(path)
        self.strict = strict
        self._lock = threading.Lock()
        self._files = self._begin()

    def rows(self) -> list[tuple[str, str]]:
        """(file, reason) of every file listed so far, in the order found."""
        with self._lock:
            return _rows(read_text(self.path, remedy=REMEDY), self.path)

    def add(self, path: str | os.PathLike[str], reason: str) -> bool:
        """Lists a file with the reason; returns False when it is listed already. Raises `UserError` when strict."""
        name = _text(path)
        reason = " ".join(reason.encode("utf-8", "backslashreplace").decode().split())
        with self._lock:
            new = name not in self._files
            if new:
                self._append((name, reason))
                self._files.add(name)
        if self.strict:
            raise UserError(f"{name}: {reason}; repair or remove the file, or run without strict to leave bad files out")
        return new

    def forget(self, files: Iterable[str | os.PathLike[str]]) -> None:
        """Takes files off the list, because they are read again."""
        names = {_text(file) for file in files} & self._files
        if names:
            with self._lock:
                rows = _rows(read_text(self.path, remedy=REMEDY), self.path)
                write_text(self.path, "".join(map(_line, [HEADER, *(row for row in rows if row[0] not in names)])))
                self._files -= names

    def _begin(self) -> set[str]:
        if not self.path.exists():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(self.path, error) from error
            write_text(self.path, _line(HEADER))
            return set()
        text = read_text(self.path, remedy=REMEDY)
        if text and not text.endswith("\n"):  # a crash left half a line
            text = text[: text.rfind("\n") + 1]
            write_text(self.path, text)
        return {file for file, _ in _rows(text, self.path)}

    def _append(self, row: tuple[str, str]) -> None:
        try:
            place = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(place, _line(row).encode())
                os.fsync(place)
            finally:
                os.close(place)
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _rows(text: str, path: Path) -> list[tuple[str, str]]:
    """(file, reason) of every line after the header. Raises `UserError` for another table, or a damaged one."""
    try:
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except csv.Error as error:
        raise UserError(f"{path} is damaged ({error}); {REMEDY}") from error
    if tuple(header) != HEADER:
        raise UserError(f"{path}: not a list of bad files (its first line is not 'file,reason'); {REMEDY}")
    odd = next((row for row in rows if len(row) != len(HEADER)), None)
    if odd is not None:
        raise UserError(f"{path} is damaged (a line has {len(odd)} cells: {str(odd)[:80]}); {REMEDY}")
    return [(original_cell(file), original_cell(reason)) for file, reason in rows]


def _text(path: str | os.PathLike[str]) -> str:
    """A name need not be UTF-8, a table must be: other bytes become escapes, as in predictions.csv."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def _line(row: tuple[str, str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(safe_cell, row))
    return text.getvalue()
