"""Finds the columns of labels, times, splits and groups that the settings do not name.

    labels   `label` or `category`, whichever is there
    start    start, start time, begin, begin time, onset
    end      end, end time, stop, stop time; offset beside onset
    split    split
    group    group

Case, spaces, `_`, `-` and a unit of seconds do not count: `Begin Time (s)`, `start_seconds` and `Start` are found. A setting that
names a column wins; the setting `none` leaves a column out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.sources.text_table import Table
from beats_jax.datasets.splits import SYNONYMS

NOT_USED = "none"
LABEL_COLUMNS = ("label", "category")
USUAL = {
    "start_column": ("start", "start time", "begin", "begin time", "onset"),
    "end_column": ("end", "end time", "stop", "stop time", "offset"),
    "split_column": ("split",),
    "group_column": ("group",),
}
NO_TIME = ("", "nan", "na", "n/a", "none", "null")
_SECONDS = re.compile(r" ?(\((s|sec|secs|seconds)\)|\[(s|sec|secs|seconds)\]| (s|sec|secs|seconds))$")


def find_label_column(names: Sequence[str], asked: str) -> str:
    """The column of labels: `asked`, or, where that is a missing one of `LABEL_COLUMNS`, the other."""
    if asked in names or asked not in LABEL_COLUMNS:
        return asked
    return next((name for name in LABEL_COLUMNS if name in names), asked)


def with_usual_columns(table: Table, data: DataConfig) -> tuple[DataConfig, list[str]]:
    """The settings with the names of the columns that are used ("" = none), and sentences on those that were found."""
    changes: dict[str, str] = {"label_column": find_label_column(list(table), data.label_column)}
    notes = _other_labels(table, changes["label_column"])
    found: list[str] = []
    taken = {data.audio_column, changes["label_column"], *(getattr(data, setting) for setting in USUAL)}
    free = [name for name in table if name not in taken]
    for setting in USUAL:
        asked = getattr(data, setting)
        if asked == NOT_USED or (setting == "split_column" and data.fold and not asked):  # a fold decides on its own
            changes[setting] = ""
        elif not asked:
            changes[setting], unfit = _usual_column(table, free, setting)
            if unfit:
                notes.append(f"{table.name}: {unfit}")
            if changes[setting]:
                found.append(f"{setting.removesuffix('_column')} = {changes[setting]!r}")
    if found:
        notes.append(
            f"{table.name}: columns found and used: {', '.join(found)} (data.start_column=none, and so on, leaves one out)"
        )
    return replace(data, **changes), notes


def _usual_column(table: Table, free: list[str], setting: str) -> tuple[str, str]:
    """(name of the column among `free` that usually means this, "") or ("", a sentence on a column whose cells do not fit)."""
    plain = {_plain(name): name for name in reversed(free)}
    names = [plain[name] for name in USUAL[setting] if name in plain and (name != "offset" or "onset" in plain)]
    for name in names:
        cells = [cell for cell in dict.fromkeys(table[name]) if cell.lower() not in NO_TIME]
        if setting == "group_column" or not cells:
            return (name if cells else ""), ""
        if setting == "split_column":
            what, fits = "splits", any(cell.lower() in SYNONYMS for cell in cells)
        else:
            what, fits = "seconds", any(not math.isnan(number(cell, decimal_comma=table.decimal_comma)) for cell in cells)
        if fits:
            return name, ""
        return "", f"column {name!r} is not used: it holds no {what}, for example {cells[0]!r}"
    return "", ""


def _plain(name: str) -> str:
    return _SECONDS.sub("", re.sub(r"[\s_-]+", " ", name).strip().casefold())


def number(cell: str, *, decimal_comma: bool) -> float:
    """A finite number from a text with a decimal point or comma; NaN for any other text.

    "1,234" may be a thousand, so it is a number only with `decimal_comma`.
    """
    whole, comma, part = cell.partition(",")
    if comma and (decimal_comma or len(part) != 3):
        cell = f"{whole}.{part}"
    try:
        value = float(cell) if "_" not in cell else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _other_labels(table: Table, used: str) -> list[str]:
    """A sentence where the table has both usual columns of labels and they differ."""
    if used not in LABEL_COLUMNS or not all(name in table for name in LABEL_COLUMNS):
        return []
    other = next(name for name in LABEL_COLUMNS if name != used)
    if table[used] == table[other]:
        return []
    chosen = f"labels come from column {used!r}; column {other!r} differs and is not used"
    return [f"{table.name}: {chosen} (data.label_column chooses)"]
