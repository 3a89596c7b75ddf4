"""All figures of detections against annotations, each with its 95 % interval: by events, by segments, and over all thresholds.

Intervals are percentiles of a bootstrap in which whole recordings are drawn with replacement (`intervals`): the calls of one
recording are not independent. Matching is done once: a detection is matched within its own recording, whatever others are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.events import MatchRule, PrecisionRecall, count_segments, match_in_order, precision_recall
from beats_jax.evaluation.metrics.intervals import percentile_interval, resample_weights
from beats_jax.evaluation.metrics.result import Estimate, make_estimate

RESAMPLES = 2_000
_BLOCK = 64  # resamples of one random stream
_ELEMENTS = 1 << 22  # of a table of detections by resamples at a time
_FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class LabelResult:
    """One label.

    Attributes:
      n: true events. detections, matched: numbers of detections.
      figures: precision, recall, f1, average_precision, and the first three over segments as `segment_precision` ...
    """

    name: str
    n: int
    detections: int
    matched: int
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class EventResult:
    """All figures of an evaluation of events.

    Attributes:
      recordings: names. hits: int64 [D], row of the true event that a detection is matched with, -1 = none.
      figures: as those of a label, over the events of all labels; f1_macro and mAP: means over labels with true events.
      labels: in the order of their names. curve: over all labels; None where a detection has no score.
    """

    recordings: tuple[str, ...]
    rule: MatchRule
    segment_seconds: float
    n: int
    detections: int
    hits: np.ndarray
    figures: dict[str, Estimate]
    labels: tuple[LabelResult, ...]
    curve: PrecisionRecall | None

    def flat(self) -> dict[str, float | int | None]:
        """The contents of metrics.json: `f1`, `f1_low`, `f1_high`, ..., n = true events; None = undefined."""
        numbers: dict[str, float | int | None] = {"n": self.n, "detections": self.detections, "recordings": len(self.recordings)}
        for name, estimate in self.figures.items():
            numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return numbers


def evaluate_events(
    truth: Events,
    detections: Events,
    recordings: Sequence[str],
    rule: MatchRule,
    segment_seconds: float = 1.0,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EventResult:
    """Measures detections; the same arguments give the same bits.

    Args:
      recordings: all that were annotated, also those without events; both tables use these names.
      resamples: of the intervals; 0 = none, and there are none with fewer than two recordings.
    Raises:
      ValueError: an event of another recording. UserError: segments without length.
    """
    names = sorted({*truth.labels.tolist(), *detections.labels.tolist()})
    place, column = ({name: number for number, name in enumerate(of)} for of in (recordings, names))
    hits, order, gained = match_in_order(truth, detections, rule)
    found = _counts(truth, detections, hits, place, column)
    in_time = _segment_counts(truth, detections, recordings, segment_seconds, column)
    scored = not np.isnan(detections.scores).any()
    ranking = _Ranking(truth, detections, order, gained, place, column) if scored else None
    points, draws = _figures(found, in_time, ranking, np.ones((len(recordings), 1))), None
    if len(recordings) > 1 and resamples:
        blocks = [
            resample_weights(seed, len(recordings), first, min(first + _BLOCK, resamples), np.float64)
            for first in range(0, resamples, _BLOCK)
        ]
        parts = [_figures(found, in_time, ranking, block) for block in blocks]
        draws = {name: np.concatenate([part[name] for part in parts]) for name in points}
    estimates = {
        name: [_estimate(values[0, k], None if draws is None else draws[name][:, k]) for k in range(values.shape[1])]
        for name, values in points.items()
    }
    totals, by_label = found.sum(axis=0), found.sum(axis=(0, 1))
    return EventResult(
        recordings=tuple(recordings),
        rule=rule,
        segment_seconds=segment_seconds,
        n=int(by_label[0] + by_label[2]),
        detections=len(detections),
        hits=hits,
        figures={name: values[-1] for name, values in estimates.items()},
        labels=tuple(
            LabelResult(
                name,
                int(totals[k, 0] + totals[k, 2]),
                int(totals[k, 0] + totals[k, 1]),
                int(totals[k, 0]),
                {figure: values[k] for figure, values in estimates.items() if len(values) > 1},
            )
            for k, name in enumerate(names)
        ),
        curve=precision_recall(truth, detections, rule) if scored else None,
    )


def _counts(truth: Events, detections: Events, hits: np.ndarray, place: dict[str, int], column: dict[str, int]) -> np.ndarray:
    """float64 [recordings, labels, 3]: true positives, false positives, false negatives."""
    counts = np.zeros((len(place), len(column), 3))
    for events, number in ((detections, 1), (truth, 2)):
        for file, label in zip(events.files.tolist(), events.labels.tolist(), strict=True):
            if file not in place:
                raise ValueError(f"an event is of {file!r}, which is none of the recordings")
            counts[place[file], column[label], number] += 1
    for row in np.flatnonzero(hits >= 0):
        counts[place[str(detections.files[row])], column[str(detections.labels[row])]] += (1, -1, -1)
    return counts


def _segment_counts(
    truth: Events, detections: Events, recordings: Sequence[str], seconds: float, column: dict[str, int]
) -> np.ndarray:
    """As `_counts`, of segments. How long a recording is does not matter: its silent end has nothing to count."""
    counts, parts = np.zeros((len(recordings), len(column), 3)), [(events, events.rows_of()) for events in (truth, detections)]
    for number, file in enumerate(recordings):
        real, given = (events.take(rows.get(file, [])) for events, rows in parts)
        end = max([*real.ends.tolist(), *given.ends.tolist(), 0.0])
        for label, found in count_segments(real, given, seconds, {file: end}).items():
            counts[number, column[label]] = found.true_positives, found.false_positives, found.false_negatives
    return counts


class _Ranking:
    """Detections by falling score, for average precision under any weights of the recordings."""

    def __init__(
        self,
        truth: Events,
        detections: Events,
        order: np.ndarray,
        gained: np.ndarray,
        place: dict[str, int],
        column: dict[str, int],
    ) -> None:
        self._scores, self._gained = detections.scores[order], gained.astype(np.float64)
        self._file = np.array([place[file] for file in detections.files[order].tolist()], np.int64)
        labels = np.array([column[label] for label in detections.labels[order].tolist()], np.int64)
        self._rows = [*(np.flatnonzero(labels == k) for k in range(len(column))), np.arange(len(order))]
        self._true = np.zeros((len(column) + 1, len(place)))
        for file, label in zip(truth.files.tolist(), truth.labels.tolist(), strict=True):
            self._true[[column[label], -1], place[file]] += 1

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """float64 [R, L + 1] of each label and of all together, for weights [G, R]; NaN without true events."""
        step = max(1, _ELEMENTS // max(1, len(self._file)))
        columns = [weights[:, first : first + step] for first in range(0, weights.shape[1], step)]
        return np.concatenate([self._average_precision(some) for some in columns])

    def _average_precision(self, weights: np.ndarray) -> np.ndarray:
        result = np.full((weights.shape[1], len(self._rows)), np.nan)
        for number, rows in enumerate(self._rows):
            scores, drawn = self._scores[rows], weights[self._file[rows]]
            last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(rows) else rows
            hits = np.cumsum(drawn * self._gained[rows, None], axis=0)[last]
            taken = np.cumsum(drawn, axis=0)[last]
            gains = np.diff(hits, axis=0, prepend=0.0) * _ratio(hits, taken, 0.0)
            result[:, number] = _ratio(gains.sum(axis=0), self._true[number] @ weights, np.nan)
        return result


def _figures(found: np.ndarray, in_time: np.ndarray, ranking: _Ranking | None, weights: np.ndarray) -> dict[str, np.ndarray]:
    """name → float64 [R, L + 1], that over all labels last; means over labels are [R, 1].

    Args:
      found, in_time: counts [G, L, 3]. weights: float64 [G, R], how often each recording was drawn.
    """
    figures: dict[str, np.ndarray] = {}
    for prefix, counts in (("", found), ("segment_", in_time)):
        sums = np.tensordot(weights.T, counts, axes=1)
        sums = np.concatenate([sums, sums.sum(axis=1, keepdims=True)], axis=1)
        right, wrong, missed = np.moveaxis(sums, -1, 0)
        values = _ratio(right, right + wrong), _ratio(right, right + missed), _ratio(2 * right, 2 * right + wrong + missed)
        figures |= {prefix + name: value for name, value in zip(_FIGURES, values, strict=True)}
    figures["f1_macro"] = _mean_where(figures["f1"], figures["recall"])
    if ranking is not None:
        figures["average_precision"] = ranking.average_precision(weights)
        figures["mAP"] = _mean_where(figures["average_precision"], figures["recall"])
    return figures


def _mean_where(values: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The mean over the labels that have true events (their recall is defined), [R, 1]; NaN where none has."""
    known = ~np.isnan(recall[:, :-1])
    return _ratio(np.where(known, values[:, :-1], 0.0).sum(axis=1), known.sum(axis=1))[:, None]


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, empty), where=whole > 0)


def _estimate(value: float, draws: np.ndarray | None) -> Estimate:
    return make_estimate(np.asarray(value), None if draws is None else percentile_interval(draws))
