"""Members of clusters that stand for them: those nearest to the middle, and some drawn at random."""

from __future__ import annotations

import numpy as np

from beats_jax.evaluation.embeddings.clusters import NOISE


def representative_ranks(points: np.ndarray, labels: np.ndarray, files: np.ndarray, most: int) -> np.ndarray:
    """1 for the best representative of each cluster, 2 for the next, and so on up to `most`; 0 for all other rows.

    Those nearest to the mean of their cluster, each from another recording as long as there are some: five clips of one
    recording show what that recording is like.

    Args:
      points: float [N, K]. labels: int [N], -1 = none. files: texts [N].
    """
    ranks = np.zeros(len(labels), np.int64)
    for rows in cluster_rows(labels):
        distances = np.square(points[rows] - points[rows].mean(axis=0)).sum(axis=1)
        order = rows[np.argsort(distances, kind="stable")]
        _, first = np.unique(files[order], return_index=True)
        fresh = np.zeros(len(order), bool)
        fresh[first] = True
        chosen = np.concatenate([order[fresh], order[~fresh]])[:most]
        ranks[chosen] = np.arange(1, len(chosen) + 1)
    return ranks


def random_members(labels: np.ndarray, ranks: np.ndarray, most: int, seed: int) -> list[np.ndarray]:
    """Up to `most` rows of each cluster that are no representatives; the same seed gives the same."""
    random = np.random.default_rng(seed)
    found = []
    for rows in cluster_rows(labels):
        others = rows[ranks[rows] == 0]
        found.append(np.sort(random.choice(others, min(most, len(others)), replace=False)))
    return found


def cluster_rows(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each cluster 0, 1, ..., in order; rows labelled -1 are in none."""
    kept = np.flatnonzero(labels != NOISE)
    order = kept[np.argsort(labels[kept], kind="stable")]
    count = int(labels.max(initial=NOISE)) + 1
    return np.split(order, np.searchsorted(labels[order], np.arange(1, count))) if count else []
