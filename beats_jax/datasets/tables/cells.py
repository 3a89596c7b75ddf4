"""Cells of tables: which column means what, texts as numbers, and texts that are safe to write."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.config.validation import nearest
from beats_jax.datasets.sources.columns import NO_TIME, number
from beats_jax.datasets.sources.text_table import Table
from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.spreadsheets import safe_cell

# Names without unit, case, "_" and "-"; the first that a table has counts
MEANINGS: dict[str, tuple[str, ...]] = {
    "file": (
        *(
            "begin path",
            "file",
            "filepath",
            "file path",
            "filename",
            "file name",
            "path",
            "begin file",
            "recording",
            "audio file",
        ),
        *("audio path", "input", "source file", "wav", "clip"),
    ),
    "start": ("start", "begin time", "start time", "begin", "onset", "window start", "t start"),
    "end": ("end", "end time", "stop", "stop time", "offset time", "window end", "t end", "offset"),
    "label": (
        *("label", "annotation", "common name", "species", "class", "name", "species name", "category", "scientific name"),
        *("species code", "prediction", "code", "tag"),
    ),
    "score": ("score", "confidence", "probability", "prob", "p", "logit", "logits"),
    "low_hz": ("low", "low freq", "low frequency", "min freq", "min frequency", "freq min", "fmin", "low f"),
    "high_hz": ("high", "high freq", "high frequency", "max freq", "max frequency", "freq max", "fmax", "high f"),
}
LONGEST_NAME, NUMBER_BYTES = 255, 6  # bytes of a name on most disks, and of a number such as _12 in it
WRITERS = 8  # tables that are written at once
SHOWN = 20  # columns that a message names
UNITS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "ms": 1e-3, "hz": 1.0, "khz": 1e3}
_UNIT = re.compile(r"(?: ?[(\[](?P<inside>\w+)[)\]]| (?P<behind>s|sec|secs|seconds|ms|hz|khz))$")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?")
TABLE_ENDINGS = re.compile(
    r"(\.table\.\d+)?(\.(selections?|selection\.table|birdnet|hawkears|audacity|raven|labels?|annotations?|results?)|_scores)*"
    r"\.(txt|csv|tsv)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ReadOptions:
    """How a table is read where its columns do not say it.

    Attributes:
      columns: column by meaning (file, start, end, label, score, low_hz, high_hz), where the usual names do not find it.
      recording: file of all rows, for tables of one recording; "" = the one that lies beside the table and has its name.
      label: label of all rows, for tables without a column of labels.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    recording: str = ""
    label: str = ""


def base_and_factor(name: str) -> tuple[str, float]:
    """A column's name without its unit, in small letters, and what its numbers are multiplied with: "Low Freq (kHz)" → 1000."""
    plain = re.sub(r"[\s_-]+", " ", name).strip().casefold()
    found = _UNIT.search(plain)
    unit = (found["inside"] or found["behind"]) if found else ""
    if found is None or unit not in UNITS:
        return plain, 1.0
    return plain[: found.start()], UNITS[unit]


def plain_names(table: Table) -> dict[str, list[str]]:
    """The columns by their names without unit, case, "_" and "-"."""
    plain: dict[str, list[str]] = {}
    for name in table:
        plain.setdefault(base_and_factor(name)[0], []).append(name)
    return plain


def find_columns(table: Table, options: ReadOptions) -> dict[str, str]:
    """meaning → column, for the meanings that a table has.

    Raises:
      UserError: a column that `options` names is not there, a meaning that is none, or several columns that may be meant.
    """
    found: dict[str, str] = {}
    plain = plain_names(table)
    for meaning, column in options.columns.items():
        if meaning not in MEANINGS:
            raise UserError(f"a column of events cannot mean {meaning!r}; {nearest(meaning, list(MEANINGS))}")
        if column not in table:
            raise UserError(f"{table.name} has no column {column!r} for {meaning}; columns: {list_columns(table)}")
        found[meaning] = column
    for meaning, usual in MEANINGS.items():
        named = next((plain[name] for name in usual if name in plain and (name != "offset" or "onset" in plain)), [])
        if meaning not in found and named:
            if len(named) > 1:
                shown = " and ".join(map(repr, named))
                raise UserError(f"{table.name}: {shown} may both be the {meaning}; rename or remove one of these columns")
            found[meaning] = named[0]
    for meaning, column in found.items():
        if column in table.repeated:
            raise UserError(f"{table.name} has several columns {column!r}, the {meaning}; rename or remove the others")
    return found


def events_of_columns(table: Table, options: ReadOptions, *, beside: Path | None = None) -> Events:
    """Events from columns of texts.

    Args:
      beside: the table, for the name of its recording where no column has it.
    Raises:
      UserError: a column of starts, ends or labels is missing, or a cell is not what its column holds; the line is named.
    """
    found = find_columns(table, options)
    rows = len(next(iter(table.values()), []))
    for meaning in ("start", "end"):
        require_meaning(meaning, found, table)
    if not options.label:
        require_meaning("label", found, table)
    named = "file" in found and not options.recording
    files = table[found["file"]] if named else [recording_of_all(table, options, beside)] * rows
    read = {
        meaning: numbers(table[name], name, table, needed=meaning in ("start", "end"))
        for meaning, name in found.items()
        if meaning not in ("file", "label")
    }
    labels = [options.label] * rows if options.label else table[found["label"]]
    return make_events(files, read.pop("start"), read.pop("end"), labels, table, read)


def make_events(
    files: Sequence[str],
    starts: np.ndarray,
    ends: np.ndarray,
    labels: Sequence[str],
    table: Table,
    others: Mapping[str, np.ndarray],
) -> Events:
    """Events from columns that were read; `others` may have score, low_hz and high_hz.

    Raises:
      UserError: a blank file, a time below 0, an end before its start, or a low frequency above the high one.
    """
    low, high = (others.get(name, np.full(len(files), np.nan)) for name in ("low_hz", "high_hz"))
    for row, file in enumerate(files):
        if not file:
            raise UserError(f"{table.at(row)}: the name of the recording is blank; fill it in")
        if not 0 <= starts[row] <= ends[row]:
            raise UserError(f"{table.at(row)}: an event cannot go from {starts[row]:g} to {ends[row]:g} s; correct the row")
        if low[row] > high[row]:
            raise UserError(
                f"{table.at(row)}: the low frequency {low[row]:g} Hz is above the high one, {high[row]:g} Hz; swap them"
            )
    return Events.from_columns(files, starts, ends, labels, scores=others.get("score"), low_hz=low, high_hz=high)


def list_columns(names: Iterable[str]) -> str:
    """The names for a message of one line."""
    shown = [" ".join(name.split())[:60] for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def require_meaning(meaning: str, found: Mapping[str, str], table: Table) -> None:
    """Raises `UserError` unless a column of this meaning was found."""
    if meaning not in found:
        usual = ", ".join(MEANINGS[meaning][:4])
        raise UserError(f"{table.name} has no column of the {meaning} (usual names: {usual}); columns: {list_columns(table)}")


def numbers(cells: Sequence[str], column: str, table: Table, *, needed: bool) -> np.ndarray:
    """float64 [N] of a column, in seconds or Hz by the unit in its name; NaN where a cell is blank.

    Raises:
      UserError: a cell is no number, or blank though `needed`; row and column are named.
    """
    factor = base_and_factor(column)[1]
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        cell = cell.strip()
        value = number(cell, decimal_comma=table.decimal_comma)
        blank = cell.lower() in NO_TIME
        if math.isnan(value) and (needed or not blank):
            what = "is blank" if blank else f"is {cell!r}" + (", a clock time" if _CLOCK.fullmatch(cell) else "")
            meant = "seconds from the start of the recording" if needed else "a number"
            raise UserError(f"{table.at(row)}: column {column!r} {what}; write {meant}, such as 12.5")
        values[row] = value * factor if factor != 1.0 else value
    return values


def recording_of_all(table: Table, options: ReadOptions, beside: Path | None) -> str:
    """The recording of all rows of a table without a column of recordings.

    Raises:
      UserError: what `recording_of` raises, or a column of another name holds recordings: rows of several must not become one's.
    """
    if options.recording:
        return options.recording
    for name, cells in table.items():
        held = [cell for cell in cells if cell]
        if held and all(os.path.splitext(cell)[1].lower() in AUDIO_SUFFIXES for cell in held):
            raise UserError(f"{table.name}: column {name!r} holds names of recordings, {held[0]!r} first; call it 'file'")
    return recording_of(beside)


def recording_of(table: Path | None) -> str:
    """The recording that a table of one recording belongs to: the file beside it that has its name, else the name alone.

    Raises:
      UserError: no table to ask, or several recordings have its name.
    """
    if table is None:
        raise UserError("the table has no column of recordings; name the recording")
    stem = TABLE_ENDINGS.sub("", table.name) or table.stem
    there = sorted(table.parent.glob(f"{glob.escape(stem)}.*"))
    audio = [path for path in there if path.stem == stem and path.suffix.lower() in AUDIO_SUFFIXES]
    if len(audio) > 1:
        raise UserError(f"{table} may belong to {' or '.join(path.name for path in audio)}; name the recording")
    return str(audio[0]) if audio else stem


def safe_text(text: str, what: str, *, refused: str) -> str:
    """A file name or label as a cell that a spreadsheet does not run.

    Raises:
      UserError: characters of `refused`, or blanks at an end of a file's name: it would not come back.
    """
    bad = [character for character in refused if character in text]
    if bad or (what == "file" and text != text.strip()):
        why = f"{bad[0]!r} in it" if bad else "blanks around it"
        raise UserError(f"the {what} {text!r} cannot be written to this table: {why}; rename it")
    return safe_cell(text)


def write_tables(texts: Mapping[Path, str]) -> list[Path]:
    """Writes tables by path and makes their folders; several at once, because each waits until the disk has it.

    Raises:
      UserError: one cannot be written.
    """
    for folder in {path.parent for path in texts}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write_text, texts, texts.values()))
    return list(texts)


def decimal(value: float) -> str:
    """A number without exponent, with as many digits as tell it apart, one behind the point at least (crowsetta); "" for NaN."""
    text = repr(float(value))
    if "e" in text or text == "inf":
        return np.format_float_positional(value, unique=True, trim="0")
    return "" if text == "nan" else text


def table_names(files: Sequence[str], ending: str) -> dict[str, Path]:
    """file → relative path of its own table: the folders that differ, the name, and the suffix where two names differ in it only.

    Names that differ in case only count as one, because the disks of Windows and macOS do not tell them apart.
    """
    parents = {os.path.dirname(os.path.abspath(file)) for file in files}
    base = os.path.commonpath(parents) if parents else ""
    relative = {file: os.path.relpath(os.path.abspath(file), base) for file in files}
    counts: dict[str, int] = {}
    for name in relative.values():
        stem = os.path.splitext(name)[0].casefold()
        counts[stem] = counts.get(stem, 0) + 1
    names: dict[str, Path] = {}
    taken: set[str] = set()
    for file, name in relative.items():
        stem = os.path.splitext(name)[0]
        folder, chosen = os.path.split(stem if counts[stem.casefold()] == 1 else name)
        most = LONGEST_NAME - len(ending) - NUMBER_BYTES
        chosen = os.path.join(folder, os.fsencode(chosen)[:most].decode("utf-8", "ignore"))
        unique, number_of = chosen, 2
        while unique.casefold() in taken:
            unique, number_of = f"{chosen}_{number_of}", number_of + 1
        taken.add(unique.casefold())
        names[file] = Path(f"{unique}{ending}")
    return names
