"""Measures of generated examples against closed forms for normal distributions, and against sets whose answer is known."""

import numpy as np
import pytest
from scipy.stats import norm

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings import generative as g

RANDOM = np.random.default_rng(0)


def numbers(estimate):
    """Value and interval, all of them defined."""
    return np.array([estimate.value, estimate.low, estimate.high], float)


def value(estimate):
    """The value, defined."""
    return float(numbers(estimate)[0])


def with_moments(mean, covariance, count=300, seed=0):
    """Examples whose sample mean and covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=(count, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False)).T)
    return x @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_known_moments():
    s1, s2 = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    real, made = with_moments(np.zeros(3), s1), with_moments(np.array([1.0, 0, 2]), s2, seed=1)
    assert g.frechet_distance(real, made) == pytest.approx(5 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert g.frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    assert g.frechet_distance(real @ turn, made @ turn) == pytest.approx(g.frechet_distance(real, made))


def test_frechet_infinity_takes_away_the_bias_of_few_examples():
    fixed = with_moments(np.zeros(16), np.eye(16), 4000)
    few = RANDOM.normal(size=(200, 16))
    biased, extrapolated = g.frechet_distance(fixed, few), g.frechet_infinity(fixed, few)
    assert biased > 0.3
    assert abs(extrapolated) < biased / 3


def test_kernel_distance_is_unbiased_and_has_the_closed_form_of_normal_distributions():
    width, shift, dims = 2.0, 1.0, 4
    draws = [g.kernel_distance(RANDOM.normal(size=(40, dims)), RANDOM.normal(size=(50, dims)), width) for _ in range(100)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 10
    assert min(draws) < 0
    moved = np.zeros(dims)
    moved[0] = shift
    scale = (width**2 / (width**2 + 2)) ** (dims / 2)
    expected = 2 * scale * (1 - np.exp(-(shift**2) / (2 * (width**2 + 2))))
    draws = [g.kernel_distance(RANDOM.normal(size=(80, dims)), RANDOM.normal(size=(80, dims)) + moved, width) for _ in range(60)]
    assert np.mean(draws) == pytest.approx(expected, abs=4 * np.std(draws) / 60**0.5)


def test_kernel_distance_of_a_loop():
    real, made = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(5, 3))
    k = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = lambda x: np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])  # noqa: E731
    expected = within(real) + within(made) - 2 * np.mean([k(a, b) for a in real for b in made])
    assert g.kernel_distance(real, made) == pytest.approx(expected)


def test_intervals_of_distances_hold_what_is_true():
    held = 0
    for _ in range(10):
        real, made = RANDOM.normal(size=(100, 3)), RANDOM.normal(size=(100, 3))
        found = g.kernel_estimate(real, made)
        _, low, high = numbers(found)
        held += low <= 0 <= high
    assert held >= 8
    found = numbers(g.frechet_estimate(RANDOM.normal(size=(60, 8)), RANDOM.normal(size=(60, 8))))
    assert found[1] < found[0] < found[2]  # plain percentiles would lie above the value


def test_precision_and_recall_of_a_lost_mode():
    two = np.concatenate([RANDOM.normal(size=(100, 2)), RANDOM.normal(size=(100, 2)) + 50])
    one = RANDOM.normal(size=(100, 2))
    found = g.precision_recall(two, one)
    assert value(found["precision"]) > 0.9
    assert value(found["recall"]) <= 0.5
    assert value(found["coverage"]) == pytest.approx(0.5, abs=0.05)
    far = g.precision_recall(two, one + 1000)
    assert [value(far[name]) for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]


def test_density_of_one_distribution_is_one_and_coverage_as_published():
    """Naeem et al., equations 6 and 7: expectations 1 and 1 - (1 - 1/2)^k for as many of both."""
    found = [g.precision_recall(RANDOM.normal(size=(300, 5)), RANDOM.normal(size=(300, 5))) for _ in range(5)]
    assert np.mean([value(one["density"]) for one in found]) == pytest.approx(1, abs=0.1)
    assert np.mean([value(one["coverage"]) for one in found]) == pytest.approx(1 - 0.5**5, abs=0.03)


def test_tell_apart_of_moved_normal_distributions():
    shift, random = 1.0, np.random.default_rng(5)
    real, made = random.normal(size=(600, 2)), random.normal(size=(600, 2)) + np.array([shift, 0])
    found = g.tell_apart(real, made)
    assert value(found) == pytest.approx(norm.cdf(shift / 2**0.5), abs=0.04)
    _, low, high = numbers(found)
    assert low - 0.01 < norm.cdf(shift / 2**0.5) < high + 0.01
    same = g.tell_apart(real, random.normal(size=(600, 2)))
    assert numbers(same)[1] < 0.52
    assert value(g.tell_apart(real, made + 20)) == 1


def test_auc_counts_equal_scores_by_halves():
    assert value(g.auc_estimate(np.array([0, 0, 1, 1]), np.array([1.0, 2, 2, 3]))) == pytest.approx(3.5 / 4)


def test_train_and_test_swaps():
    labels = np.repeat([0, 1], 50)
    real = RANDOM.normal(size=(100, 2)) + 4 * labels[:, None]
    assert value(g.train_and_test(real, labels, real + 0.1, labels)) > 0.95
    assert value(g.train_and_test(real, labels, real, 1 - labels)) < 0.05
    with pytest.raises(UserError, match="two classes"):
        g.train_and_test(real, np.zeros(100), real, labels)


def test_memorisation_finds_copies_and_duplicates():
    train, held = RANDOM.normal(size=(400, 8)), RANDOM.normal(size=(200, 8))
    copied = g.memorisation(train, held, train[:100] + 1e-3)
    assert value(copied["copies"]) == 1
    assert value(copied["nearest"]) < 0.01
    fresh = g.memorisation(train, held, RANDOM.normal(size=(200, 8)))
    assert value(fresh["copies"]) < 0.06
    assert value(fresh["duplicates"]) < 0.06
    _, low, high = numbers(fresh["nearest"])
    assert low < 1 < high
    alike = g.memorisation(train, held, np.repeat(RANDOM.normal(size=(2, 8)), 50, axis=0))
    assert value(alike["duplicates"]) == 1
    np.testing.assert_array_equal(g.nearest_rows(train[5:9], train), np.arange(5, 9))


def test_copies_are_found_where_the_recordings_have_repeats_themselves():
    train = RANDOM.normal(size=(400, 8)) + 100
    held = np.concatenate([train[:20], RANDOM.normal(size=(180, 8)) + 100])  # a tenth is in both parts
    assert value(g.memorisation(train, held, train[100:200])["copies"]) == 1
    assert value(g.memorisation(train, held, np.repeat(train[:1], 50, axis=0))["duplicates"]) == 1
    assert value(g.memorisation(train, held, RANDOM.normal(size=(200, 8)) + 100)["copies"]) == 0
    assert not g.distances(train, train).diagonal().any()


@pytest.mark.parametrize("measure", [g.frechet_distance, g.kernel_distance, g.precision_recall, g.tell_apart])
def test_embeddings_that_are_no_numbers_are_refused(measure):
    real, made = RANDOM.normal(size=(2, 30, 4))
    made[3, 1] = np.nan
    with pytest.raises(UserError, match="0 real and 1 made embeddings are not finite"):
        measure(real, made)


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(UserError, match="cannot be compared"):
        g.frechet_distance(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(UserError, match="too few"):
        g.precision_recall(np.zeros((5, 2)), np.zeros((5, 2)))
