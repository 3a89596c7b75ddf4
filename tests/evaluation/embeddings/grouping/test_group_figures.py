"""Figures of clusters against hdbscan's, a plain formula, and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.agreement import agreement, at_coverage, complete
from beats_jax.evaluation.embeddings.grouping.group import group
from beats_jax.evaluation.embeddings.grouping.selection import select
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.grouping.stability import stability
from beats_jax.evaluation.embeddings.grouping.validity import density_validity, squared_cores


def _clusters(seed: int, dimensions: int, sizes: tuple[int, ...], spread: float, noise: int) -> tuple[np.ndarray, np.ndarray]:
    """Round clusters, and rows in none."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(noise, -1)])
    centres = random.normal(size=(len(sizes), dimensions)) * spread
    groups = [random.normal(size=(n, dimensions)) + centre for n, centre in zip(sizes, centres, strict=True)]
    return np.concatenate([*groups, random.normal(size=(noise, dimensions)) * spread * 1.5]), labels


# hdbscan 0.8.44: validity_index(*_clusters(...))
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((0, 2, (40, 60, 30), 4, 0), -0.189817284622399),
        ((1, 5, (50, 20, 80, 10), 2, 40), -0.1908974183351631),
        ((2, 20, (30, 30, 30), 1, 25), -0.06097226810422385),
        ((3, 3, (3, 4, 200), 3, 7), 0.49612530716097836),
        ((4, 60, (100, 50), 0.5, 10), -0.06371543241251808),
        ((5, 2, (2, 2, 50), 5, 3), 0.68886145846761),
    ],
)
def test_dbcv_is_that_of_hdbscan(case, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels = _clusters(*case)
    found = density_validity(points, labels)
    assert found.score == pytest.approx(expected, abs=2e-7)
    assert found.clustered == pytest.approx(expected / (labels >= 0).mean(), abs=2e-6)
    monkeypatch.setattr("beats_jax.evaluation.embeddings.grouping.validity.BLOCK", 500)
    assert density_validity(points, labels).score == pytest.approx(found.score, abs=1e-12)


def test_cores_and_sparseness_are_those_of_the_formula() -> None:
    points = np.random.default_rng(0).normal(size=(60, 4))
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    cores = ((distances**-4.0).sum(axis=1) / 59) ** (-1 / 4)
    np.testing.assert_allclose(np.sqrt(squared_cores(points)), cores, rtol=1e-5)
    # Far apart, the tree's longest edge alone sets 1 - sparseness / separation: the tree's weights do not depend on ties
    far = np.concatenate([points, points + 1e4])
    labels = np.repeat([0, 1], 60)
    reach = np.maximum(np.maximum(cores[:, None], cores), np.where(np.isinf(distances), 0, distances))
    longest = minimum_spanning_tree(reach).data
    sparseness = (1 - density_validity(far, labels).clusters[0]) * np.sqrt(4) * 1e4
    assert np.sort(longest)[len(longest) // 2] < sparseness <= longest.max() * 1.001


def test_dbcv_in_many_dimensions_and_of_odd_clusters() -> None:
    random = np.random.default_rng(0)
    wide = np.concatenate([random.normal(size=(30, 768)), random.normal(size=(30, 768)) + 5])
    assert 0 < (density_validity(wide, np.repeat([0, 1], 30)).score or 0) < 1, "hdbscan overflows here"
    alike = np.repeat(np.eye(2), 10, axis=0)
    assert density_validity(alike, np.repeat([0, 1], 10)).score == 1.0
    assert density_validity(np.ones((20, 2)), np.repeat([0, 1], 10)).score == 0.0
    assert density_validity(wide, np.zeros(60, int)).score is None
    assert density_validity(wide, np.full(60, -1)).score is None
    single = density_validity(np.array([[0.0], [0.1], [9.0]]), np.array([0, 0, 1]))
    assert single.clusters[1] == 0, "one row has no density"


def test_agreement_is_known_where_clusters_are() -> None:
    truth = ["a"] * 4 + ["b"] * 4 + ["noise"] * 2
    perfect = agreement(truth, np.array([1, 1, 1, 1, 0, 0, 0, 0, -1, -1]), noise="noise")
    for name in ("ari", "ami", "nmi", "v_measure", "accuracy", "ari_with_noise", "accuracy_with_noise"):
        assert perfect[name] == pytest.approx(1.0), name
    assert perfect["coverage"] == 0.8
    assert (perfect["clusters"], perfect["classes"], perfect["n"]) == (2, 3, 10)
    half = agreement(["a"] * 4 + ["b"] * 4, np.array([0, 0, -1, -1, 1, 1, -1, -1]))
    assert (half["ari"], half["accuracy"], half["coverage"]) == (1.0, 1.0, 0.5)
    assert half["accuracy_with_noise"] == 0.5, "a row in no cluster is wrong"
    assert half["ari_with_noise"] is not None
    assert half["ari_with_noise"] < 0.5
    split = agreement(["a"] * 6, np.array([0, 0, 0, 0, 1, 1]))
    assert split["accuracy"] == pytest.approx(4 / 6), "a label has one cluster"


def test_agreement_of_nothing() -> None:
    nothing = agreement(["a", "b"], np.array([-1, -1]))
    assert (nothing["ari"], nothing["accuracy"], nothing["coverage"]) == (None, None, 0.0)
    assert nothing["accuracy_with_noise"] == 0.0
    assert agreement([], np.zeros(0, int))["coverage"] is None


def test_nmi_is_the_v_measure() -> None:
    random = np.random.default_rng(0)
    found = agreement(random.integers(0, 5, 90).astype(str), random.integers(-1, 4, 90))
    assert found["nmi"] == pytest.approx(found["v_measure"])
    assert abs(found["ari"] or 0) < 0.1
    assert abs(found["ami"] or 0) < 0.1


def test_coverage_keeps_the_surest_rows() -> None:
    labels, membership = np.array([0, 0, 1, -1, 1]), np.array([0.9, 0.2, 0.5, 0.0, 0.7], np.float32)
    assert at_coverage(labels, membership, 0.4).tolist() == [0, -1, -1, -1, 1]
    assert at_coverage(labels, membership, 1.0).tolist() == labels.tolist()
    points = np.array([[0.0], [1.0], [5.0], [4.0], [6.0]])
    full, strength = complete(points, labels, membership)
    assert full.tolist() == [0, 0, 1, 1, 1]
    assert strength.argmin() == 3
    assert at_coverage(full, strength, 0.8).tolist() == labels.tolist()
    none = np.full(5, -1)
    assert complete(points, none, membership)[0].tolist() == none.tolist()


def test_far_clusters_are_stable_and_halves_of_a_round_one_are_not() -> None:
    points, truth = _clusters(0, 3, (60, 60, 60), 30, 0)
    counted = GroupingSettings(method="kmeans", clusters=3, reduce="none", scale="none")
    far = stability(points, truth, counted)
    assert far.agreement == 1.0
    np.testing.assert_allclose(far.clusters, 1.0)
    round_one = np.random.default_rng(0).normal(size=(180, 3))
    one = stability(round_one, group(round_one, counted).labels, counted)
    assert one.agreement is not None
    assert one.agreement < 0.8
    assert one.clusters.max() < 0.95
    nothing = stability(points[:20], np.full(20, -1), GroupingSettings(smallest=15))
    assert nothing.agreement is None
    assert nothing.clusters.shape == (0,)


@pytest.mark.parametrize("by", ["dbcv", "stability", "silhouette"])
def test_the_right_number_of_clusters_is_selected(by: str) -> None:
    points, _ = _clusters(0, 3, (40, 40, 40, 40), 30, 0)
    ways = [GroupingSettings(method="kmeans", clusters=count, reduce="none", scale="none") for count in (2, 4, 6)]
    best, all_of_them = select(points, ways, by=by, draws=5)
    assert best.settings.clusters == 4
    assert [each.settings for each in all_of_them] == ways
    assert best.row()["clusters"] == 4
    with pytest.raises(UserError, match="no way to choose"):
        select(points, [])
