"""Vectors into groups: known groups come back, and what cannot be grouped is in none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping import methods
from beats_jax.evaluation.embeddings.grouping.group import cluster, group, join_nearest
from beats_jax.evaluation.embeddings.grouping.knee import knee, neighbour_distances
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings, upstream_v1, upstream_v2
from beats_jax.evaluation.embeddings.grouping.spaces import reduce, scale

GROUPS = 4


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Vectors [200, 20] in four far groups of different sizes, and the group of each."""
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(GROUPS), (80, 60, 40, 20))
    centres = random.normal(size=(GROUPS, 20)) * 10
    return (centres[truth] + random.normal(size=(200, 20))).astype(np.float32), truth


def _settings(method: str, **changed: Any) -> GroupingSettings:
    clusters = GROUPS if method in ("kmeans", "gmm", "agglomerative") else 0
    return GroupingSettings(**{"method": method, "clusters": clusters, "dimensions": 3, **changed})


@pytest.mark.parametrize("method", ["hdbscan", "dbscan", "kmeans", "gmm", "agglomerative"])
@pytest.mark.parametrize("how", ["minmax", "standard", "none"])
def test_every_method_finds_far_groups(blobs: tuple[np.ndarray, np.ndarray], method: str, how: str) -> None:
    vectors, truth = blobs
    found = group(vectors, _settings(method, scale=how))
    kept = found.labels >= 0
    assert found.coverage > 0.8
    assert found.count == GROUPS
    assert adjusted_rand_score(truth[kept], found.labels[kept]) == 1.0
    assert ((found.membership > 0) == kept).all()
    assert (found.membership <= 1).all()
    again = group(vectors, _settings(method, scale=how))
    np.testing.assert_array_equal(found.labels, again.labels)
    np.testing.assert_array_equal(found.membership, again.membership)


def test_labels_are_numbered_by_size(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    found = group(blobs[0], _settings("kmeans"))
    assert np.bincount(found.labels).tolist() == [80, 60, 40, 20]


@pytest.mark.parametrize("method", ["hdbscan", "dbscan", "kmeans", "gmm", "agglomerative"])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 7, 30])
@pytest.mark.parametrize("kind", ["alike", "random"])
def test_few_rows_and_rows_that_are_alike(method: str, rows: int, kind: str) -> None:
    random = np.random.default_rng(1).normal(size=(rows, 9)).astype(np.float32)
    found = group(np.ones((rows, 9), np.float32) if kind == "alike" else random, _settings(method))
    assert found.labels.shape == found.membership.shape == (rows,)
    assert np.isfinite(found.membership).all()
    assert ((found.labels >= 0) == (found.membership > 0)).all()
    if kind == "alike" and rows >= 7:
        assert found.count == 1, "rows that are alike are one group"


def test_rows_that_are_not_finite_are_in_no_group_and_change_nothing(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, _ = blobs
    bad = np.insert(vectors, [0, 100], np.nan, axis=0)
    bad[0, 3:] = np.inf
    found, clean = group(bad, _settings("hdbscan")), group(vectors, _settings("hdbscan"))
    assert np.flatnonzero(~found.finite).tolist() == [0, 101]
    np.testing.assert_array_equal(found.labels[found.finite], clean.labels)
    assert found.labels[[0, 101]].tolist() == [-1, -1]
    nothing = group(np.full((5, 3), np.nan, np.float32))
    assert nothing.count == 0
    assert nothing.coverage == 0


def test_rows_beyond_the_sample_join_the_nearest(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, truth = blobs
    found = group(vectors, _settings("hdbscan", most=100))
    assert found.fitted == 100
    kept = found.labels >= 0
    assert kept.mean() > 0.9
    assert adjusted_rand_score(truth[kept], found.labels[kept]) == 1.0
    labels, membership = join_nearest(np.array([[0.0], [1.0], [5.0]]), np.array([0, 2]), np.array([7, -1]), np.array([0.5, 0]))
    assert labels.tolist() == [7, 7, -1]
    assert membership.tolist() == [0.5, 0.5, 0]


def test_scales_are_those_of_scikit_learn(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn import preprocessing

    vectors = np.concatenate([blobs[0], np.full((200, 1), 1e6, np.float32)], axis=1)
    for how, theirs in {"minmax": preprocessing.MinMaxScaler(), "standard": preprocessing.StandardScaler()}.items():
        np.testing.assert_allclose(scale(vectors, how), theirs.fit_transform(vectors), atol=1e-5)
    np.testing.assert_allclose(scale(vectors, "l2"), preprocessing.normalize(vectors), atol=1e-6)


def test_reduction_keeps_distances_where_nothing_is_lost(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors = blobs[0][:15]
    reduced = reduce(vectors, GroupingSettings(dimensions=50))
    assert reduced.shape == (15, 15)
    theirs = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(reduced[:, None] - reduced, axis=-1), theirs, atol=1e-3)


def test_neighbour_distances_are_those_of_all_pairs(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    points = blobs[0].astype(np.float64)
    pairs = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(pairs, np.inf)
    np.testing.assert_allclose(neighbour_distances(points, 3), np.sort(np.sort(pairs, axis=1)[:, 2]))
    np.testing.assert_allclose(neighbour_distances(points[:3], 9), np.sort(np.sort(pairs[:3, :3], axis=1)[:, 1]))


# kneed 0.9.0: KneeLocator(range(200), y, curve="convex", direction="increasing", interp_method="polynomial").knee_y
@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (lambda x: np.exp(8 * x), 368.53944158373275),
        (lambda x: x**9, 0.08339016592100884),
        (lambda x: 0.1 * x + np.maximum(0, x - 0.8) * 20, 0.07537688442211056),
        (lambda x: 1 / (1.02 - x), 6.866804692891649),
    ],
)
def test_knees_are_those_of_kneed(curve, expected: float) -> None:
    assert knee(curve(np.linspace(0, 1, 200))) == pytest.approx(expected)


def test_a_knee_is_never_zero_unless_all_are() -> None:
    assert knee(np.zeros(9)) == 0
    assert knee(np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 3.0])) == 3.0
    assert knee(np.array([2.0])) == 2.0
    assert 0 < knee(np.linspace(1, 2, 50)) <= 2


def test_upstreams_neighbour_rule_leaves_more_rows_out() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(size=(150, 5)) + 6 * centre for centre in random.normal(size=(3, 5)) * 2])
    shares = []
    for rule in ("kth", "nearest"):
        labels, _, _ = cluster(points, GroupingSettings(method="dbscan", knee=rule))
        shares.append((labels >= 0).mean())
    assert shares[0] > shares[1] + 0.1, shares


def test_closeness_is_the_ratio_of_distances() -> None:
    points = np.array([[0.0], [2.0], [10.0], [4.0], [99.0]])
    found = methods.closeness(points, np.array([0, 0, 1, 0, -1]))
    np.testing.assert_allclose(found, [10 / 12, 1.0, 1.0, 6 / 8, 0.0])
    np.testing.assert_allclose(methods.closeness(points, np.array([0, 0, 0, 0, -1])), [1, 1, 1, 1, 0])


def test_settings_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"needs grouping\.clusters"):
        GroupingSettings(method="kmeans")
    with pytest.raises(UserError, match="finds the number of clusters"):
        GroupingSettings(clusters=4)
    with pytest.raises(UserError, match="did you mean 'hdbscan'"):
        GroupingSettings(method="hdbscn")
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"beats-jax\[discover\]"):
        group(np.zeros((9, 2)), GroupingSettings(method="plscan"))


def test_upstreams_settings() -> None:
    assert (upstream_v1().scale, upstream_v1().reduce, upstream_v1().smallest) == ("minmax", "none", 6)
    second = upstream_v2(15)
    assert (second.dimensions, second.method, second.knee, second.densmap) == (15, "dbscan", "nearest", True)


@pytest.mark.browser  # the environment of the page has these packages
@pytest.mark.parametrize("method", ["fast_hdbscan", "plscan", "evoc"])
def test_methods_of_extra_packages_find_groups_that_lie_apart(method: str) -> None:
    truth = np.repeat(np.arange(3), 80)
    vectors = np.eye(20, dtype=np.float32)[truth] * 12 + np.random.default_rng(0).normal(size=(240, 20)).astype(np.float32)
    found = group(vectors, GroupingSettings(scale="none", reduce="none", method=method, smallest=15))
    kept = found.labels >= 0
    assert kept.mean() > 0.8
    assert adjusted_rand_score(truth[kept], found.labels[kept]) > 0.9  # EVoC splits one of them
    assert ((found.membership >= 0) & (found.membership <= 1)).all()
    assert found.membership[kept].max() > 0.5
