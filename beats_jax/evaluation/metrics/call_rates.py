"""Detections per hour of recording, by site, day and hour, and the calls per hour that they stand for.

The hours are those of the recorder's clock. Effort counts: an hour that was not recorded has no rate, and one that was recorded
without a detection has rate 0. Intervals at 95 % are percentiles over draws in which recordings are resampled within their cell
(calls within a recording are not independent) and the precision is drawn from its posterior under Jeffreys' prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.precision_table import PrecisionRow

PERIODS = ("day", "hour", "day_hour", "all")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class RecordingTime:
    """When and where a recording was made: site, start by the recorder's clock, and seconds."""

    site: str
    start: datetime
    seconds: float


@dataclass(frozen=True)
class CallRate:
    """A site, a period of it, a label.

    Attributes:
      period: "2024-05-31", "05" (hour of the day), "2024-05-31 05", or "".
      hours: recorded. recordings: that have a part in it. detections: events that start in it.
      calls_per_hour: detections an hour, times the precision where one is known; low, high: its interval, NaN with one recording.
    """

    site: str
    period: str
    label: str
    hours: float
    recordings: int
    detections: int
    calls_per_hour: float
    low: float
    high: float


def call_rates(
    events: Events,
    recordings: Mapping[str, RecordingTime],
    precision: Mapping[str, PrecisionRow] | None = None,
    period: Literal["day", "hour", "day_hour", "all"] = "hour",
    *,
    labels: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> list[CallRate]:
    """Rates of every label in every cell of site and period that has recorded time, by site, period and label.

    Args:
      recordings: file → when and where, of all that were searched, also of those without events.
      precision: label → reviewed detections above the threshold that was used; a label without is counted as it is.
      labels: those that were looked for, also without any event; None = those of the events.
    Raises:
      ValueError: an event of another recording. UserError: an unknown period.
    """
    require_one_of("period", period, PERIODS)
    effort, counts = _cells(events, recordings, period)
    generator = np.random.default_rng(seed)
    labels = sorted(set(events.labels.tolist()) if labels is None else set(labels))
    shares = {label: _precision_draws((precision or {}).get(label), draws, generator) for label in labels}
    rates = []
    for (site, name), parts in sorted(effort.items()):
        files = list(parts)
        hours = np.array([parts[file] for file in files])
        chosen = generator.integers(0, len(files), (draws, len(files)))
        drawn_hours = hours[chosen].sum(axis=1)
        for label in labels:
            calls = np.array([counts.get((site, name, file, label), 0) for file in files])
            share, drawn = shares[label]
            low, high = (0.0, 0.0) if len(files) > 1 else (np.nan, np.nan)
            if len(files) > 1 and calls.any():
                low, high = np.quantile(calls[chosen].sum(axis=1) / drawn_hours * drawn, [0.025, 0.975])
            rate = float(calls.sum() / hours.sum() * share)
            rates.append(
                CallRate(site, name, label, float(hours.sum()), len(files), int(calls.sum()), rate, float(low), float(high))
            )
    return rates


def _precision_draws(row: PrecisionRow | None, draws: int, generator: np.random.Generator) -> tuple[float, np.ndarray | float]:
    if row is None:
        return 1.0, 1.0
    return row.precision, generator.beta(row.right + 0.5, row.reviewed - row.right + 0.5, draws)


_Effort = dict[tuple[str, str], dict[str, float]]
_Counts = dict[tuple[str, str, str, str], int]


def _cells(events: Events, recordings: Mapping[str, RecordingTime], period: str) -> tuple[_Effort, _Counts]:
    """(site, period) → file → hours recorded; (site, period, file, label) → events that start there."""
    effort: _Effort = {}
    for file, made in recordings.items():
        for start, seconds in _pieces(made.start, made.seconds):
            parts = effort.setdefault((made.site, _name(start, period)), {})
            parts[file] = parts.get(file, 0.0) + seconds / 3600
    counts: _Counts = {}
    for file, start, label in zip(events.files.tolist(), events.starts.tolist(), events.labels.tolist(), strict=True):
        if file not in recordings:
            raise ValueError(f"an event is of {file!r}, whose time is not given")
        made = recordings[file]
        # An event at the very end of a recording belongs to its last hour, also where the next one begins there
        inside = min(start, max(0.0, made.seconds - 1e-6))
        cell = (made.site, _name(made.start + timedelta(seconds=inside), period), file, label)
        counts[cell] = counts.get(cell, 0) + 1
    return effort, counts


def _pieces(start: datetime, seconds: float) -> Sequence[tuple[datetime, float]]:
    """A recording cut at full hours: (start, seconds) of each piece that lasts."""
    pieces, end = [], start + timedelta(seconds=seconds)
    while start < end:
        stop = min(end, start.replace(minute=0, second=0, microsecond=0) + HOUR)
        pieces.append((start, (stop - start).total_seconds()))
        start = stop
    return pieces


def _name(clock: datetime, period: str) -> str:
    return clock.strftime({"day": "%Y-%m-%d", "hour": "%H", "day_hour": "%Y-%m-%d %H", "all": ""}[period])
