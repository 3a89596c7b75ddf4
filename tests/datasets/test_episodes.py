"""Episodes: counts, recordings apart, the same again, and classes that are too small."""

import itertools

import numpy as np
import pytest

from beats_jax.datasets.episodes import EpisodeRule, EpisodeSampler, class_draws, largest_query
from beats_jax.errors import UserError

NAMES = ("crow", "owl", "wren", "kite", "rail", "swift")


@pytest.fixture(scope="module")
def table():
    """300 rows of six classes in 40 recordings, each of which holds several classes."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 6, 300), rng.integers(0, 40, 300)


def test_an_episode_holds_what_was_asked_for(table):
    labels, groups = table
    rule = EpisodeRule(n_way=4, n_shot=3, n_query=7, seed=5)
    sampler = EpisodeSampler(labels, NAMES, rule, groups)
    for index in range(50):
        one = sampler[index]
        assert one.support.shape == (4, 3)
        assert one.query.shape == (4, 7)
        assert len(set(one.classes)) == 4
        for place, label in enumerate(one.classes):
            assert (labels[one.support[place]] == label).all()
            assert (labels[one.query[place]] == label).all()
        rows = np.concatenate([one.support.ravel(), one.query.ravel()])
        assert len(np.unique(rows)) == len(rows)
        assert not set(groups[one.support.ravel()]) & set(groups[one.query.ravel()])


def test_the_free_draw_mixes_recordings_and_takes_every_row_alike(table):
    labels, groups = table
    sampler = EpisodeSampler(labels, NAMES, EpisodeRule(6, 5, 5, disjoint=False), groups)
    found = sampler.batch(0, 400)
    shared = [set(groups[s.ravel()]) & set(groups[q.ravel()]) for s, q in zip(found.support, found.query, strict=True)]
    assert all(shared)
    counts = np.bincount(found.support.ravel(), minlength=300)
    expected = 400 * 5 / np.bincount(labels)[labels]
    assert np.abs(counts - expected).max() < 5.5 * np.sqrt(expected.max())  # binomial


def test_where_every_row_is_its_own_recording_all_rows_are_drawn_alike():
    labels = np.repeat([0, 1, 2], 12)
    found = EpisodeSampler(labels, NAMES[:3], EpisodeRule(2, 4, 4)).batch(0, 600)
    for rows in (found.support, found.query):
        counts = np.bincount(rows.ravel(), minlength=36)
        assert abs(counts.sum() - 600 * 8) == 0
        assert np.abs(counts - 600 * 8 / 36).max() < 5.5 * np.sqrt(600 * 8 / 36)


def test_an_episode_is_a_function_of_seed_and_number(table):
    labels, groups = table
    make = lambda seed: EpisodeSampler(labels, NAMES, EpisodeRule(3, 2, 2, seed=seed), groups)  # noqa: E731
    whole, late = make(1).batch(0, 8), make(1).batch(5, 8)
    for name in ("classes", "support", "query"):
        np.testing.assert_array_equal(getattr(whole, name)[5:], getattr(late, name))
    assert (make(2).batch(0, 8).support != whole.support).any()
    numbered = EpisodeSampler(labels, NAMES, EpisodeRule(3, 2, 2, seed=1), groups * 7 + 3)[4]  # other numbers, same recordings
    np.testing.assert_array_equal(numbered.support, whole.support[4])


def test_all_classes_may_be_ways_and_one_more_may_not(table):
    labels, groups = table
    assert sorted(EpisodeSampler(labels, NAMES, EpisodeRule(6, 5, 5), groups)[0].classes) == list(range(6))
    with pytest.raises(UserError, match=r"n_way is 7, and there are 6 classes"):
        EpisodeSampler(labels, NAMES, EpisodeRule(7, 5, 5), groups)


def test_small_classes_are_named_with_the_query_that_fits():
    labels = np.array([0] * 9 + [1] * 6 + [2] * 9)
    with pytest.raises(UserError, match=r"owl \(6 rows, 6 recordings\); give n_query 1, or leave these classes out"):
        EpisodeSampler(labels, NAMES[:3], EpisodeRule(2, 5, 3))
    EpisodeSampler(labels, NAMES[:3], EpisodeRule(2, 5, 1))
    one_recording = np.array([*range(9), *[50] * 6, *range(9)])
    with pytest.raises(UserError, match=r"owl \(6 rows, 1 recordings\); give a smaller n_shot"):
        EpisodeSampler(labels, NAMES[:3], EpisodeRule(2, 5, 1), one_recording)
    EpisodeSampler(labels, NAMES[:3], EpisodeRule(2, 5, 1, disjoint=False), one_recording)


def test_the_largest_query_is_that_of_all_divisions():
    rng = np.random.default_rng(3)
    for _ in range(40):
        groups = rng.integers(0, 6, rng.integers(1, 14))
        sizes = np.unique(groups, return_counts=True)[1]
        taken = [sum(part) for n in range(len(sizes) + 1) for part in itertools.combinations(sizes.tolist(), n)]
        for shot in (1, 3, 5):
            expected = max((len(groups) - size for size in taken if size >= shot), default=-1)
            assert largest_query(groups, shot) == expected


def test_a_tight_division_is_found():
    """Only one side fits each group, in every one of eight classes."""
    labels, groups = np.repeat(np.arange(6), 15), np.concatenate([[2 * k] * 10 + [2 * k + 1] * 5 for k in range(6)])
    sampler = EpisodeSampler(labels, NAMES, EpisodeRule(6, 5, 10), groups)
    for index in range(20):
        assert (groups[sampler[index].support] % 2 == 1).all()


def test_classes_that_share_all_recordings_are_refused_by_name():
    labels, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])  # 1's rows are all in the recording that 0 needs too
    with pytest.raises(UserError, match=r"too small.*owl \(2 rows, 1 recordings\)"):
        EpisodeSampler(labels, NAMES[:2], EpisodeRule(2, 1, 1), groups)
    labels, groups = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 2, 1, 2])  # each alone could be divided
    with pytest.raises(UserError, match=r"no division of the recordings gives each of .* 1 support and 1 query"):
        EpisodeSampler(labels, NAMES[:3], EpisodeRule(3, 1, 1), groups)[0]


def test_draws_of_classes_are_pools_that_take_turns():
    labels = np.repeat(np.arange(6), 4)
    pools = class_draws(np.arange(6), 3, 4, seed=2)
    assert pools.shape == (4, 3)
    np.testing.assert_array_equal(pools[:2], class_draws(np.arange(6), 3, 2, seed=2))
    sampler = EpisodeSampler(labels, NAMES, EpisodeRule(2, 1, 1), pools=pools)
    for index in range(12):
        assert set(sampler[index].classes) <= set(pools[index % 4])
    with pytest.raises(UserError, match="7 classes a draw"):
        class_draws(np.arange(6), 7, 1, seed=0)


def test_rows_without_a_class_are_in_no_episode():
    labels = np.array([0, 0, 0, -1, -1, 1, 1, 1])
    found = EpisodeSampler(labels, NAMES[:2], EpisodeRule(2, 1, 2)).batch(0, 20)
    assert not {3, 4} & set(np.concatenate([found.support.ravel(), found.query.ravel()]))


@pytest.mark.parametrize("wrong", [{"n_way": 1}, {"n_shot": 0}, {"n_query": 0}, {"seed": -1}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        EpisodeRule(**({"n_way": 2, "n_shot": 1, "n_query": 1} | wrong))
