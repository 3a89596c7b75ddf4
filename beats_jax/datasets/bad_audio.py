"""The list of files that could not be used: `errors.csv` with the columns file, reason; each file once."""

from __future__ import annotations

import csv
import io
import os
import threading
from pathlib import Path

from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.spreadsheets import original_cell, safe_cell

HEADER = ("file", "reason")


class ErrorLog:
    """Writes bad files to a CSV as they are found, or raises at the first one.

    A run that goes on after an interruption appends to the same file and does not list a file again. Each line is appended by one
    write, so that a crash leaves whole lines. Safe to use from several threads.
    """

    def __init__(self, path: str | os.PathLike[str], strict: bool = False) -> None:
        """Opens or continues the log.

        Args:
          path: the CSV; made with its header when it is absent.
          strict: `add` raises `UserError` instead of going on.
        """
        self.path = Path(path)
        self.strict = strict
        self._lock = threading.Lock()
        self._files = self._begin()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def files(self) -> frozenset[str]:
        """The files listed so far."""
        return frozenset(self._files)

    def rows(self) -> list[tuple[str, str]]:
        """(file, reason) of every file listed so far, in the order found."""
        with self._lock:
            table = csv.reader(io.StringIO(self.path.read_text(encoding="utf-8")))
            return [(original_cell(row[0]), original_cell(row[1])) for row in table][1:]

    def add(self, path: str | os.PathLike[str], reason: str) -> bool:
        """Lists a file with the reason; returns False when it is listed already. Raises `UserError` when strict."""
        name, reason = os.fspath(path), " ".join(reason.split())
        with self._lock:
            new = name not in self._files
            if new:
                self._append((name, reason))
                self._files.add(name)
        if self.strict:
            raise UserError(f"{name}: {reason}; mend or remove the file, or run without strict to leave bad files out")
        return new

    def _begin(self) -> set[str]:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, _line(HEADER))
            return set()
        text = self.path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):  # the machine stopped in the middle of a line
            text = text[: text.rfind("\n") + 1]
            write_text(self.path, text)
        rows = list(csv.reader(io.StringIO(text)))
        if not rows or tuple(rows[0]) != HEADER:
            raise UserError(f"{self.path}: not a list of bad files (its first line is not 'file,reason'); move it away")
        return {original_cell(row[0]) for row in rows[1:] if row}

    def _append(self, row: tuple[str, str]) -> None:
        place = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(place, _line(row).encode("utf-8", "surrogateescape"))
        finally:
            os.close(place)


def _line(row: tuple[str, str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(safe_cell, row))
    return text.getvalue()
