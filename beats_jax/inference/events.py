"""From scores of windows to events: smoothing, two thresholds, joining over short gaps, and a least length.

All of it is arithmetic on the windows of one recording; no model is needed. An event goes on while the score stays above the
lower threshold and counts if it reaches the upper one somewhere (hysteresis): a call that fades in the middle is one event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from beats_jax.config.rules import require, require_one_of
from beats_jax.datasets.tables.events import Events

SMOOTHINGS = ("mean", "median", "max")
EXTENTS = ("window", "hop", "peak")
PEAK_OVERLAP = 0.25  # of the length of an event: calls close to one another are found, and the flanks of one are not
TOUCH = 1e-6  # seconds: windows whose edges differ by the rounding of a sample still touch


@dataclass(frozen=True)
class EventRule:
    """How scores become events.

    Attributes:
      smooth: windows over which scores are smoothed, odd; 1 = not. smoothing: mean, median or max of them.
      low_ratio: the lower threshold as a share of the upper one, in [0, 1]; 1 = a single threshold.
      gap_seconds: events of a label that are no further apart are one.
      least_seconds: shorter events are dropped, after joining.
      extent: what of a window is part of an event. window: all of it; hop: the middle, as long as the hop, so that windows that
        overlap do not make an event longer than the sound (at the ends of a recording the rest of the window too); peak: the
        windows that score best, none overlapping another by more than `PEAK_OVERLAP`, each cut to its label's length around its
        middle.

    Raises:
      UserError: a value that is none of these.
    """

    smooth: int = 1
    smoothing: Literal["mean", "median", "max"] = "mean"
    low_ratio: float = 1.0
    gap_seconds: float = 0.0
    least_seconds: float = 0.0
    extent: Literal["window", "hop", "peak"] = "window"

    def __post_init__(self) -> None:
        require(self.smooth >= 1 and self.smooth % 2 == 1, f"smooth is {self.smooth} windows; it must be odd: 1, 3, 5 ...")
        require_one_of("smoothing", self.smoothing, SMOOTHINGS)
        require_one_of("extent", self.extent, EXTENTS)
        require(0 <= self.low_ratio <= 1, f"low_ratio is {self.low_ratio}; it must be in [0, 1]")
        require(self.extent != "peak" or self.low_ratio == 1, "low_ratio joins windows; with the extent peak leave it at 1")
        for name in ("gap_seconds", "least_seconds"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"{name} is {value}; it must not be negative")


class Stretch(NamedTuple):
    """An event of one label: where it is in seconds, and the largest smoothed score in it."""

    start: float
    end: float
    score: float


def find_events(
    file: str,
    starts: np.ndarray,
    ends: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray,
    rule: EventRule,
    seconds: np.ndarray | None = None,
) -> Events:
    """The events of a recording.

    Args:
      starts, ends: float [W] seconds of its windows, in any order.
      scores: float [W, C]; NaN = the window could not be read: no event goes over it.
      labels: C names. thresholds: float [C], the upper one of each label; NaN = the label is left out.
      seconds: float [C], lengths of events with the extent peak; None or infinite = their windows'.
    Returns:
      rows by label and time; the score of an event is the largest smoothed score in it.
    Raises:
      ValueError: arrays that do not fit.
    """
    if not scores.shape == (len(starts), len(labels)) or len(ends) != len(starts) or len(thresholds) != len(labels):
        raise ValueError(
            f"scores {scores.shape} do not fit {len(starts)} windows, {len(labels)} labels, {len(thresholds)} thresholds"
        )
    order = np.argsort(starts, kind="stable")
    starts, ends, scores = np.asarray(starts, np.float64)[order], np.asarray(ends, np.float64)[order], scores[order]
    cuts = np.flatnonzero(starts[1:] > ends[:-1] + TOUCH) + 1  # windows that do not touch are far apart: nothing goes over that
    pieces = np.split(np.arange(len(starts)), cuts) if len(starts) else []
    found: list[tuple[str, Stretch]] = []
    # No smoothing lifts a score above the largest one: labels that stay below their threshold are most, and are done with here
    reached = (np.nan_to_num(scores, nan=-np.inf) >= thresholds).any(axis=0) if len(starts) else np.zeros(len(labels), bool)
    for label in np.flatnonzero(reached).tolist():
        name, threshold = labels[label], float(thresholds[label])
        raw = []
        for piece in pieces:
            smoothed = smooth_scores(scores[piece, label], rule)
            if rule.extent == "peak":
                length = np.inf if seconds is None else float(seconds[label])
                raw += _peaks(starts[piece], ends[piece], smoothed, threshold, length)
            else:
                raw += _stretches(*_extents(starts[piece], ends[piece], rule.extent), smoothed, threshold, rule)
        # Peaks are single calls: they may overlap, and are joined only where that is asked for
        joined = sorted(raw) if rule.extent == "peak" and not rule.gap_seconds else join_stretches(raw, rule.gap_seconds)
        found += [(name, stretch) for stretch in joined if stretch.end - stretch.start >= rule.least_seconds - TOUCH]
    stretches = [stretch for _, stretch in found]
    return Events.from_columns(
        [file] * len(found),
        [stretch.start for stretch in stretches],
        [stretch.end for stretch in stretches],
        [name for name, _ in found],
        scores=[stretch.score for stretch in stretches],
    )


def smooth_scores(scores: np.ndarray, rule: EventRule) -> np.ndarray:
    """Each score [W] with those of its neighbours, as far as there are any at the ends; NaN stays NaN and counts for no other."""
    if rule.smooth == 1 or len(scores) == 0:
        return np.asarray(scores, np.float64)
    half = rule.smooth // 2
    padded = np.pad(np.asarray(scores, np.float64), half, constant_values=np.nan)
    real = ~np.isnan(scores)
    if rule.smoothing == "mean":
        known = ~np.isnan(padded)
        filled = np.where(known, padded, 0.0)
        places = [slice(shift, shift + len(scores)) for shift in range(rule.smooth)]
        count = np.sum([known[place] for place in places], axis=0)
        total = np.sum([filled[place] for place in places], axis=0)
        return np.where(real, total / np.maximum(count, 1), np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, rule.smooth)
    result = np.full(len(scores), np.nan)
    result[real] = (np.nanmedian if rule.smoothing == "median" else np.nanmax)(around[real], axis=1)
    return result


def _extents(starts: np.ndarray, ends: np.ndarray, extent: str) -> tuple[np.ndarray, np.ndarray]:
    """What each window stands for; with hop, neighbours meet halfway between their middles."""
    if extent == "window" or len(starts) < 2:
        return starts, ends
    middles = (starts + ends) / 2
    between = (middles[:-1] + middles[1:]) / 2
    return np.concatenate([starts[:1], between]), np.concatenate([between, ends[-1:]])


def _stretches(starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, threshold: float, rule: EventRule) -> list[Stretch]:
    """Runs of windows above the lower threshold that reach the upper one."""
    # A share of a negative score (a logit) would be above it
    low = threshold * rule.low_ratio if threshold > 0 else threshold
    above = np.concatenate([[False], np.nan_to_num(scores, nan=-np.inf) >= low, [False]])
    changes = np.flatnonzero(above[1:] != above[:-1])
    runs = zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True)
    peaks = [(first, behind, float(scores[first:behind].max())) for first, behind in runs]
    return [
        Stretch(float(starts[first]), float(ends[first:behind].max()), peak) for first, behind, peak in peaks if peak >= threshold
    ]  # fmt: skip


def _peaks(starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, threshold: float, seconds: float) -> list[Stretch]:
    """The best windows, taken by falling score (of equals the first), each cut to `seconds` around its middle."""
    middles, halves = (starts + ends) / 2, np.minimum(ends - starts, seconds) / 2
    above = np.flatnonzero(np.nan_to_num(scores, nan=-np.inf) >= threshold)
    free = np.ones(len(starts), bool)
    found = []
    for place in above[np.argsort(-scores[above], kind="stable")].tolist():
        if free[place]:
            middle, half = float(middles[place]), float(halves[place])
            found.append(Stretch(middle - half, middle + half, float(scores[place])))
            near = 2 * half * (1 - PEAK_OVERLAP) - TOUCH
            free[np.searchsorted(middles, middle - near, "right") : np.searchsorted(middles, middle + near, "left")] = False
    return found


def join_stretches(stretches: Sequence[Stretch], gap_seconds: float) -> list[Stretch]:
    """Events in order of time; those that overlap, or are at most `gap_seconds` apart, are one with the larger score."""
    joined: list[Stretch] = []
    for stretch in sorted(stretches):
        last = joined[-1] if joined else None
        if last is not None and stretch.start - last.end <= gap_seconds + TOUCH:
            joined[-1] = Stretch(last.start, max(last.end, stretch.end), max(last.score, stretch.score))
        else:
            joined.append(stretch)
    return joined
