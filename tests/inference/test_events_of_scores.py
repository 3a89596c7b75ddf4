"""Scores of windows made into events, against a plain loop over windows and by hand."""

import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.inference.events import EventRule, Stretch, find_events, join_stretches, smooth_scores


def found(scores, rule, threshold=0.5, window=1.0, hop=1.0):
    starts = np.arange(len(scores)) * hop
    events = find_events("f.wav", starts, starts + window, np.array(scores, float)[:, None], ["a"], np.array([threshold]), rule)
    return list(zip(events.starts.tolist(), events.ends.tolist(), events.scores.tolist(), strict=True))


def test_by_hand():
    scores = [0.1, 0.6, 0.9, 0.3, 0.2, 0.7, 0.1]
    assert found(scores, EventRule()) == [(1, 3, 0.9), (5, 6, 0.7)]
    assert found(scores, EventRule(low_ratio=0.5)) == [(1, 4, 0.9), (5, 6, 0.7)]
    assert found(scores, EventRule(low_ratio=0.5, gap_seconds=1)) == [(1, 6, 0.9)]
    assert found(scores, EventRule(least_seconds=2)) == [(1, 3, 0.9)]
    assert found(scores, EventRule(), threshold=0.8) == [(2, 3, 0.9)]
    assert found(scores, EventRule(low_ratio=0.2), threshold=0.95) == []
    assert found([], EventRule()) == []
    assert found([0.9], EventRule(extent="hop")) == [(0, 1, 0.9)]


def test_windows_that_overlap():
    scores = [0.1, 0.9, 0.1, 0.1]
    assert found(scores, EventRule(), window=2.0, hop=0.5) == [(0.5, 2.5, 0.9)]
    assert found(scores, EventRule(extent="hop"), window=2.0, hop=0.5) == [(1.25, 1.75, 0.9)]
    assert found([0.9, 0.9, 0.1, 0.9], EventRule(extent="hop"), window=2.0, hop=0.5) == [(0, 1.75, 0.9), (2.25, 3.5, 0.9)]


def test_smoothing_against_a_loop():
    draw = np.random.default_rng(0)
    scores = draw.random(40)
    scores[[7, 8, 30]] = np.nan
    for name, rule in (("mean", np.nanmean), ("median", np.nanmedian), ("max", np.nanmax)):
        smoothed = smooth_scores(scores, EventRule(smooth=5, smoothing=name))
        expected = [np.nan if np.isnan(scores[i]) else rule(scores[max(0, i - 2) : i + 3]) for i in range(40)]
        np.testing.assert_allclose(smoothed, expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_against_a_loop_over_windows(seed):
    """One pass with a state, as one would write it first."""
    draw = np.random.default_rng(seed)
    scores = draw.random((60, 3))
    scores[draw.random((60, 3)) < 0.05] = np.nan
    starts = np.sort(draw.permutation(80)[:60]) * 1.0  # some windows are missing: nothing goes over the hole
    threshold, rule = np.array([0.7, 0.5, np.nan]), EventRule(low_ratio=0.6, gap_seconds=1.0, least_seconds=2.0)
    expected = []
    for label in range(2):
        runs, run = [], None
        for window in range(60):
            value = scores[window, label]
            broken = run is not None and starts[window] > run[1]
            if run is not None and (broken or not value >= 0.6 * threshold[label]):
                runs.append(run)
                run = None
            if value >= 0.6 * threshold[label]:
                run = (
                    [starts[window], starts[window] + 1, value]
                    if run is None
                    else [run[0], starts[window] + 1, max(run[2], value)]
                )
        runs += [run] if run is not None else []
        merged = []
        for one in (run for run in runs if run[2] >= threshold[label]):
            if merged and one[0] - merged[-1][1] <= 1.0:
                merged[-1] = [merged[-1][0], one[1], max(merged[-1][2], one[2])]
            else:
                merged.append(one)
        expected += [(f"c{label}", *one) for one in merged if one[1] - one[0] >= 2.0]
    order = draw.permutation(60)  # windows may come in any order
    events = find_events("f", starts[order], starts[order] + 1, scores[order], ["c0", "c1", "c2"], threshold, rule)
    got = zip(events.labels.tolist(), events.starts.tolist(), events.ends.tolist(), events.scores.tolist(), strict=True)
    assert list(got) == expected


def test_logits_below_zero_have_one_threshold():
    """Half of a negative threshold would lie above it."""
    assert found([-3.0, -1.5, -0.8, -1.5, -3.0], EventRule(low_ratio=0.5), threshold=-1.0) == [(2, 3, -0.8)]


def test_joining_takes_the_larger_score_and_the_longer_end():
    assert join_stretches([Stretch(5, 6, 0.2), Stretch(0, 9, 0.5), Stretch(9.5, 10, 0.9)], 0.5) == [Stretch(0, 10, 0.9)]
    assert join_stretches([Stretch(0, 1, 0.2), Stretch(1.5, 2, 0.5)], 0.4) == [Stretch(0, 1, 0.2), Stretch(1.5, 2, 0.5)]
    assert join_stretches([], 1.0) == []


@pytest.mark.parametrize(
    "settings", [{"smooth": 2}, {"smooth": 0}, {"low_ratio": 1.5}, {"gap_seconds": -1}, {"smoothing": "sum"}, {"extent": "x"}]
)
def test_rules_out_of_range(settings):
    with pytest.raises(UserError):
        EventRule(**settings)


def test_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        find_events("f", np.zeros(2), np.ones(2), np.zeros((2, 3)), ["a"], np.array([0.5]), EventRule())
