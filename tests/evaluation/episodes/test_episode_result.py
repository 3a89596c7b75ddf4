"""Figures over episodes, by counting and by closed forms."""

import numpy as np
import pytest

from beats_jax.datasets.episodes import EpisodeRule, Episodes, EpisodeSampler, class_draws
from beats_jax.evaluation.episodes.result import draws_interval, episodes_interval, measure_episodes


def test_accuracies_and_confusions_are_counted():
    labels = np.repeat(np.arange(5), 8)
    pools = class_draws(np.arange(5), 3, 2, seed=1)
    whole = EpisodeSampler(labels, "abcde", EpisodeRule(3, 2, 4)).batch(0, 11)
    parts = EpisodeSampler(labels, "abcde", EpisodeRule(3, 2, 4), pools=pools).batch(0, 7)
    episodes = Episodes(
        *(np.concatenate([getattr(one, name) for one in (whole, parts)]) for name in ("classes", "support", "query"))
    )
    answers = np.random.default_rng(0).integers(0, 3, episodes.query.shape)
    found = measure_episodes(answers, episodes, pools, 5, 5, 7)
    confusion, right = np.zeros((5, 5), int), np.zeros(18)
    for e, w, q in np.ndindex(*answers.shape):
        named = episodes.classes[e][answers[e, w, q]]
        confusion[labels[episodes.query[e, w, q]], named] += e < 11
        right[e] += named == labels[episodes.query[e, w, q]]
    np.testing.assert_array_equal(found.confusion, confusion)
    np.testing.assert_allclose(found.accuracies, right[:11] / 12)
    np.testing.assert_allclose(found.draw_means, [(right[11::2] / 12).mean(), (right[12::2] / 12).mean()])
    total = confusion.sum(axis=1)
    expected = np.where(total > 0, np.diag(confusion) / np.maximum(total, 1), np.nan)
    np.testing.assert_allclose(found.class_accuracies, expected)


def test_the_interval_over_episodes_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = [episodes_interval(rng.binomial(15, 0.6, 200) / 15) for _ in range(600)]
    assert 0.92 < np.mean([one.low <= 0.6 <= one.high for one in held]) < 0.98
    assert episodes_interval(np.array([0.5])).low is None


@pytest.mark.parametrize(("size", "classes"), [(10, 20), (5, 20), (6, 9)])
def test_the_interval_over_draws_is_the_standard_error_of_the_mean_of_classes(size, classes):
    """Where a draw's figure is the mean of its classes', the deviation must be that of a mean of `classes` independent values."""
    values = np.random.default_rng(3).normal(0.5, 0.05, classes)
    pools = class_draws(np.arange(classes), size, 4000, seed=0)
    found = draws_interval(values.mean(), values[pools].mean(axis=1), size, classes)
    expected = 1.96 * values.std(ddof=1) / classes**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.06)


def test_a_draw_of_all_classes_says_nothing_of_others():
    assert draws_interval(0.5, np.array([0.5]), 5, 10).low is None
    assert draws_interval(0.5, np.array([0.5, 0.6]), 10, 10).low is None


def test_no_accuracy_is_above_one_or_below_none():
    sampler = EpisodeSampler(np.repeat(np.arange(3), 8), "abc", EpisodeRule(3, 2, 4))
    episodes, pools = sampler.batch(0, 6), np.arange(3)[None]
    right = np.broadcast_to(np.arange(3)[None, :, None], episodes.query.shape).copy()
    right[0, 0, 0] = 1  # one of 72 answers is wrong
    found = measure_episodes(right, episodes, pools, 3, 3, 0).episodes
    assert found.value == pytest.approx(71 / 72)
    assert found.high == 1.0
    assert measure_episodes((right + 1) % 3, episodes, pools, 3, 3, 0).episodes.low == 0.0
