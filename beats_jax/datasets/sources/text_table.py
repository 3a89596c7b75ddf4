"""Tables on disk as columns of texts: CSV, or text with semicolons or tabs, as spreadsheets and annotation tools write it.

pandas.read_csv does not do: it gives no line of a row, renames repeated columns silently, reports a quote that is not closed
without its line, and its Python engine takes a row with too many cells as an index.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TextIO

from beats_jax.audio.files import some
from beats_jax.config.validation import nearest
from beats_jax.datasets.distinct import ROWS_AT_A_TIME, Once
from beats_jax.errors import UserError
from beats_jax.spreadsheets import original_cell

GZIP = b"\x1f\x8b"  # how such a file begins (RFC 1952)
MOST_COLUMNS = 16_384  # of a sheet of Excel; a longer line is no header
_DECLARED = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # Excel's way to name the separator, in a line above the header


class Table(dict[str, list[str]]):
    """Columns of texts, by name.

    Attributes:
      name: of the table, in messages.
      lines: the line of the file in which each row begins; empty for a table in memory.
      decimal_comma: whether "1,234" is 1.234, as in tables that commas do not separate.
      repeated: names that several columns have; the first keeps it.
    """

    def __init__(
        self,
        columns: Mapping[str, list[str]],
        name: str = "the table",
        lines: Sequence[int] = (),
        *,
        decimal_comma: bool = False,
        repeated: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(columns)
        self.name = name
        self.lines = lines
        self.decimal_comma = decimal_comma
        self.repeated = repeated

    def at(self, row: int) -> str:
        """A row, counted from 0, as the user finds it: by its line, or by its number in a table without lines."""
        return f"{self.name} line {self.lines[row]}" if self.lines else f"{self.name} row {row}"

    def take(self, rows: Sequence[int]) -> Table:
        """The given rows, with their lines."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.items()}
        lines = [self.lines[row] for row in rows] if self.lines else ()
        return Table(columns, self.name, lines, decimal_comma=self.decimal_comma, repeated=self.repeated)

    def require_columns(self, names: Sequence[str]) -> None:
        """Raises `UserError` with the nearest name unless the table has each of `names`, once."""
        for name in names:
            if name not in self:
                close = nearest(name, list(self))
                hint = f"{close} " if close.startswith("did") else ""
                raise UserError(f"{self.name} has no column {name!r}; {hint}columns: {some(list(self))}")
            if name in self.repeated:
                raise UserError(f"{self.name} has several columns {name!r}; rename or remove the others")


def read_table(path: Path, *, may_be_empty: bool = False) -> Table:
    """Reads a table; cells lose the spaces around them.

    Args:
      may_be_empty: a header alone is a table of nothing, which a detector writes where it finds nothing.

    The separator is the one that a first line `sep=;` names, else the one of comma, semicolon and tab that occurs most in the
    header. Lines above the header that begin with `#` are comments, and so are such lines of a single cell below it. Rows without
    text are left out. Cells that `spreadsheets.safe_cell` has changed are restored.

    Raises:
      UserError: absent, compressed, not UTF-8 text, a NUL character, a quote that is not closed, more cells than the header, more
        than `MOST_COLUMNS` columns, or no row (unless `may_be_empty`). The message names the line.
    """
    if not path.is_file():
        raise UserError(f"table {path} does not exist; check the path")
    try:
        with open(path, encoding="utf-8-sig") as file:
            return _parse(path, file, may_be_empty)
    except UnicodeDecodeError as error:
        if error.object.startswith(GZIP):
            raise UserError(f"table {path} is compressed by gzip; unpack it first (gunzip --keep {path.name})") from error
        raise UserError(f"table {path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise UserError(f"table {path} cannot be read: {error.strerror}; check the path") from error


def _parse(path: Path, file: TextIO, may_be_empty: bool) -> Table:
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise UserError(f"table {path} line {number} holds a NUL character; save the table as CSV again")
    file.seek(0)  # read anew for each purpose: the lines of a million rows take 100 MB
    above, separator = _find_header(path, file)
    file.seek(0)
    reader = csv.reader(islice(file, above, None), delimiter=separator, skipinitialspace=True)
    try:
        names = next(reader)
        if len(names) > MOST_COLUMNS:
            raise UserError(f"table {path} has {len(names)} columns, at most {MOST_COLUMNS} are read; save it with a header line")
        cells, starts, last = _read_rows(path, reader, above + reader.line_num + 1, len(names), separator)
    except csv.Error as error:
        line = _last_row(file, above, separator)
        raise UserError(f"table {path} line {line} cannot be read: {error}; is a quote not closed?") from error
    if not starts and not may_be_empty:
        raise UserError(f"table {path} has no rows below its header; give at least one recording per class")
    if starts:
        _require_closed_quote(path, file, last, separator)
    columns, repeated = name_columns([_clean(name) for name in names], cells)
    return Table(columns, str(path), starts, decimal_comma=separator != ",", repeated=repeated)


def name_columns(names: Sequence[str], cells: Sequence[list[str]]) -> tuple[dict[str, list[str]], frozenset[str]]:
    """(columns by name, names that several have): the first column of a name keeps it; one without a name has its place."""
    columns: dict[str, list[str]] = {}
    repeated = set()
    for place, (name, column) in enumerate(zip(names, cells, strict=True), start=1):
        name = name or f"column {place}"
        if name in columns:
            repeated.add(name)
            name = f"{name}.{place}"
        columns[name] = column
    return columns, frozenset(repeated)


def _read_rows(path: Path, reader: Any, line: int, width: int, separator: str) -> tuple[list[list[str]], array[int], int]:
    """Cells of `width` columns, the line of every row, and that of the last row of any kind. line: that of the first row."""
    cells: list[list[str]] = [[] for _ in range(width)]
    above, starts, last, cleaned = line - 1 - reader.line_num, array("q"), line, [Once(_clean) for _ in cells]
    while block := list(islice(reader, ROWS_AT_A_TIME)):
        following = above + reader.line_num + 1
        lines: Sequence[int] = range(line, following + 1)
        if len(lines) != len(block) + 1:  # cells with line breaks
            lines = list(accumulate((1 + sum(cell.count("\n") for cell in row) for row in block), initial=line))
        last, line = lines[-2], following
        if set(map(len, block)) != {width} or not all(row[0].strip() for row in block):
            kept = [(row, at) for row, at in zip(block, lines[:-1], strict=True) if _is_row(path, row, at, width, separator)]
            lines = [at for _, at in kept]
            block = [[*row[:width], *[""] * (width - len(row))] for row, _ in kept]
        starts.extend(lines[: len(block)])
        for column, once, part in zip(cells, cleaned, zip(*block, strict=True), strict=bool(block)):
            column += once.over(part)
    return cells, starts, last


def _last_row(file: TextIO, above: int, separator: str) -> int:
    """The line in which the row begins that the reader cannot read."""
    file.seek(0)
    reader = csv.reader(islice(file, above, None), delimiter=separator, skipinitialspace=True)
    line = above + 1
    with suppress(csv.Error):
        for _ in reader:
            line = above + reader.line_num + 1
    return line


def _find_header(path: Path, lines: Iterable[str]) -> tuple[int, str]:
    """The number of lines above the header, and the separator."""
    declared = ""
    for place, line in enumerate(lines):
        if found := _DECLARED.fullmatch(line.rstrip("\r\n")):
            declared = found[1]
        elif line.strip() and not line.lstrip().startswith("#"):
            unquoted = re.sub(r'"[^"]*"', "", line)
            return place, declared or max(",;\t", key=unquoted.count)
    raise UserError(f"table {path} cannot be read: it is empty; save it as CSV with a header line")


def _is_row(path: Path, row: list[str], line: int, width: int, separator: str) -> bool:
    """Whether a row has text and is no comment. Raises `UserError` for more cells than the header."""
    if len(row) > width and any(cell.strip() for cell in row[width:]):
        raise UserError(
            f"table {path} line {line} has more cells ({len(row)}) than the header ({width}); "
            f"put quotes around cells that hold {separator!r}"
        )
    comment = width > 1 and len(row) == 1 and row[0].lstrip().startswith("#")
    return any(cell.strip() for cell in row) and not comment


def _require_closed_quote(path: Path, file: TextIO, line: int, separator: str) -> None:
    """Raises `UserError` where the end of the file closes a quote in the last row: all that follows is then one cell."""
    file.seek(0)
    try:
        # strict only here: elsewhere text behind a quoted cell ("owl" ?) is tolerated
        list(csv.reader(islice(file, line - 1, None), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        if "end of data" in str(error):
            raise UserError(f"table {path} line {line} cannot be read: a quote is not closed; close it") from error


def _clean(cell: str) -> str:
    return original_cell(cell.strip())
