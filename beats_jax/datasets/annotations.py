"""Events made into windows to train on: labelled where an event is in them, background where none is near, on any grid.

A window has the label of an event if both share at least `overlap` of the shorter of the two: a short call must be in it by
that share, a long one must fill it by that share. A window that touches an event and shares less is neither labelled nor
background; it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beats_jax.config.rules import require
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.tables.events import Events

EPSILON = 1e-9  # seconds


@dataclass(frozen=True)
class WindowRule:
    """How recordings with events are cut.

    Attributes:
      window_seconds, hop_seconds: the grid; hop 0 = the window. The last window ends where the recording ends.
      overlap: least share of the shorter of window and event that both must share, in (0, 1].
      background: label of windows without an event; "" = such windows have no label (with `multi_label`) or are left out.
      background_share: at most this many background windows for each labelled one, spread evenly; 0 = all.
      multi_label: keep windows with several labels; without it they are left out.
      block_seconds: windows of such a stretch of a recording form a group, which stays in one split, and windows over its edge
        are left out; 0 = a recording is a group.

    Raises:
      UserError: a value out of range.
    """

    window_seconds: float
    hop_seconds: float = 0.0
    overlap: float = 0.5
    background: str = "background"
    background_share: float = 0.0
    multi_label: bool = False
    block_seconds: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.window_seconds < float("inf"), f"the window is {self.window_seconds} s long; it must be positive")
        require(0 <= self.hop_seconds < float("inf"), f"the hop is {self.hop_seconds} s; it must be positive, or 0 (the window)")
        require(0 < self.overlap <= 1, f"overlap is {self.overlap}; it must be in (0, 1]")
        require(
            0 <= self.background_share < float("inf"), f"background_share is {self.background_share}; it must be 0 (all) or more"
        )
        blocks = self.block_seconds == 0 or self.window_seconds <= self.block_seconds < float("inf")
        require(blocks, f"block_seconds is {self.block_seconds}; it must be 0, or at least a window ({self.window_seconds} s)")


@dataclass(frozen=True)
class LabelledWindows:
    """W windows: files, starts and ends (seconds), labels (a tuple each; () = background), and what was left out, by why."""

    files: list[str]
    starts: np.ndarray
    ends: np.ndarray
    labels: list[tuple[str, ...]]
    left_out: dict[str, int]


def label_windows(events: Events, lengths: Mapping[str, float], rule: WindowRule) -> LabelledWindows:
    """The windows of all recordings, in order.

    Args:
      lengths: file → seconds, of all recordings that were annotated: those without events give background only.
    Raises:
      ValueError: an event of another recording.
    """
    rows_of = events.rows_of()
    if stranger := next((file for file in rows_of if file not in lengths), None):
        raise ValueError(f"an event is of {stranger!r}, whose length is not given")
    files: list[str] = []
    starts: list[np.ndarray] = []
    labels: list[tuple[str, ...]] = []
    left_out = {"with too little of an event": 0, "with several labels": 0, "over the edge of a block": 0}
    for file, length in lengths.items():
        own = events.take(rows_of.get(file, np.zeros(0, np.int64)))
        begins = _grid(length, rule)
        inside = _within_blocks(begins, length, rule)
        left_out["over the edge of a block"] += int((~inside).sum())
        found, touched = _labels(own, begins, np.minimum(begins + rule.window_seconds, length), rule)
        kept = []
        for place in np.flatnonzero(inside).tolist():
            if touched[place] and not found[place]:
                left_out["with too little of an event"] += 1
            elif len(found[place]) > 1 and not rule.multi_label:
                left_out["with several labels"] += 1
            else:
                kept.append(place)
        files += [file] * len(kept)
        starts.append(begins[kept])
        labels += [found[place] for place in kept]
    begins = np.concatenate(starts) if starts else np.zeros(0)
    ends = np.array([min(begin + rule.window_seconds, lengths[file]) for begin, file in zip(begins.tolist(), files, strict=True)])
    windows = LabelledWindows(files, begins, ends, labels, left_out)
    return _thin_background(windows, rule)


def _grid(length: float, rule: WindowRule) -> np.ndarray:
    """float64 [W] starts."""
    hop = rule.hop_seconds or rule.window_seconds
    starts = np.arange(0, max(0.0, length - rule.window_seconds) + EPSILON, hop)
    reached = starts[-1] + rule.window_seconds
    return np.append(starts, length - rule.window_seconds) if length > reached + EPSILON else starts


def _within_blocks(starts: np.ndarray, length: float, rule: WindowRule) -> np.ndarray:
    """bool [W]: windows that lie in one block."""
    if not rule.block_seconds:
        return np.ones(len(starts), bool)
    ends = np.minimum(starts + rule.window_seconds, length)
    return np.floor((starts + EPSILON) / rule.block_seconds) == np.floor((ends - EPSILON) / rule.block_seconds)


def _labels(events: Events, starts: np.ndarray, ends: np.ndarray, rule: WindowRule) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The labels of each window, sorted, and bool [W]: whether an event reaches into it."""
    labels: list[set[str]] = [set() for _ in starts]
    touched = np.zeros(len(starts), bool)
    for start, end, label in zip(events.starts.tolist(), events.ends.tolist(), events.labels.tolist(), strict=True):
        shared = np.minimum(ends, end) - np.maximum(starts, start)
        point = end - start <= EPSILON
        near = (shared >= 0) & (starts <= start) & (start < ends) if point else shared > EPSILON
        touched |= near
        needed = rule.overlap * np.minimum(end - start, ends - starts)
        for place in np.flatnonzero(near & (shared >= needed - EPSILON)).tolist():
            labels[place].add(label)
    return [tuple(sorted(found)) for found in labels], touched


def _thin_background(windows: LabelledWindows, rule: WindowRule) -> LabelledWindows:
    """At most `background_share` background windows a labelled one, spread evenly; none where they need a name and have none."""
    background = np.array([not found for found in windows.labels], bool)
    places = np.flatnonzero(background)
    most = len(places)
    if not rule.background and not rule.multi_label:
        most = 0
    elif rule.background_share:
        most = int(rule.background_share * (~background).sum())
    if len(places) <= most:
        return windows
    chosen = np.linspace(0, len(places) - 1, most).round().astype(np.int64)
    keep = np.union1d(np.flatnonzero(~background), places[chosen])
    left_out = {**windows.left_out, "of background beyond the share": len(places) - len(chosen)}
    files, labels = [windows.files[place] for place in keep], [windows.labels[place] for place in keep]
    return LabelledWindows(files, windows.starts[keep], windows.ends[keep], labels, left_out)


def annotated_manifest(events: Events, lengths: Mapping[str, float], rule: WindowRule) -> Manifest:
    """A row for each window; groups are recordings, or blocks of them; notes count the windows that are left out.

    Raises:
      ValueError: an event of another recording.
    """
    windows = label_windows(events, lengths, rule)
    named = [list(found) or ([rule.background] if rule.background else []) for found in windows.labels]
    blocks = np.floor((windows.starts + EPSILON) / rule.block_seconds).astype(np.int64) if rule.block_seconds else None
    groups = None if blocks is None else [f"{file}#{block}" for file, block in zip(windows.files, blocks.tolist(), strict=True)]
    notes = [f"{count} windows {why} are left out" for why, count in windows.left_out.items() if count]
    return Manifest.from_columns(windows.files, named, starts=windows.starts, ends=windows.ends, groups=groups, notes=notes)
