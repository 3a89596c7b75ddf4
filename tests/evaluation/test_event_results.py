"""Figures of detections with intervals: the point figures are those of `events`, the intervals those of a plain bootstrap."""

import numpy as np
import pytest
from test_event_metrics import draw_events

from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.event_results import evaluate_events
from beats_jax.evaluation.metrics.events import MatchRule, count_events, count_segments, precision_recall, total
from beats_jax.evaluation.metrics.intervals import resample_weights

RULES = (MatchRule(), MatchRule(iou=0.2), MatchRule("onset_offset", tolerance_seconds=0.5))


def in_files(events, count):
    """The same events, each in one of `count` recordings by its start."""
    files = [f"r{int(start * 7) % count}" for start in events.starts.tolist()]
    return Events.from_columns(files, events.starts, events.ends, events.labels, scores=events.scores)


def copied(events, times):
    """The events of a resample: a recording drawn twice is two recordings."""
    parts = []
    for number, file in enumerate(times):
        own = events.take(events.files == file)
        parts.append(Events.from_columns([f"{file}#{number}"] * len(own), own.starts, own.ends, own.labels, scores=own.scores))
    return Events.concatenate(parts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.criterion} {rule.iou}")
def test_points_are_those_of_counts_and_curve(rule):
    truth, found = in_files(draw_events(0, 80), 4), in_files(draw_events(1, 90), 4)
    result = evaluate_events(truth, found, [f"r{k}" for k in range(4)], rule, 0.7, resamples=0)
    counts, curve = count_events(truth, found, rule), precision_recall(truth, found, rule)
    segments = count_segments(truth, found, 0.7, dict.fromkeys(set(truth.files.tolist()), 40.0))
    everything = {"": total(counts), "segment_": total(segments)}
    for prefix, expected in everything.items():
        for name in ("precision", "recall", "f1"):
            assert result.figures[prefix + name].value == pytest.approx(getattr(expected, name))
    assert result.figures["average_precision"].value == pytest.approx(curve.average_precision)
    assert result.figures["f1_macro"].value == pytest.approx(np.mean([counts[label].f1 for label in "ab"]))
    for label in result.labels:
        own = [events.take(events.labels == label.name) for events in (truth, found)]
        assert label.figures["average_precision"].value == pytest.approx(precision_recall(own[0], own[1], rule).average_precision)
        assert (label.n, label.detections, label.matched) == (len(own[0]), len(own[1]), counts[label.name].true_positives)
        assert label.figures["segment_f1"].value == pytest.approx(segments[label.name].f1)
    assert result.figures["f1"].low is None


def test_intervals_are_those_of_recordings_drawn_whole():
    """Each resample is measured as tables of copies of the drawn recordings."""
    truth, found = in_files(draw_events(2, 60), 5), in_files(draw_events(3, 70), 5)
    names, rule, number = [f"r{k}" for k in range(5)], MatchRule(iou=0.3), 64
    result = evaluate_events(truth, found, names, rule, resamples=number, seed=7)
    drawn = resample_weights(7, 5, 0, number)
    values = {"f1": [], "average_precision": []}
    for column in drawn.T:
        times = [name for name, count in zip(names, column, strict=True) for _ in range(count)]
        real, given = copied(truth, times), copied(found, times)
        values["f1"].append(total(count_events(real, given, rule)).f1)
        values["average_precision"].append(precision_recall(real, given, rule).average_precision)
    for name, expected in values.items():
        estimate = result.figures[name]
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])))


def test_nothing_found_nothing_true_and_no_scores():
    truth = Events.from_columns(["a", "b"], [0, 1], [1, 2], ["x", "y"])
    missed = evaluate_events(truth, Events.none(), ["a", "b", "quiet"], MatchRule())
    assert (missed.n, missed.detections, len(missed.recordings)) == (2, 0, 3)
    assert (missed.figures["recall"].value, missed.figures["precision"].value, missed.figures["f1"].value) == (0.0, None, 0.0)
    assert missed.figures["average_precision"].value == 0.0
    false = evaluate_events(Events.none(), Events.from_columns(["a"], [0], [1], ["x"]), ["a"], MatchRule())
    assert (false.figures["precision"].value, false.figures["recall"].value) == (0.0, None)
    assert false.curve is None
    assert "average_precision" not in false.figures
    with pytest.raises(ValueError, match="none of the recordings"):
        evaluate_events(truth, Events.none(), ["a"], MatchRule())
