"""Selection tables of Raven (Cornell Lab): text with tabs, without quotes.

Raven reads a table in two ways: opened with a sound it takes Begin Time and End Time, opened as a sound selection table it takes
Begin Path and File Offset (Rraven issue 3, and Cornell's answers to it). Both are written so that they agree. Raven itself writes
a row for every view of a selection; one of them is kept. Begin Time runs on over several recordings opened together, so File
Offset counts where it is there. crowsetta and opensoundscape refuse tables without frequencies, so an event without bounds has
those of its whole recording, where that can be opened.
"""

from __future__ import annotations

import ntpath
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from beats_jax.audio.decoding.decoders import open_decoder
from beats_jax.audio.recording import AudioError
from beats_jax.datasets.sources.text_table import Table, name_columns
from beats_jax.datasets.tables.cells import (
    ReadOptions,
    base_and_factor,
    decimal,
    find_columns,
    list_columns,
    make_events,
    numbers,
    plain_names,
    recording_of_all,
    require_meaning,
    safe_text,
    table_names,
    write_tables,
)
from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.files import read_text
from beats_jax.spreadsheets import original_cell

BEGIN, END, OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
STANDARD = (
    *(
        "Selection",
        "View",
        "Channel",
        BEGIN,
        END,
        OFFSET,
        "Low Freq (Hz)",
        "High Freq (Hz)",
        "Begin File",
        "Begin Path",
        "End File",
    ),
    *("End Path", "Begin Clock Time", "End Clock Time", "Begin Date Time", "Begin Date", "End Date", "Begin Hour", "File Offset"),
)
MEASURES = ("(s)", "(Hz)", "(dB)", "(dB FS)", "(samples)", "(u)", "(kHz)", "(bits)")  # end of the names of what Raven measures
ENDING, CUMULATIVE = ".selections.txt", "detections.selections.txt"
SAME_SELECTION = ("selection", "channel", "begin time", "end time", "file offset", "begin path", "begin file")
_REFUSED = "\t\r\n\0"
_FIXED = {"View": "Spectrogram 1", "Channel": "1"}


def read_raven(path: Path, options: ReadOptions) -> Events:
    """The selections of a table, each once.

    The label is in the column that `options` names, else in one of the usual names, else in the only column that is not Raven's.

    Raises:
      UserError: no UTF-8 text, no Begin Time or End Time, no column of labels or several that may be it, a cell that is no
        number, or several recordings without File Offset.
    """
    text = read_text(path, remedy="save the selection table as UTF-8 text (in an editor, or a spreadsheet)")
    lines = text.replace("\r\n", "\n").split("\n")
    names = [name.strip() for name in lines[0].split("\t")]
    rows = [(number, line.split("\t")) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    for number, cells in rows:
        if len(cells) > len(names):
            raise UserError(
                f"{path} line {number} has {len(cells)} cells, the header {len(names)}; save the selection table again"
            )
    texts = [[original_cell(cells[place]) if place < len(cells) else "" for _, cells in rows] for place in range(len(names))]
    columns, repeated = name_columns(names, texts)
    table = Table(columns, str(path), [number for number, _ in rows], decimal_comma=True, repeated=repeated)
    return raven_events(table, options, path)


def is_raven(table: Table) -> bool:
    """Whether the columns are Raven's, whatever separates them."""
    plain = plain_names(table)
    return "begin time" in plain and not plain.keys().isdisjoint({"selection", "view", "file offset"})


def raven_events(table: Table, options: ReadOptions, path: Path) -> Events:
    """As `read_raven`, of a table that has been read."""
    table = _one_view(table)
    found = find_columns(table, options)
    for meaning in ("start", "end"):
        require_meaning(meaning, found, table)
    rows = len(table[found["start"]])
    if not rows:
        return Events.none()  # Raven writes no column for labels before there is one
    labels = [options.label] * rows if options.label else table[_label_column(table, found)]
    files, starts, ends = _places(table, found, options, path)
    others = {
        meaning: numbers(table[found[meaning]], found[meaning], table, needed=False)
        for meaning in ("score", "low_hz", "high_hz")
        if meaning in found
    }
    return make_events(files, starts, ends, labels, table, others)


def _one_view(table: Table) -> Table:
    """The rows without repetitions of a selection in other views; that of a spectrogram stays, because it has frequencies."""
    plain = {base: names[0] for base, names in plain_names(table).items()}
    if "selection" not in plain or "view" not in plain:
        return table
    views, same = table[plain["view"]], [table[plain[base]] for base in SAME_SELECTION if base in plain]
    kept: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(zip(*same, strict=True)):
        if key not in kept or views[kept[key]].casefold().startswith("waveform"):
            kept[key] = row
    return table.take(list(kept.values()))


def _label_column(table: Table, found: Mapping[str, str]) -> str:
    if "label" in found:
        return found["label"]
    standard = {base_and_factor(name)[0] for name in STANDARD}
    own = [name for name in table if base_and_factor(name)[0] not in standard and not name.endswith(MEASURES)]
    if len(own) == 1:
        return own[0]
    what = f"columns that may be labels: {list_columns(own)}" if own else "there is no column besides Raven's own"
    raise UserError(f"{table.name} has no column Annotation or Species; name the column of labels ({what})")


def _places(
    table: Table, found: Mapping[str, str], options: ReadOptions, path: Path
) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """(files, starts, ends) within each recording."""
    starts = numbers(table[found["start"]], found["start"], table, needed=True)
    ends = numbers(table[found["end"]], found["end"], table, needed=True)
    plain = {base: names[0] for base, names in plain_names(table).items()}
    paths, names = (table[plain[base]] if base in plain else [""] * len(starts) for base in ("begin path", "begin file"))
    ravens_own = not options.recording and not plain.keys().isdisjoint({"begin path", "begin file"})
    if ravens_own:
        files: Sequence[str] = [full or name for full, name in zip(paths, names, strict=True)]
    elif "file" in found and not options.recording:
        files = table[found["file"]]
    else:
        files = [recording_of_all(table, options, path)] * len(starts)
    if "file offset" in plain:
        offsets = numbers(table[plain["file offset"]], plain["file offset"], table, needed=True)
        # A microsecond is less than a sample; sums of decimals would differ in their last digit
        moved = np.round(offsets + (ends - starts), 6)
        return files, offsets, np.where(offsets == starts, ends, np.maximum(moved, offsets))
    if ravens_own and len(set(files)) > 1:
        raise UserError(
            f"{table.name} is of {len(set(files))} recordings and has no column {OFFSET!r}: Begin Time runs on over them all; "
            "add that measurement in Raven and save the table again"
        )
    return files, starts, ends


def write_raven(events: Events, folder: Path, recordings: Mapping[str, float]) -> list[Path]:
    """A table for each recording in `folder/raven`, and one for all, in which Begin Time runs on.

    To open the one for all with its sounds, open the same recordings, in the same order, as one sound in Raven.

    Args:
      recordings: file → its length in seconds, of all recordings in their order, also of those without events.
    Returns:
      the files written, that for all last.
    Raises:
      UserError: an event of another recording, or a text with a tab or line break.
    """
    rows_of = events.rows_of()
    if stranger := next((file for file in rows_of if file not in recordings), None):
        raise UserError(f"an event is of {stranger!r}, which is none of the {len(recordings)} recordings")
    bands = {file: _whole_band(file) for file in rows_of}
    header = _header(events, bounded=any(bands.values()))
    texts: dict[Path, str] = {}
    begun, everything = 0.0, ["\t".join(header)]
    for file, name in table_names(list(recordings), ENDING).items():
        rows = [_row(events, row, bands[file]) for row in rows_of.get(file, ())]
        whole = file if ntpath.isabs(file) else os.path.abspath(file)  # of any system
        names = {"Begin File": ntpath.basename(file), "Begin Path": whole} if rows else {}
        common = {column: safe_text(text, "file", refused=_REFUSED) for column, text in names.items()}
        lines = []
        for number, row in enumerate(rows, start=1):
            cells = {**_FIXED, **common, **row, "Selection": str(number)}
            lines.append("\t".join([cells[column] for column in header]))
            run_on = {column: decimal(begun + float(row[column])) for column in (BEGIN, END)}
            cells |= {**run_on, "Selection": str(len(everything))}
            everything.append("\t".join([cells[column] for column in header]))
        begun += recordings[file]
        texts[folder / "raven" / name] = "\n".join(["\t".join(header), *lines, ""])
    return write_tables(texts | {folder / CUMULATIVE: "\n".join([*everything, ""])})


def _whole_band(file: str) -> tuple[float, float] | None:
    """0 Hz and half the rate of a recording; None where it cannot be opened."""
    try:
        with open_decoder(file) as decoder:
            return 0.0, decoder.info.sample_rate / 2
    except AudioError:
        return None


def _header(events: Events, *, bounded: bool) -> tuple[str, ...]:
    bounded = bounded or bool(np.isfinite([events.low_hz, events.high_hz]).any())
    bounds = ("Low Freq (Hz)", "High Freq (Hz)") if bounded else ()
    scored = ("Score",) if np.isfinite(events.scores).any() else ()
    return ("Selection", "View", "Channel", BEGIN, END, *bounds, "Begin File", "Begin Path", OFFSET, "Annotation", *scored)


def _row(events: Events, row: int, band: tuple[float, float] | None) -> dict[str, str]:
    """The cells of an event by column, but for its number and its recording."""
    low, high = band or (np.nan, np.nan)
    start = decimal(events.starts[row])
    return {
        BEGIN: start,
        END: decimal(events.ends[row]),
        "Low Freq (Hz)": decimal(events.low_hz[row]) or decimal(low),
        "High Freq (Hz)": decimal(events.high_hz[row]) or decimal(high),
        OFFSET: start,
        "Annotation": safe_text(str(events.labels[row]), "label", refused=_REFUSED),
        "Score": decimal(events.scores[row]),
    }
