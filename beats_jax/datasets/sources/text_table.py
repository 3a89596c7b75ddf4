"""Tables on disk as columns of texts: CSV, or text with semicolons or tabs, as spreadsheets and annotation tools write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from beats_jax.errors import UserError
from beats_jax.spreadsheets import original_cell

MOST_COLUMNS = 16_384  # of a sheet of Excel; a longer line is no header
_DECLARED = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # Excel's way to name the separator, in a line above the header


class Table(dict[str, list[str]]):
    """Columns of texts, by name.

    Attributes:
      lines: the line of the file in which each row begins; empty for a table that is in memory.
      decimal_comma: whether "1,234" is 1.234, as in tables that commas do not separate.
      repeated: names that several columns have; the first keeps it.
    """

    def __init__(
        self,
        columns: Mapping[str, list[str]],
        lines: Sequence[int] = (),
        *,
        decimal_comma: bool = False,
        repeated: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(columns)
        self.lines = lines
        self.decimal_comma = decimal_comma
        self.repeated = repeated


def read_table(path: Path) -> Table:
    """Reads a table; cells are cut at both ends.

    The separator is the one that a first line `sep=;` names, else the one of comma, semicolon and tab that occurs most in the
    header. Lines above the header that begin with `#` and, below it, such lines of a single cell are comments. Rows without text
    are left out. Cells that `spreadsheets.safe_cell` has changed come back as they were.

    Raises:
      UserError: absent, not UTF-8 text, a NUL character, a quote that is not closed, more cells than the header, more than
        `MOST_COLUMNS` columns, or no row. Lines are named.
    """
    if not path.is_file():
        raise UserError(f"table {path} does not exist; check the path")
    try:
        with open(path, encoding="utf-8-sig") as file:
            return _read(path, _Lines(path, file))
    except UnicodeDecodeError as error:
        raise UserError(f"table {path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise UserError(f"table {path} cannot be read: {error.strerror}; check the path") from error


class _Lines:
    """The lines of a text, counted. `row` holds those that were read since `begin`."""

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._path, self._lines = path, lines
        self.number = 0
        self.row: list[str] = []

    def begin(self) -> int:
        """The number of the next line, where a row begins."""
        self.row.clear()
        return self.number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if "\0" in line:
            raise UserError(f"table {self._path} line {self.number} holds a NUL character; save the table as CSV again")
        self.row.append(line)
        return line


def _read(path: Path, lines: _Lines) -> Table:
    first, separator = _header_line(path, lines)
    reader = csv.reader(chain([first], lines), delimiter=separator, skipinitialspace=True)
    names = _next_row(path, reader, lines.number) or []
    if len(names) > MOST_COLUMNS:
        raise UserError(f"table {path} has {len(names)} columns, at most {MOST_COLUMNS} are read; save it with a header line")
    rows, starts = _rows(path, reader, lines, len(names), separator)
    if not rows:
        raise UserError(f"table {path} has no rows below its header; give at least one recording per class")
    columns, repeated = {}, set()
    for place, name in enumerate(_clean(names)):
        name = name or f"column {place + 1}"
        if name in columns:
            repeated.add(name)
            name = f"{name}.{place + 1}"
        columns[name] = _clean([row[place] if place < len(row) else "" for row in rows])
    return Table(columns, starts, decimal_comma=separator != ",", repeated=frozenset(repeated))


def _header_line(path: Path, lines: _Lines) -> tuple[str, str]:
    """The first line of the header, and the separator."""
    declared = ""
    for line in lines:
        if found := _DECLARED.fullmatch(line.rstrip("\r\n")):
            declared = found[1]
        elif line.strip() and not line.lstrip().startswith("#"):
            unquoted = re.sub(r'"[^"]*"', "", line)
            return line, declared or max(",;\t", key=unquoted.count)
    raise UserError(f"table {path} cannot be read: it is empty; save it as CSV with a header line")


def _rows(
    path: Path, reader: Iterator[list[str]], lines: _Lines, width: int, separator: str
) -> tuple[list[list[str]], list[int]]:
    """Rows with text, at most `width` cells each, and the lines in which they begin."""
    rows: list[list[str]] = []
    starts: list[int] = []
    begin = lines.begin()
    while (row := _next_row(path, reader, begin)) is not None:
        last, begin = begin, lines.number + 1
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise UserError(
                f"table {path} line {last} has more cells ({len(row)}) than the header ({width}); "
                f"put quotes around cells that hold {separator!r}"
            )
        comment = width > 1 and len(row) == 1 and row[0].lstrip().startswith("#")
        if any(cell.strip() for cell in row) and not comment:
            rows.append(row)
            starts.append(last)
        _require_closed(path, lines, last, separator)
        lines.begin()
    return rows, starts


def _next_row(path: Path, reader: Iterator[list[str]], line: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise UserError(f"table {path} line {line} cannot be read: {error}; is a quote not closed?") from error


def _require_closed(path: Path, lines: _Lines, line: int, separator: str) -> None:
    """Raises `UserError` where the end of the file closed a quote: what followed the quote became one cell."""
    if lines.row and lines.row[-1].endswith("\n") and len(lines.row) == 1:
        return
    try:
        next(csv.reader(lines.row, delimiter=separator, skipinitialspace=True, strict=True), None)
    except csv.Error as error:
        if "end of data" in str(error):
            raise UserError(f"table {path} line {line} cannot be read: a quote is not closed; close it") from error


def _clean(cells: list[str]) -> list[str]:
    return [original_cell(cell.strip()) for cell in cells]
