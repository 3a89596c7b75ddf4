"""Every kind of table by name. To add one: write its reader and writer, and a line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from beats_jax.config.validation import nearest
from beats_jax.datasets.tables.audacity import read_audacity, read_hawkears, write_audacity
from beats_jax.datasets.tables.cells import ReadOptions
from beats_jax.datasets.tables.delimited import (
    BIRDNET,
    HAWKEARS,
    OURS,
    read_delimited,
    read_kaleidoscope,
    read_parquet,
    write_delimited,
    write_kaleidoscope,
    write_parquet,
)
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.raven import read_raven, write_raven
from beats_jax.errors import UserError

__all__ = ["TABLES", "Events", "ReadOptions", "TableKind", "kind_of", "read_events", "write_events"]

HEAD_BYTES = 1 << 16
_HAWKEARS_LABEL = re.compile(r"\t[^\t]+;(0(\.\d+)?|1(\.0+)?)\s*$")  # the score behind the label
Reader = Callable[[Path, ReadOptions], Events]
Writer = Callable[[Events, Path, Mapping[str, float]], list[Path]]


@dataclass(frozen=True)
class TableKind:
    """A reader (path, options) → Events, and a writer (events, folder, file → seconds) → files written."""

    read: Reader
    write: Writer


def _read_hawkears(path: Path, options: ReadOptions) -> Events:
    """HawkEars writes label tracks (.txt) or a CSV."""
    return (read_hawkears if path.suffix.lower() == ".txt" else read_delimited)(path, options)


TABLES: dict[str, TableKind] = {
    "csv": TableKind(read_delimited, partial(write_delimited, name="detections.csv", columns=OURS)),
    "raven": TableKind(read_raven, write_raven),
    "audacity": TableKind(read_audacity, write_audacity),
    "kaleidoscope": TableKind(read_kaleidoscope, write_kaleidoscope),
    "birdnet": TableKind(read_delimited, partial(write_delimited, name="BirdNET_CombinedTable.csv", columns=BIRDNET)),
    "hawkears": TableKind(_read_hawkears, partial(write_delimited, name="HawkEars.csv", columns=HAWKEARS)),
    "parquet": TableKind(read_parquet, write_parquet),
}


def table_kind(name: str) -> TableKind:
    """The kind of this name. Raises `UserError` naming the nearest for an unknown one."""
    if name not in TABLES:
        raise UserError(f"there is no kind of table {name!r}; {nearest(name, list(TABLES))}")
    return TABLES[name]


def kind_of(path: Path) -> str:
    """What a table is, by its ending and its first line.

    Raises:
      UserError: it is absent, cannot be read, or is empty.
    """
    if path.suffix.lower() == ".parquet":
        return "parquet"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except OSError as error:
        raise UserError(f"table {path} cannot be read: {error.strerror or error}; check the path") from error
    first = next((line for line in head.split("\n") if line.strip()), "").rstrip("\r")
    if not first and path.suffix.lower() == ".txt":
        return "audacity"  # a track without labels
    if "\t" in first and re.search(r"(^|\t)(Selection|Begin Time \(s\))(\t|$)", first, re.IGNORECASE):
        return "raven"
    if re.match(r"-?\d+([.,]\d+)?\t-?\d+([.,]\d+)?(\t|$)", first):
        return "hawkears" if path.suffix.lower() == ".txt" and _HAWKEARS_LABEL.search(first) else "audacity"
    if re.search(r'(^|[,;\t])"?IN FILE"?([,;\t]|$)', first):
        return "kaleidoscope"
    return "csv"


def read_events(path: Path | str, kind: str = "", options: ReadOptions | None = None) -> Events:
    """The events of a table.

    Args:
      kind: a name of `TABLES`; "" = by the file's content.
    Raises:
      UserError: it cannot be read; file, line and column are named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"table {path} {'is no file' if path.exists() else 'does not exist'}; check the path")
    return table_kind(kind or kind_of(path)).read(path, options or ReadOptions())


def write_events(events: Events, folder: Path | str, kinds: Sequence[str], recordings: Mapping[str, float]) -> list[Path]:
    """Writes events as tables of several kinds into a folder; files are whole or absent, old ones are replaced.

    Args:
      recordings: file → its length in seconds, of all that were searched, in their order: those without events get tables too.
    Returns:
      the files written.
    Raises:
      UserError: an unknown kind, a text that a kind cannot hold, or no room to write.
    """
    chosen = [table_kind(kind) for kind in kinds]  # all names are checked before anything is written
    return [path for kind in chosen for path in kind.write(events, Path(folder), recordings)]
