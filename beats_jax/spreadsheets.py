"""Text in CSV cells that a spreadsheet would run as a formula: escaped by our writers, restored by our readers.

Excel, LibreOffice and Google Sheets compute a cell that begins with = + - @ (full-width ones too), a tab or a line break, whether
or not it is quoted (OWASP, "CSV Injection"). An apostrophe before it makes it text. Numbers stay numbers.
"""

from __future__ import annotations

import re

# Apostrophes before a formula count as part of it: a text with one of its own gets another, and comes back whole.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def safe_cell(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it; any other text, and a plain number, unchanged."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def original_cell(cell: str) -> str:
    """The text that `safe_cell` turned into this cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
