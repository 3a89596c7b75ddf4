"""Event and segment metrics against sed_eval 0.2.1 and mir_eval 0.8.2 (their counts stand here), scipy, and by hand."""

import random

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from beats_jax.datasets.tables.events import Events
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.events import (
    Counts,
    MatchRule,
    count_events,
    count_segments,
    match_events,
    precision_recall,
    total,
)


def draw_events(seed, count):
    """The generator with which the numbers of the other programs were made."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        start = round(draw.uniform(0, 30), 4)
        rows.append(
            (
                draw.choice(("f1", "f2")),
                start,
                round(start + draw.uniform(0.05, 2), 4),
                draw.choice("ab"),
                round(draw.random(), 3),
            )
        )
    files, starts, ends, labels, scores = zip(*rows, strict=True)
    return Events.from_columns(files, starts, ends, labels, scores=scores)


def events(*rows):
    files, starts, ends, labels, scores = zip(*rows, strict=True)
    return Events.from_columns(files, starts, ends, labels, scores=scores)


# seed → counts (true and false positives, false negatives) of a and b
SED_EVAL = {
    0: {
        "onset_offset": ((14, 42, 30), (10, 34, 36)),
        "onset": ((19, 37, 25), (18, 26, 28)),
        "segment": ((39, 17, 5), (38, 9, 13)),
    },
    5: {"onset_offset": ((9, 44, 31), (14, 33, 36)), "onset": ((17, 36, 23), (20, 27, 30)), "segment": ((33, 16, 9), (43, 9, 7))},
    11: {
        "onset_offset": ((15, 33, 32), (10, 42, 33)),
        "onset": ((23, 25, 24), (16, 36, 27)),
        "segment": ((39, 12, 9), (36, 18, 9)),
    },
}


@pytest.mark.parametrize("seed", SED_EVAL)
def test_as_sed_eval_and_mir_eval(seed):
    truth, found = draw_events(seed, 90), draw_events(1000 + seed, 100)
    for criterion in ("onset_offset", "onset"):
        counts = count_events(truth, found, MatchRule(criterion, tolerance_seconds=0.4))
        assert counts == {label: Counts(*values) for label, values in zip("ab", SED_EVAL[seed][criterion], strict=True)}
    segments = count_segments(truth, found, 1.0, {"f1": 33.0, "f2": 33.0})
    assert segments == {label: Counts(*values) for label, values in zip("ab", SED_EVAL[seed]["segment"], strict=True)}


def fits(truth, found, rule):
    """bool [D, T] by the words of the rule."""
    result = np.zeros((len(found), len(truth)), bool)
    for d in range(len(found)):
        for t in range(len(truth)):
            if (found.files[d], found.labels[d]) != (truth.files[t], truth.labels[t]):
                continue
            shared = min(found.ends[d], truth.ends[t]) - max(found.starts[d], truth.starts[t])
            both = max(found.ends[d], truth.ends[t]) - min(found.starts[d], truth.starts[t])
            onset = abs(found.starts[d] - truth.starts[t]) <= rule.tolerance_seconds
            offset = abs(found.ends[d] - truth.ends[t]) <= max(rule.tolerance_seconds, 0.5 * (truth.ends[t] - truth.starts[t]))
            result[d, t] = {"iou": max(shared, 0) / both >= rule.iou, "onset": onset, "onset_offset": onset and offset}[
                rule.criterion
            ]
    return result


@pytest.mark.parametrize("criterion", ["iou", "onset", "onset_offset"])
@pytest.mark.parametrize("seed", range(6))
def test_no_larger_matching_exists_at_any_threshold(seed, criterion):
    truth, found = draw_events(seed, 60), draw_events(500 + seed, 80)
    rule = MatchRule(criterion, iou=0.3, tolerance_seconds=0.5)
    allowed = fits(truth, found, rule)
    matched = match_events(truth, found, rule)
    rows = np.flatnonzero(matched >= 0)
    assert allowed[rows, matched[rows]].all()
    assert len(set(matched[rows].tolist())) == len(rows)
    curve = precision_recall(truth, found, rule)
    assert len(curve.thresholds) == len(set(found.scores.tolist()))
    for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
        kept = found.scores >= threshold
        best = int((maximum_bipartite_matching(csr_matrix(allowed[kept])) >= 0).sum())
        assert precision == best / kept.sum()
        assert recall == best / len(truth)
    assert total(count_events(truth, found, rule)).true_positives == best


def test_a_detection_gives_way_to_a_better_pairing():
    """The first detection fits both events and takes the nearer; the second fits that one only: both are matched."""
    truth = events(("f", 1.0, 2.0, "a", np.nan), ("f", 1.6, 2.6, "a", np.nan))
    found = events(("f", 1.2, 2.2, "a", 0.9), ("f", 0.8, 1.8, "a", 0.8))
    assert match_events(truth, found, MatchRule("onset", tolerance_seconds=0.4)).tolist() == [1, 0]


def test_by_hand():
    truth = events(("f", 0, 1, "a", np.nan), ("f", 2, 3, "a", np.nan), ("g", 0, 1, "a", np.nan), ("f", 0, 1, "b", np.nan))
    found = events(("f", 0, 2, "a", 0.9), ("f", 2.1, 3, "a", 0.8), ("f", 2, 3, "a", 0.7), ("f", 0, 1, "c", 0.6))
    rule = MatchRule("iou", iou=0.5)
    counts = count_events(truth, found, rule)
    assert counts == {"a": Counts(2, 1, 1), "b": Counts(0, 0, 1), "c": Counts(0, 1, 0)}
    assert total(counts) == Counts(2, 2, 2)
    assert (total(counts).precision, total(counts).recall, total(counts).f1) == (0.5, 0.5, 0.5)
    assert np.isnan([Counts(0, 0, 1).precision, Counts(0, 1, 0).recall, Counts(0, 0, 0).f1]).all()
    curve = precision_recall(truth, found, rule)
    np.testing.assert_allclose(curve.precision, [1, 1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(curve.recall, [1 / 4, 2 / 4, 2 / 4, 2 / 4])
    assert curve.average_precision == pytest.approx(0.5)


def test_equal_scores_share_a_point_and_order_does_not_matter():
    truth = draw_events(3, 40)
    found = draw_events(4, 60)
    tied = Events.from_columns(found.files, found.starts, found.ends, found.labels, scores=np.round(found.scores, 1))
    forward = precision_recall(truth, tied, MatchRule("onset", tolerance_seconds=0.5))
    backward = precision_recall(truth, tied.take(np.arange(len(tied))[::-1]), MatchRule("onset", tolerance_seconds=0.5))
    assert len(forward.thresholds) <= 11
    np.testing.assert_array_equal(forward.precision, backward.precision)
    np.testing.assert_array_equal(forward.recall, backward.recall)


def test_nothing_true_or_nothing_found():
    truth, none = draw_events(0, 5), Events.none()
    assert total(count_events(truth, none, MatchRule())) == Counts(0, 0, 5)
    assert total(count_events(none, truth, MatchRule())) == Counts(0, 5, 0)
    assert np.isnan(precision_recall(none, truth, MatchRule()).average_precision)
    assert precision_recall(truth, none, MatchRule()).average_precision == 0
    assert count_segments(none, none, 1.0, {"f1": 3.0}) == {}


def test_segments_at_the_edges():
    truth = events(("f", 1.0, 2.0, "a", np.nan))
    found = events(("f", 0.999, 1.5, "a", 0.5))
    assert count_segments(truth, found, 1.0, {"f": 2.5, "g": 9.0}) == {"a": Counts(1, 1, 0)}
    with pytest.raises(ValueError, match="length is not given"):
        count_segments(truth, found, 1.0, {"g": 9.0})
    with pytest.raises(UserError, match="segments"):
        count_segments(truth, found, 0.0, {"f": 9.0})


def test_a_chain_of_ten_thousand_overlapping_events_takes_seconds():
    starts = np.arange(10_000) * 0.1
    truth = Events.from_columns(["f"] * 10_000, starts, starts + 0.25, ["a"] * 10_000)
    found = Events.from_columns(["f"] * 10_000, starts + 0.05, starts + 0.3, ["a"] * 10_000, scores=np.linspace(0, 1, 10_000))
    assert total(count_events(truth, found, MatchRule(iou=0.1))) == Counts(10_000, 0, 0)


@pytest.mark.parametrize("settings", [{"iou": 0}, {"iou": 1.1}, {"criterion": "best"}, {"tolerance_seconds": -1}])
def test_rules_out_of_range(settings):
    with pytest.raises(UserError):
        MatchRule(**settings)


def test_a_curve_needs_scores():
    truth = events(("f", 0, 1, "a", np.nan))
    with pytest.raises(ValueError, match="score"):
        precision_recall(truth, truth, MatchRule())
