"""Vectors into groups by one function: scale → reduce → cluster.

vectors [N, D] ─ scale ─> [N, D] ─ reduce ─> points [N, K] ─ cluster ─> labels [N], membership [N]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.embeddings.clusters import by_size
from beats_jax.evaluation.embeddings.grouping.methods import METHODS, NOISE, require_method
from beats_jax.evaluation.embeddings.grouping.settings import COUNTED, GroupingSettings
from beats_jax.evaluation.embeddings.grouping.spaces import reduce, scale
from beats_jax.evaluation.embeddings.maps import sample_rows, threads_for


@dataclass(frozen=True)
class Groups:
    """Groups of N rows, the largest first.

    Attributes:
      labels: int32 [N], -1 = in no group. membership: float32 [N], 0 to 1, how surely a row belongs to its group; 0 in none.
      points: float32 [N, K], where the groups were sought; NaN in rows whose vector is not finite.
      finite: bool [N], False where a vector is not finite: such a row is in no group.
      fitted: rows that were compared; the others joined the nearest of them.
    """

    labels: np.ndarray
    membership: np.ndarray
    points: np.ndarray
    finite: np.ndarray
    fitted: int

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def coverage(self) -> float:
        """Share of rows in a group; 0 without rows."""
        return float((self.labels != NOISE).mean()) if len(self.labels) else 0.0


def group(vectors: np.ndarray, settings: GroupingSettings | None = None) -> Groups:
    """Groups of alike vectors.

    Args:
      vectors: float [N, D]; a row that is not finite is in no group. Fewer finite rows than `smallest` are in none, either.
      settings: None = the defaults.
    Raises:
      UserError: a method or UMAP that is not installed.
    """
    settings = settings or GroupingSettings()
    require_method(settings.method)
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    labels, membership = np.full(len(vectors), NOISE, np.int32), np.zeros(len(vectors), np.float32)
    points = reduce(scale(vectors[finite], settings.scale), settings)
    everywhere = np.full((len(vectors), points.shape[1]), np.nan, np.float32)
    everywhere[finite] = points
    found, strength, fitted = cluster(points, settings)
    labels[finite], membership[finite] = found, strength
    return Groups(labels, membership, everywhere, finite, fitted)


def cluster(points: np.ndarray, settings: GroupingSettings) -> tuple[np.ndarray, np.ndarray, int]:
    """The last step alone: labels int32 [N] by size, membership float32 [N] and the rows compared, of points [N, K]."""
    least = 1 if settings.method in COUNTED else settings.smallest
    if len(points) < max(least, 1):
        return np.full(len(points), NOISE, np.int32), np.zeros(len(points), np.float32), len(points)
    if not np.ptp(points, axis=0).any():  # rows that are all alike are one group, which HDBSCAN calls noise and others refuse
        return np.zeros(len(points), np.int32), np.ones(len(points), np.float32), len(points)
    rows = sample_rows(len(points), settings.most, settings.seed)
    with threads_for(len(rows)):
        labels, membership = METHODS[settings.method](points[rows], settings)
    membership = np.where(labels == NOISE, 0, np.clip(membership, 0, 1)).astype(np.float32)
    if len(rows) < len(points):
        labels, membership = join_nearest(points, rows, labels, membership)
    return by_size(labels), membership, len(rows)


def join_nearest(
    points: np.ndarray, rows: np.ndarray, labels: np.ndarray, membership: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and memberships [N] of all points [N, K], each those of the nearest of the rows [M], which have some [M]."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(points[rows]).kneighbors(points, return_distance=False)[:, 0]
    nearest[rows] = np.arange(len(rows))  # of rows that are alike, each keeps its own
    return labels[nearest], membership[nearest]
