"""What clusters are: sizes, medoids and figures that say how good they are; `grouping` finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.embeddings.maps import sample_rows

NOISE = -1
SILHOUETTE_ROWS = 5_000  # it compares all pairs


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
