"""The bootstrap: closed forms, groups, determinism, and the cases without an interval."""

import numpy as np
import pytest

from beats_jax.evaluation.metrics import intervals
from beats_jax.evaluation.metrics.classification import Evaluator
from beats_jax.evaluation.metrics.intervals import bootstrap, group_numbers, resample_weights, resampled_metrics


def correct_with_rate(num_examples, rate):
    """Two-class labels and probabilities whose accuracy is `rate`."""
    labels = np.arange(num_examples) % 2
    predicted = np.where(np.arange(num_examples) < round(rate * num_examples), labels, 1 - labels)
    return labels, np.eye(2)[predicted] * 0.8 + 0.1


def accuracy_interval(labels, probabilities, groups=None, resamples=2000, seed=0):
    evaluator = Evaluator(labels, probabilities, multi_label=False)
    found = bootstrap(evaluator, group_numbers(groups, len(labels)), resamples=resamples, seed=seed)
    return None if found is None else found.overall["accuracy"]


def test_accuracy_interval_is_the_binomial_one():
    low, high = accuracy_interval(*correct_with_rate(400, 0.8))
    error = 1.96 * np.sqrt(0.8 * 0.2 / 400)  # the bootstrap of a mean of 0/1 is a binomial proportion
    assert (low, high) == pytest.approx((0.8 - error, 0.8 + error), abs=0.006)


def test_groups_are_drawn_whole():
    labels, probabilities = correct_with_rate(40, 0.8)
    repeated = (np.repeat(labels, 10), np.repeat(probabilities, 10, axis=0))
    groups = np.repeat(np.arange(40), 10)
    np.testing.assert_array_equal(
        accuracy_interval(*repeated, groups=[f"recording {group}" for group in groups]), accuracy_interval(labels, probabilities)
    )
    alone = accuracy_interval(*repeated)
    together = accuracy_interval(*repeated, groups=groups)
    assert np.diff(together) > 2.5 * np.diff(alone)  # about sqrt(10) wider


def test_same_seed_same_bits_other_seed_other_interval():
    rng = np.random.default_rng(1)
    evaluator = Evaluator(rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60), multi_label=False)
    groups = group_numbers(None, 60)
    first, again, other = (bootstrap(evaluator, groups, resamples=200, seed=seed) for seed in (5, 5, 6))
    for part in ("overall", "classes"):
        for name, values in getattr(first, part).items():
            np.testing.assert_array_equal(values, getattr(again, part)[name])
    assert (first.overall["auroc"] != other.overall["auroc"]).any()


def test_equals_a_loop_over_resampled_rows():
    rng = np.random.default_rng(2)
    labels, probabilities = rng.integers(0, 4, 50), rng.integers(0, 6, (50, 4)) / 5
    groups = np.sort(rng.integers(0, 12, 50))
    groups = group_numbers(groups, 50)
    found = bootstrap(Evaluator(labels, probabilities, multi_label=False), groups, resamples=80, seed=3)
    weights = resample_weights(3, int(groups.max()) + 1, 0, 80)
    loops = {"mAP": [], "auroc": [], "f1_macro": []}
    for column in weights.T:
        rows = np.repeat(np.arange(50), column[groups].astype(int))
        overall = Evaluator(labels[rows], probabilities[rows], multi_label=False).metrics().overall
        for name, values in loops.items():
            values.append(float(overall[name]))
    for name, values in loops.items():
        np.testing.assert_allclose(found.overall[name], np.nanpercentile(values, (2.5, 97.5)), atol=1e-9)


def make_case(kind, num_examples=90):
    """(labels, probabilities, multi_label): scores with and without ties, rare classes, a class that never occurs."""
    rng = np.random.default_rng(4)
    scores = rng.random((num_examples, 5))
    if "ties" in kind:
        scores = np.round(scores * 4) / 4
    if "multi" in kind:
        marks = (rng.random((num_examples, 5)) < (0, 0.02, 0.3, 0.9, 1)).astype(int)
        return marks, scores, True
    return rng.choice([0, 1, 2, 4], num_examples, p=(0.02, 0.18, 0.3, 0.5)), scores, False


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("kind", ["plain", "ties", "multi", "multi, ties"])
def test_every_resample_equals_the_metrics_of_its_weights(kind, clustered):
    labels, probabilities, multi_label = make_case(kind)
    evaluator = Evaluator(labels, probabilities, multi_label=multi_label)
    groups = group_numbers(np.arange(90) // 4 if clustered else None, 90)
    found = resampled_metrics(evaluator, groups, resamples=150, seed=3)
    expected = evaluator.metrics(resample_weights(3, int(groups.max()) + 1, 0, 150)[groups])
    for part, truth in zip(found, expected, strict=True):
        assert list(part) == list(truth)
        for name, values in truth.items():
            np.testing.assert_allclose(part[name], values, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("copies", "numbers"), [(1, np.uint16), (1000, np.uint32)])
def test_sums_fit_their_numbers(copies, numbers):
    """Many examples in each recording: sums leave 16 bits, and the resamples of the copies are those of the originals."""
    labels, probabilities, _ = make_case("ties")
    whole = Evaluator(np.tile(labels, copies), np.tile(probabilities, (copies, 1)), multi_label=False)
    groups = np.tile(np.arange(90), copies)
    assert intervals.ResamplingPlan(whole, groups, 64).dtype == numbers
    found = resampled_metrics(whole, groups, resamples=70, seed=1)
    alone = resampled_metrics(Evaluator(labels, probabilities, multi_label=False), np.arange(90), resamples=70, seed=1)
    for name, values in alone.overall.items():
        np.testing.assert_allclose(found.overall[name], values, atol=1e-12, err_msg=name)


def test_blocks_and_threads_change_no_bit(monkeypatch):
    labels, probabilities, _ = make_case("plain")
    evaluator = Evaluator(labels, probabilities, multi_label=False)
    found = resampled_metrics(evaluator, np.arange(90), resamples=300, seed=1)
    monkeypatch.setattr(intervals, "_BLOCK_WEIGHTS", 1)
    monkeypatch.setattr(intervals, "_MOST_THREADS", 1)
    again = resampled_metrics(evaluator, np.arange(90), resamples=300, seed=1)
    for part, other in zip(found, again, strict=True):
        for name, values in part.items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)
    fewer = resampled_metrics(evaluator, np.arange(90), resamples=100, seed=1)
    np.testing.assert_array_equal(fewer.overall["auroc"], found.overall["auroc"][:100])


def coverage(num_sets, num_examples, resamples, clustered):
    """Share of simulated sets whose 95 % intervals of accuracy and AUROC hold the truth of the distribution they are from.

    Two classes, scores normal with means 0 and 1: AUROC is Phi(1 / sqrt 2); accuracy at 1/2 is Phi(1 / 2). Clustered: groups of
    four equal rows.
    """
    from scipy.stats import norm

    truth = {"auroc": norm.cdf(1 / np.sqrt(2)), "accuracy": norm.cdf(0.5)}
    rng, held = np.random.default_rng(11 + clustered), dict.fromkeys(truth, 0)
    for seed in range(num_sets):
        labels = rng.integers(0, 2, num_examples)
        positive = 1 / (1 + np.exp(0.5 - rng.normal(size=num_examples) - labels))
        copies = 4 if clustered else 1
        evaluator = Evaluator(
            np.repeat(labels, copies), np.repeat(np.stack([1 - positive, positive], 1), copies, axis=0), multi_label=False
        )
        found = bootstrap(evaluator, np.repeat(np.arange(num_examples), copies), resamples=resamples, seed=seed)
        for name, value in truth.items():
            low, high = found.overall[name]
            held[name] += low <= value <= high
    return {name: number / num_sets for name, number in held.items()}


def test_intervals_hold_the_truth_as_often_as_they_say():
    for share in coverage(200, 150, 300, clustered=False).values():
        assert 0.90 <= share <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_hold_the_truth_in_93_to_97_percent(clustered):
    for share in coverage(500, 400, 2000, clustered).values():
        assert 0.93 <= share <= 0.97


def test_every_resample_draws_as_many_groups_as_there_are():
    weights = resample_weights(0, 17, 0, 300)
    np.testing.assert_array_equal(weights.sum(axis=0), 17)
    assert weights.mean(axis=1) == pytest.approx(np.ones(17), abs=0.25)


def test_no_interval_from_one_group_or_no_resamples_or_nothing():
    labels, probabilities = correct_with_rate(10, 0.5)
    assert accuracy_interval(labels, probabilities, groups=["a"] * 10) is None
    assert accuracy_interval(labels, probabilities, resamples=0) is None
    assert accuracy_interval(labels[:0], probabilities[:0]) is None


def test_undefined_resamples_are_left_out():
    labels = np.array([0] * 20 + [1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(2), 21)
    found = bootstrap(Evaluator(labels, probabilities, multi_label=False), group_numbers(None, 21), resamples=100, seed=0)
    assert np.isfinite(found.overall["auroc"]).all()
    never = Evaluator(np.zeros(20, int), np.eye(3)[np.zeros(20, int)], multi_label=False)
    found = bootstrap(never, group_numbers(None, 20), resamples=50, seed=0)
    assert np.isnan(found.overall["auroc"]).all()
    assert np.isnan(found.classes["f1"][1]).all()
    np.testing.assert_array_equal(found.overall["accuracy"], [1, 1])


def test_wrong_number_of_groups_is_refused():
    with pytest.raises(ValueError, match="2 groups for 3"):
        group_numbers(["a", "b"], 3)
