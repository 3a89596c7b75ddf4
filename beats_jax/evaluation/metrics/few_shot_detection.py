"""Few-shot detection as DCASE task 5 measures it: the first events of a class are known, the rest of the recording is searched.

Rules of the evaluator of the challenge (c4dm/dcase-few-shot-bioacoustic, evaluation_metrics): events are matched one to one, as
many as possible, where they share more than 0.3 of the time of both. Detections that are left are matched with undecided (UNK)
events and then count as nothing. Counts are added up in each subset; the figure of the whole is the harmonic mean over subsets,
each at least 1e-5. It leaves detections before the end of the last known event to the entrants; here they do not count, nor
do those of a known event that end a little after it. A
recording without detections misses its searched events, while the evaluator counts the known ones too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.datasets.tables.dcase import any_undecided, is_undecided
from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.events import Counts, MatchRule, match_events
from beats_jax.evaluation.metrics.intervals import percentile_interval
from beats_jax.evaluation.metrics.result import Estimate, make_estimate

IOU = 0.3
LEAST = 1e-5  # of precision, recall and F1, so that a harmonic mean exists
FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True, eq=False)
class FewShotTask:
    """One class in one recording: the known events, and those to be found after `begin` (seconds)."""

    file: str
    label: str
    support: Events
    query: Events
    undecided: Events
    begin: float


def few_shot_tasks(events: Events, n_shot: int = 5) -> tuple[list[FewShotTask], list[tuple[str, str, int]]]:
    """The tasks of annotated recordings, and (file, label, events) of those with too few events to search for any."""
    tasks: list[FewShotTask] = []
    short: list[tuple[str, str, int]] = []
    for file, rows in events.rows_of().items():
        own = events.take(rows)
        own = own.take(np.argsort(own.starts, kind="stable"))
        for label in dict.fromkeys(own.labels[~any_undecided(own.labels)].tolist()):
            places = np.flatnonzero(own.labels == label)
            known = places[:n_shot]
            begin = float(own.ends[known[-1]])
            searched = [place for place in places[n_shot:] if own.ends[place] > begin]
            if len(known) < n_shot or not searched:
                short.append((file, label, len(places)))
                continue
            undecided = is_undecided(own.labels, label) & (own.ends > begin)
            tasks.append(FewShotTask(file, label, own.take(known), own.take(searched), own.take(undecided), begin))
    return tasks, short


def drop_short(detections: Events, support: Events, share: float = 1.0) -> Events:
    """Without detections that are shorter than a share of the shortest known event; with 1 as the challenge's baseline does."""
    least = share * float((support.ends - support.starts).min())
    return detections.take(detections.ends - detections.starts >= least - 1e-9)


def count_task(task: FewShotTask, detections: Events, iou: float = IOU) -> Counts:
    """Counts of the detections (of the task's file and label) that end after its beginning.

    A detection that is left and matches an undecided event, or a known one whose end it passes, counts as nothing.
    """
    rule = MatchRule(iou=iou + 1e-6)  # more than, not at least
    found = detections.take(detections.ends > task.begin)
    hits = match_events(task.query, found, rule) >= 0
    rest = found.take(~hits)
    excused = match_events(Events.concatenate([_as(task.undecided, task.label), task.support]), rest, rule) >= 0
    right = int(hits.sum())
    return Counts(right, len(rest) - int(excused.sum()), len(task.query) - right)


def _as(events: Events, label: str) -> Events:
    return Events.from_columns(events.files.tolist(), events.starts, events.ends, [label] * len(events))


def figures(counts: Sequence[Counts]) -> dict[str, float]:
    """Precision, recall and F1: harmonic means over subsets, of the counts of each."""
    values = {name: [max(LEAST, np.nan_to_num(getattr(one, name))) for one in counts] for name in FIGURES}
    return {name: float(len(own) / np.sum(1 / np.array(own))) for name, own in values.items()}


def measure(
    counts: Mapping[tuple[str, str], Counts], subsets: Mapping[str, str], *, resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, Estimate], dict[str, Counts]]:
    """The figures of the whole with 95 % intervals, and the counts of each subset.

    Args:
      counts: of each (file, label). subsets: file -> its subset. resamples: of the recordings within each subset; a subset of
        one recording always has it.
    """
    of_file = {file: sum((one for (name, _), one in counts.items() if name == file), Counts(0, 0, 0)) for file, _ in counts}
    members: dict[str, list[Counts]] = {}
    for file, own in of_file.items():
        members.setdefault(subsets[file], []).append(own)
    whole = {name: sum(parts, Counts(0, 0, 0)) for name, parts in members.items()}
    point = figures(list(whole.values()))
    if all(len(parts) < 2 for parts in members.values()):
        return {name: Estimate(value) for name, value in point.items()}, whole
    rng = np.random.default_rng(seed)
    draws = [
        figures([sum((parts[k] for k in rng.integers(0, len(parts), len(parts))), Counts(0, 0, 0)) for parts in members.values()])
        for _ in range(resamples)
    ]
    intervals = {name: percentile_interval(np.array([draw[name] for draw in draws])) for name in FIGURES}
    return {name: make_estimate(np.asarray(value), intervals[name]) for name, value in point.items()}, whole
