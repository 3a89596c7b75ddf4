"""When and where sounds are: counts by hour and day, month and site, from the clocks of the recorders.

Times are the recorder's own wall time, never converted: dawn is dawn on it. Where its clock changes to summer time an hour is
missing, and in autumn one holds two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

MOST_DAYS = 92  # columns of a picture; more days are put together


@dataclass(frozen=True)
class Patterns:
    """Counts of N rows.

    Attributes:
      days: the first day of each column. days_a_column: 1, or more where the recordings span more than `MOST_DAYS`.
      by_hour: int64 [24, columns]. by_month: int64 [12], all years together. by_site: site → rows, most first.
      without_clock, without_site: rows that could not be counted.
    """

    days: tuple[date, ...]
    days_a_column: int
    by_hour: np.ndarray
    by_month: np.ndarray
    by_site: dict[str, int]
    without_clock: int
    without_site: int


def clocks(recorded_at: Sequence[str | None], starts: np.ndarray) -> list[datetime | None]:
    """Wall time at which each row begins.

    Args:
      recorded_at: when its recording began, ISO 8601; None or "" = unknown. starts: float64 [N], seconds into it.
    """
    known = {text: _clock(text) for text in set(recorded_at)}
    begun = [known[text] for text in recorded_at]
    return [
        None if clock is None else clock + timedelta(seconds=float(start)) for clock, start in zip(begun, starts, strict=True)
    ]


def temporal_patterns(times: Sequence[datetime | None], sites: Sequence[str | None], span: Sequence[date] = ()) -> Patterns:
    """Counts of rows by their wall times and sites.

    Args:
      span: first and last day of the table; () = those of the rows. Two groups with one span have the same columns.
    """
    timed = [time for time in times if time is not None]
    bounds = list(span) or [time.date() for time in timed]
    named = Counter(site for site in sites if site)
    months = np.bincount([time.month - 1 for time in timed], minlength=12) if timed else np.zeros(12, np.int64)
    unknown = len(times) - len(timed), len(sites) - named.total()
    if not bounds:
        return Patterns((), 1, np.zeros((24, 0), np.int64), months, dict(named.most_common()), *unknown)
    first, last = min(bounds), max(bounds)
    width = -(-((last - first).days + 1) // MOST_DAYS)
    days = tuple(first + timedelta(days=k) for k in range(0, (last - first).days + 1, width))
    by_hour = np.zeros((24, len(days)), np.int64)
    for time in timed:
        by_hour[time.hour, (time.date() - first).days // width] += 1
    return Patterns(days, width, by_hour, months, dict(named.most_common()), *unknown)


def _clock(text: str | None) -> datetime | None:
    if not isinstance(text, str) or not text:  # pandas has NaN for a missing text
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None
