"""Maps, clusters and neighbours against closed forms, scikit-learn and groups that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.preprocessing import StandardScaler

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings import clusters as clusters_module
from beats_jax.evaluation.embeddings import maps
from beats_jax.evaluation.embeddings.clusters import Clusters, describe_clusters
from beats_jax.evaluation.embeddings.grouping.group import cluster
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.maps import fit_principal, sample_rows, tsne_places, umap_places, usable_perplexity
from beats_jax.evaluation.embeddings.neighbours import nearest_by_cosine, place_among, unit_vectors

GROUPS = 4


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Vectors [200, 20] in four far groups of different sizes, and the group of each."""
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(GROUPS), (80, 60, 40, 20))
    centres = random.normal(size=(GROUPS, 20)) * 10
    return (centres[truth] + random.normal(size=(200, 20))).astype(np.float32), truth


def test_components_are_the_eigenvectors_of_the_correlation(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, _ = blobs
    found = fit_principal(vectors, components=5)
    values, axes = np.linalg.eigh(np.corrcoef(vectors.T.astype(np.float64)))
    np.testing.assert_allclose(found.explained, values[::-1][:5] / values.sum(), rtol=1e-4)
    np.testing.assert_allclose(np.abs(found.axes[0]), np.abs(axes[:, -1]), atol=1e-3)
    expected = StandardScaler().fit_transform(vectors) @ found.axes.T
    np.testing.assert_allclose(found.project(vectors), expected, atol=1e-3)


def test_constant_columns_and_few_rows_have_places() -> None:
    vectors = np.full((3, 8), 1e6, np.float32)
    assert not fit_principal(vectors).project(vectors).any()
    assert fit_principal(vectors[:1]).project(vectors[:1]).shape == (1, 3)
    for dimensions in (2, 3):
        assert tsne_places(fit_principal(vectors).project(vectors), dimensions).shape == (3, dimensions)
    assert not tsne_places(np.zeros((9, 3), np.float32), 2).any()


def _purity(places: np.ndarray, truth: np.ndarray) -> float:
    """Share of points whose nearest other point is of their group."""
    distances = np.square(places[:, None] - places[None]).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float((truth[distances.argmin(axis=1)] == truth).mean())


def test_tsne_keeps_groups_together_and_is_the_same_again(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, truth = blobs
    reduced = fit_principal(vectors).project(vectors)
    places = tsne_places(reduced, 2, perplexity=30, seed=1)
    assert _purity(places, truth) == 1.0
    np.testing.assert_array_equal(places, tsne_places(reduced, 2, perplexity=30, seed=1))


def test_a_perplexity_beyond_the_points_is_reduced() -> None:
    assert usable_perplexity(30, 1000) == 30
    assert usable_perplexity(30, 31) == 10
    points = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    assert np.isfinite(tsne_places(points, 2, perplexity=100)).all()


def test_umap_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"beats-jax\[discover\]"):
        umap_places(np.zeros((9, 3), np.float32), 2)


@pytest.mark.parametrize("call", [lambda x: tsne_places(x, 4), lambda x: tsne_places(x, 2, perplexity=0)])
def test_values_out_of_range_are_refused(call) -> None:
    with pytest.raises(UserError):
        call(np.ones((9, 3), np.float32))


def test_samples_are_without_repeats_in_order_and_the_same_again() -> None:
    rows = sample_rows(1000, 100, seed=3)
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, sample_rows(1000, 100, seed=3))
    np.testing.assert_array_equal(sample_rows(5, 100), np.arange(5))


def clusters_of(points: np.ndarray, **settings: Any) -> Clusters:
    """As the explorer finds them."""
    labels, _, fitted = cluster(points, GroupingSettings(scale="none", reduce="none", **settings))
    return describe_clusters(points, labels, fitted)


def test_kmeans_finds_the_groups_the_largest_first(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, truth = blobs
    found = clusters_of(vectors, method="kmeans", clusters=GROUPS)
    assert adjusted_rand_score(truth, found.labels) == 1.0
    assert found.sizes.tolist() == [80, 60, 40, 20]
    assert found.silhouette == pytest.approx(silhouette_score(vectors, truth), abs=1e-5)
    assert found.noise == 0.0


def test_more_clusters_than_distinct_rows_are_reduced() -> None:
    found = clusters_of(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0), method="kmeans", clusters=8)
    assert found.sizes.tolist() == [4, 4, 4]


def test_density_leaves_outliers_out(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, truth = blobs
    far = np.concatenate([vectors, np.full((1, 20), 500, np.float32), np.full((1, 20), -500, np.float32)])
    found = clusters_of(far, smallest=10)
    assert found.labels[-2:].tolist() == [-1, -1]
    kept = found.labels[:-2] >= 0
    assert adjusted_rand_score(truth[kept], found.labels[:-2][kept]) == 1.0
    assert found.noise == pytest.approx(1 - (found.labels >= 0).mean())


def test_rows_beyond_the_sample_join_the_nearest(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, truth = blobs
    found = clusters_of(vectors, smallest=5, most=100)
    assert found.fitted == 100
    kept = found.labels >= 0
    assert kept.mean() > 0.9
    assert adjusted_rand_score(truth[kept], found.labels[kept]) == 1.0


def test_a_medoid_is_the_row_nearest_to_the_mean() -> None:
    points = np.array([[0, 0], [1, 0], [5, 0], [100, 0], [101, 0], [102, 0.5]], np.float32)
    found = describe_clusters(points, np.array([7, 7, 7, 2, 2, 2]), 6)
    assert sorted(found.medoids.tolist()) == [1, 4]


def test_figures_are_absent_for_one_cluster_and_for_none() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    one = clusters_of(points, method="kmeans", clusters=1)
    none = clusters_of(points[:3], smallest=10)
    for found in (one, none):
        assert (found.silhouette, found.davies_bouldin, found.calinski_harabasz) == (None, None, None)
    assert none.noise == 1.0
    assert len(none.sizes) == 0


def test_the_silhouette_is_of_a_sample_of_many_rows(
    monkeypatch: pytest.MonkeyPatch, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    monkeypatch.setattr(clusters_module, "SILHOUETTE_ROWS", 100)
    found = clusters_of(blobs[0], method="kmeans", clusters=GROUPS)
    assert found.compared == 100
    assert found.silhouette == pytest.approx(clusters_of(blobs[0], method="kmeans", clusters=GROUPS).silhouette)


def test_neighbours_are_those_of_all_cosines(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, _ = blobs
    rows, similar = nearest_by_cosine(unit_vectors(vectors), vectors[:3], 5)
    wide = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    everything = wide[:3] @ wide.T
    np.testing.assert_array_equal(rows, np.argsort(-everything, axis=1)[:, :5])
    np.testing.assert_allclose(similar, -np.sort(-everything, axis=1)[:, :5], atol=1e-5)
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert nearest_by_cosine(unit_vectors(vectors[:2]), vectors[:1], 9)[0].shape == (1, 2)


def test_a_vector_of_the_map_falls_on_its_place_and_another_among_its_neighbours() -> None:
    places = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    on = place_among(places, np.array([[1, 0]]), np.array([[1.0, 0.5]]))
    np.testing.assert_allclose(on, [[1, 0]], atol=1e-6)
    between = place_among(places, np.array([[1, 2]]), np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(between, [[0.5, 0.5]], atol=1e-6)
