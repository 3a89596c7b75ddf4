"""Groups of alike vectors without labels: K-means and HDBSCAN, with figures that say how good the groups are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.config.rules import require
from beats_jax.evaluation.embeddings.maps import sample_rows, threads_for

NOISE = -1
DENSITY_ROWS = 10_000  # HDBSCAN compares all pairs: others take the cluster of the nearest of so many
SILHOUETTE_ROWS = 5_000  # compares all pairs, too


@dataclass(frozen=True)
class Clusters:
    """Clusters of N rows, the largest first.

    Attributes:
      labels: int32 [N], -1 = in no cluster. sizes: int64 [C]. medoids: int64 [C], the row nearest to the mean of its cluster.
      noise: share of rows in no cluster.
      silhouette: -1 to 1, larger is better; davies_bouldin: smaller is better; calinski_harabasz: larger is better; of the rows
        that are in clusters, None where there are fewer than two clusters.
      compared: rows of which the silhouette is. fitted: rows that made the clusters; the others joined the nearest of them.
    """

    labels: np.ndarray
    sizes: np.ndarray
    medoids: np.ndarray
    noise: float
    silhouette: float | None
    davies_bouldin: float | None
    calinski_harabasz: float | None
    compared: int
    fitted: int


def kmeans_clusters(points: np.ndarray, clusters: int, seed: int = 0) -> Clusters:
    """K-means of points float32 [N, K] with ten starts (scikit-learn); at most N clusters.

    Raises:
      UserError: fewer than one cluster.
    """
    from sklearn.cluster import KMeans

    require(clusters >= 1, f"the number of clusters is {clusters}; it must be 1 or more")
    distinct = len(np.unique(points, axis=0)) if len(points) < DENSITY_ROWS else clusters  # K-means warns of more clusters
    model = KMeans(min(clusters, distinct), n_init=10, random_state=seed)  # type: ignore[arg-type]  its stub wants a text
    with threads_for(len(points)):
        labels = model.fit_predict(points)
    return describe_clusters(points, labels, len(points), seed)


def density_clusters(
    points: np.ndarray, smallest: int = 10, min_samples: int | None = None, seed: int = 0, most: int = DENSITY_ROWS
) -> Clusters:
    """HDBSCAN of points float32 [N, K] (scikit-learn). Rows in sparse places are in no cluster.

    Args:
      smallest: rows of the smallest cluster. min_samples: rows that make a place dense; None = `smallest`.
      most: rows that are clustered; beyond it a sample is, and the other rows join the nearest of it.
    Raises:
      UserError: a value out of range.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    require(smallest >= 2, f"the smallest cluster has {smallest} rows; it must be 2 or more")
    require(min_samples is None or min_samples >= 1, f"min_samples is {min_samples}; it must be 1 or more")
    if len(points) < max(smallest, min_samples or 1, 2):
        return describe_clusters(points, np.full(len(points), NOISE), len(points), seed)
    rows = sample_rows(len(points), most, seed)
    model = HDBSCAN(min_cluster_size=smallest, min_samples=min_samples, copy=True)  # type: ignore[arg-type]  its stub wants a text
    found = model.fit_predict(points[rows])
    labels = found
    if len(rows) < len(points):
        nearest = NearestNeighbors(n_neighbors=1).fit(points[rows])
        labels = found[nearest.kneighbors(points, return_distance=False)[:, 0]]
        labels[rows] = found
    return describe_clusters(points, labels, len(rows), seed)


def describe_clusters(points: np.ndarray, labels: np.ndarray, fitted: int, seed: int = 0) -> Clusters:
    """Sizes, medoids and figures of clusters given as labels int [N] (-1 = none), which are renumbered, the largest first."""
    labels = by_size(np.asarray(labels))
    kept = labels != NOISE
    sizes = np.bincount(labels[kept]) if kept.any() else np.zeros(0, np.int64)
    medoids = np.array([_medoid(points, np.flatnonzero(labels == cluster)) for cluster in range(len(sizes))], np.int64)
    figures, compared = _figures(points[kept], labels[kept], seed)
    noise = float(1 - kept.mean()) if len(kept) else 0.0
    return Clusters(labels, sizes, medoids, noise, *figures, compared, fitted)


def _figures(points: np.ndarray, labels: np.ndarray, seed: int) -> tuple[tuple[float | None, float | None, float | None], int]:
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return (None, None, None), 0
    rows = sample_rows(len(points), SILHOUETTE_ROWS, seed)
    several = 2 <= len(np.unique(labels[rows])) < len(rows)
    silhouette = float(silhouette_score(points[rows], labels[rows])) if several else None
    others = float(davies_bouldin_score(points, labels)), float(calinski_harabasz_score(points, labels))
    return (silhouette, *others), len(rows)


def by_size(labels: np.ndarray) -> np.ndarray:
    """Labels int [N] numbered anew, 0 = the largest; -1 = none stays. int32 [N]."""
    names, counts = np.unique(labels[labels != NOISE], return_counts=True)
    order = {int(name): place for place, name in enumerate(names[np.argsort(-counts, kind="stable")])}
    return np.array([order.get(int(label), NOISE) for label in labels], np.int32)


def _medoid(points: np.ndarray, rows: np.ndarray) -> int:
    """The row nearest to the mean: a true medoid compares all pairs and is the same row in round clusters."""
    centre = points[rows].mean(axis=0)
    return int(rows[np.square(points[rows] - centre).sum(axis=1).argmin()])
