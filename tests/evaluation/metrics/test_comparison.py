"""Paired comparison: closed forms, scipy's binomial, error rates by simulation, and what cannot be compared."""

import numpy as np
import pytest
from scipy import stats

from beats_jax.evaluation.metrics.comparison import compare_predictions, holm, mcnemar, require_same_examples
from beats_jax.evaluation.metrics.intervals import resample_weights


def as_probabilities(labels, right):
    """Two-class probabilities that are right where `right` says."""
    return np.eye(2)[np.where(right, labels, 1 - labels)] * 0.8 + 0.1


def two_models(num_examples, only_first, only_second, seed=0):
    """Labels and predictions: both right but in `only_second` and `only_first` examples."""
    labels = np.random.default_rng(seed).integers(0, 2, num_examples)
    places = np.random.default_rng(seed + 1).permutation(num_examples)
    one, two = np.ones((2, num_examples), bool)
    one[places[:only_second]], two[places[only_second : only_second + only_first]] = False, False
    return labels, as_probabilities(labels, one), as_probabilities(labels, two)


def test_interval_of_a_paired_difference_is_the_normal_one():
    labels, one, two = two_models(400, only_first=20, only_second=50)
    found = compare_predictions(labels, one, two, None, multi_label=False).metrics["accuracy"]
    # per example the difference is +1 (50), -1 (20) or 0
    error = 1.96 * np.sqrt((70 / 400 - (30 / 400) ** 2) / 400)
    assert (found.first, found.second, found.difference) == pytest.approx((350 / 400, 380 / 400, 30 / 400))
    assert (found.low, found.high) == pytest.approx((30 / 400 - error, 30 / 400 + error), abs=0.004)
    z = 30 / np.sqrt(70 - 30**2 / 400)
    assert found.p == pytest.approx(2 * stats.norm.sf(z), abs=0.002)


def test_equals_a_loop_over_resampled_rows():
    rng = np.random.default_rng(2)
    labels, one, two = rng.integers(0, 4, 50), rng.dirichlet(np.ones(4), 50), rng.dirichlet(np.ones(4), 50)
    groups = np.repeat(np.arange(10), 5)
    found = compare_predictions(labels, one, two, groups, multi_label=False, resamples=90, seed=3)
    right = [(values.argmax(1) == labels).astype(float) for values in (one, two)]
    weights = resample_weights(3, 10, 0, 90)[groups]
    changes = (right[1] - right[0]) @ weights / weights.sum(axis=0)
    accuracy = found.metrics["accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx(tuple(np.percentile(changes, (2.5, 97.5))), abs=1e-12)
    assert accuracy.p == pytest.approx(min(1, 2 * (1 + min((changes <= 1e-12).sum(), (changes >= -1e-12).sum())) / 91))
    assert found.num_groups == 10
    assert found.n == 50


def test_swapping_the_two_turns_the_signs_and_keeps_p():
    labels, one, two = two_models(60, 3, 9)
    forth, back = (
        compare_predictions(labels, *pair, None, multi_label=False, resamples=500) for pair in ((one, two), (two, one))
    )
    for name, found in forth.metrics.items():
        other = back.metrics[name]
        assert (found.low, found.high, found.p) == pytest.approx((-other.high, -other.low, other.p), abs=1e-12)
    assert (forth.mcnemar.only_first, forth.mcnemar.only_second) == (3, 9) == (back.mcnemar.only_second, back.mcnemar.only_first)


def test_equal_predictions_do_not_differ():
    labels, one, _ = two_models(60, 3, 9)
    found = compare_predictions(labels, one, one, None, multi_label=False, resamples=200)
    for difference in found.metrics.values():
        assert (difference.difference, difference.low, difference.high, difference.p) == (0, 0, 0, 1)
    assert found.mcnemar.p == 1


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (3, 9), (20, 50), (6, 6)])
def test_mcnemar_is_the_sign_test(counts):
    first = np.array([True] * counts[0] + [False] * counts[1] + [True] * 7)
    second = np.array([False] * counts[0] + [True] * counts[1] + [True] * 7)
    found = mcnemar(first, second)
    smaller, total = min(counts), sum(counts)
    expected = 1.0 if not total else min(1.0, 2 * stats.binom.cdf(smaller, total, 0.5))
    assert (found.only_first, found.only_second) == counts
    assert found.p == pytest.approx(expected, abs=1e-12)


def test_holm_by_hand():
    # sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1; never below the one before
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1, np.nan, 1])
    assert holm([]).shape == (0,)
    assert holm([0.03]).tolist() == [0.03]


def test_false_alarms_are_as_rare_as_p_says():
    """Two equally good models: p below 0.05 in about 5 % of simulated sets, also when recordings hold four equal clips."""
    rng, alarms = np.random.default_rng(5), {"examples": 0, "recordings": 0}
    for seed in range(120):
        labels = np.repeat(rng.integers(0, 2, 100), 4)
        one, two = (as_probabilities(labels, np.repeat(rng.random(100) < 0.75, 4)) for _ in range(2))
        for kind, groups in (("examples", None), ("recordings", np.repeat(np.arange(100), 4))):
            found = compare_predictions(labels, one, two, groups, multi_label=False, resamples=256, seed=seed)
            alarms[kind] += found.metrics["accuracy"].p < 0.05
    assert 0.02 <= alarms["recordings"] / 120 <= 0.09
    assert alarms["examples"] / 120 > 0.2  # what drawing clips instead of recordings would claim


def test_multi_label_and_undefined_metrics():
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 2, (40, 3))
    marks[:, 2] = 0
    found = compare_predictions(marks, rng.random((40, 3)), rng.random((40, 3)), None, multi_label=True, resamples=100)
    assert found.mcnemar is None
    undefined = found.classes["ap"][2]
    assert (undefined.first, undefined.difference, undefined.low, undefined.p) == (None, None, None, None)
    assert found.metrics["mAP"].p is not None


def test_nothing_to_resample():
    labels, one, two = two_models(10, 1, 2)
    alone = compare_predictions(labels, one, two, ["a"] * 10, multi_label=False).metrics["accuracy"]
    assert (alone.difference, alone.low, alone.p) == (pytest.approx(0.1), None, None)
    empty = compare_predictions(labels[:0], one[:0], two[:0], None, multi_label=False)
    assert empty.metrics["accuracy"].difference is None
    assert empty.mcnemar.p == 1


def test_refuses_other_examples():
    labels, one, two = two_models(10, 1, 2)
    with pytest.raises(ValueError, match="same examples and classes"):
        compare_predictions(labels, one, two[:9], None, multi_label=False)
    table = {"files": ["a.wav", "b.wav"], "labels": ["a", "b"]}
    require_same_examples(table, {"files": ["a.wav", "b.wav"], "labels": ["a", "b"]})
    with pytest.raises(ValueError, match=r"files: row 1 is 'b.wav' in the first and 'c.wav'"):
        require_same_examples(table, {**table, "files": ["a.wav", "c.wav"]})
    with pytest.raises(ValueError, match="2 in the first and 1"):
        require_same_examples(table, {"files": ["a.wav"], "labels": ["a"]})
