"""How well events are found: matched one to one with the true ones, or compared in segments of time.

Event-based and segment-based figures are those of Mesaros, Heittola and Virtanen (2016), as sed_eval has them, with the largest
matching instead of the first that fits. Detections are taken by falling score, and each is matched if the matching of those
before can be rearranged for it (augmenting paths, Kuhn 1955): the number of matches is then the largest possible at every
threshold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beats_jax.config.rules import require, require_one_of
from beats_jax.datasets.tables.events import Events

CRITERIA = ("iou", "onset", "onset_offset")


@dataclass(frozen=True)
class MatchRule:
    """When a detection may be a true event of its recording and label.

    Attributes:
      criterion: iou: the shared time is at least `iou` of the time of both together; onset: the starts differ by at most
        `tolerance_seconds`; onset_offset: the ends too, by at most the larger of `tolerance_seconds` and `offset_share` of the
        true event's length.

    Raises:
      UserError: a value out of range.
    """

    criterion: Literal["iou", "onset", "onset_offset"] = "iou"
    iou: float = 0.5
    tolerance_seconds: float = 0.2
    offset_share: float = 0.5

    def __post_init__(self) -> None:
        require_one_of("criterion", self.criterion, CRITERIA)
        require(0 < self.iou <= 1, f"iou is {self.iou}; it must be in (0, 1]")
        for name in ("tolerance_seconds", "offset_share"):
            require(0 <= getattr(self, name) < float("inf"), f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives, and what follows from them; NaN where nothing could be counted."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float:
        """Share of the detections that are right."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the true events that are found."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return _share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class PrecisionRecall:
    """One point for each score that a detection has, from the largest down: thresholds, precision, recall, float64 [T].

    `average_precision` is the sum of precision over the steps of recall, as scikit-learn has it; NaN without true events.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    average_precision: float


def match_events(truth: Events, detections: Events, rule: MatchRule) -> np.ndarray:
    """int64 [D]: the row of `truth` that each detection is matched with, -1 = none.

    Labels and files must be equal. Detections with larger scores are matched first (those without a score last, in their order);
    no other matching has more pairs.
    """
    return match_in_order(truth, detections, rule)[0]


def count_events(truth: Events, detections: Events, rule: MatchRule) -> dict[str, Counts]:
    """Counts by label, of all labels that occur; their sum is that of all (`total`)."""
    matched = match_events(truth, detections, rule)
    hits = detections.labels[matched >= 0]
    return {
        label: Counts(
            found := int((hits == label).sum()),
            int((detections.labels == label).sum()) - found,
            int((truth.labels == label).sum()) - found,
        )
        for label in sorted({*truth.labels.tolist(), *detections.labels.tolist()})
    }


def total(counts: Mapping[str, Counts]) -> Counts:
    """Counts of all labels together."""
    return sum(counts.values(), Counts(0, 0, 0))


def precision_recall(truth: Events, detections: Events, rule: MatchRule) -> PrecisionRecall:
    """Precision and recall of the detections above every threshold; each is exact, with its own largest matching.

    Raises:
      ValueError: a detection without a score.
    """
    if np.isnan(detections.scores).any():
        raise ValueError("every detection needs a score for a curve over thresholds")
    order, gained = match_in_order(truth, detections, rule)[1:]
    scores = detections.scores[order]
    hits = np.cumsum(gained)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    precision = hits[last] / (last + 1)
    recall = hits[last] / len(truth) if len(truth) else np.full(len(last), np.nan)
    average = float((np.diff(recall, prepend=0.0) * precision).sum()) if len(truth) else float("nan")
    return PrecisionRecall(scores[last], precision, recall, average)


def match_in_order(truth: Events, detections: Events, rule: MatchRule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth row of each detection, order by falling score, whether each of that order made the matching larger)."""
    partners = _partners(truth, detections, rule)
    order = np.argsort(-np.nan_to_num(detections.scores, nan=-np.inf), kind="stable")
    of_detection = np.full(len(detections), -1)
    of_truth = np.full(len(truth), -1)
    gained = np.array([_augment(int(row), partners, of_detection, of_truth) for row in order], bool)
    return of_detection, order, gained


def _augment(row: int, partners: Sequence[np.ndarray], of_detection: np.ndarray, of_truth: np.ndarray) -> bool:
    """Matches a detection, moving others to other partners where that is needed and possible. True if it could be done."""
    came_from: dict[int, int] = {}  # true event → detection from which it was reached
    waiting = deque([row])
    while waiting:
        detection = waiting.popleft()
        for event in partners[detection].tolist():
            if event in came_from:
                continue
            came_from[event] = detection
            holder = int(of_truth[event])
            if holder >= 0:
                waiting.append(holder)
                continue
            while True:  # back along the path: each detection takes the event through which the next one was reached
                taker = came_from[event]
                previous = int(of_detection[taker])
                of_detection[taker], of_truth[event] = event, taker
                if taker == row:
                    return True
                event = previous
    return False


def _partners(truth: Events, detections: Events, rule: MatchRule) -> list[np.ndarray]:
    """For each detection the rows of `truth` that it may be, best first."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(truth.files.tolist(), truth.labels.tolist(), strict=True)):
        groups.setdefault(key, []).append(row)
    by_group: dict[tuple[str, str], tuple[np.ndarray, float]] = {}
    for key, rows in groups.items():
        in_time = np.array(sorted(rows, key=lambda row: truth.starts[row]), np.int64)
        by_group[key] = (in_time, float((truth.ends[in_time] - truth.starts[in_time]).max()))
    keys = zip(detections.files.tolist(), detections.labels.tolist(), strict=True)
    nothing = np.zeros(0, np.int64)
    return [
        _fitting(truth, *by_group[key], float(detections.starts[row]), float(detections.ends[row]), rule)
        if key in by_group
        else nothing
        for row, key in enumerate(keys)
    ]


def _fitting(truth: Events, rows: np.ndarray, longest: float, start: float, end: float, rule: MatchRule) -> np.ndarray:
    """Those of `rows` (by time, none longer than `longest`) that a detection may be."""
    starts = truth.starts[rows]
    reach = (
        (start - longest, end) if rule.criterion == "iou" else (start - rule.tolerance_seconds, start + rule.tolerance_seconds)
    )
    slack = 1e-9  # seconds: 0.7 - 0.5 is more than 0.2 in binary
    near = rows[np.searchsorted(starts, reach[0] - slack, "left") : np.searchsorted(starts, reach[1] + slack, "right")]
    begins, stops = truth.starts[near], truth.ends[near]
    if rule.criterion == "iou":
        shared = np.minimum(stops, end) - np.maximum(begins, start)
        both = np.maximum(stops, end) - np.minimum(begins, start)
        quality = np.where(
            both > 0, np.maximum(shared, 0) / np.where(both > 0, both, 1), 1.0
        )  # two points at one time are the same
        fits = quality >= rule.iou - slack
    else:
        quality = -np.abs(begins - start)
        fits = -quality <= rule.tolerance_seconds + slack
        if rule.criterion == "onset_offset":
            allowed = np.maximum(rule.tolerance_seconds, rule.offset_share * (stops - begins))
            fits &= np.abs(stops - end) <= allowed + slack
    return near[fits][np.argsort(-quality[fits], kind="stable")]


def count_segments(truth: Events, detections: Events, seconds: float, lengths: Mapping[str, float]) -> dict[str, Counts]:
    """Counts by label over segments of all recordings: a segment is active if an event reaches into it.

    Args:
      seconds: of a segment; the last one of a recording may be shorter. lengths: file → seconds, of all recordings.
    Raises:
      ValueError: an event of another recording. UserError: segments without length.
    """
    require(0 < seconds < float("inf"), f"segments of {seconds} s; they must have a length")
    labels = sorted({*truth.labels.tolist(), *detections.labels.tolist()})
    counts = dict.fromkeys(labels, Counts(0, 0, 0))
    parts = [(events, events.rows_of()) for events in (truth, detections)]
    if stranger := next((file for _, rows in parts for file in rows if file not in lengths), None):
        raise ValueError(f"an event is of {stranger!r}, whose length is not given")
    for file, length in lengths.items():
        real, found = (_active(events, rows.get(file, np.zeros(0, np.int64)), labels, seconds, length) for events, rows in parts)
        for place, label in enumerate(labels):
            pair = real[place], found[place]
            hits = int((pair[0] & pair[1]).sum())
            counts[label] += Counts(hits, int(pair[1].sum()) - hits, int(pair[0].sum()) - hits)
    return counts


def _active(events: Events, rows: np.ndarray, labels: Sequence[str], seconds: float, length: float) -> np.ndarray:
    """bool [labels, segments]."""
    active = np.zeros((len(labels), max(1, int(np.ceil(length / seconds - 1e-9)))), bool)
    place = {label: number for number, label in enumerate(labels)}
    for row in rows:
        first = int(np.floor(events.starts[row] / seconds + 1e-9))
        behind = int(np.ceil(events.ends[row] / seconds - 1e-9))
        active[place[str(events.labels[row])], first:behind] = True
    return active
