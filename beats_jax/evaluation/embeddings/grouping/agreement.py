"""How well clusters agree with labels that people gave: each figure with the share of rows that it is about.

A method that leaves the hard rows out agrees better on the others: a figure without its coverage says little (darksound's ARI
rises from .71 to .92 while its coverage falls from 67 % to 37 %). `agreement` gives each figure twice, and `at_coverage` compares
methods on as many rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beats_jax.evaluation.embeddings.grouping.methods import NOISE

FIGURES = ("ari", "ami", "nmi", "v_measure", "accuracy")


def agreement(truth: Sequence[str] | np.ndarray, found: np.ndarray, noise: str | None = None) -> dict[str, float | None]:
    """ARI, AMI, NMI, V-measure and accuracy of clusters, on the rows in clusters and, `_with_noise`, on all rows.

    NMI is with the arithmetic mean of the entropies, which is the V-measure. Accuracy gives each cluster one label and each label
    one cluster, so that most rows are right (Hungarian method). With noise the rows in no cluster are one cluster more; for the
    accuracy they are wrong unless their label is `noise`.

    Args:
      truth: N labels. found: int [N], -1 = in no cluster. noise: the label of rows that belong to no class (distractors), if any.
    Returns:
      the names of `FIGURES` and each with `_with_noise`, `coverage`, `clusters`, `classes`, `n` (rows). On no row at all: None.
    """
    names, given = np.unique(np.asarray(truth, dtype=str), return_inverse=True)
    found = np.asarray(found)
    kept = found != NOISE
    result: dict[str, float | None] = dict(_figures(given[kept], found[kept]))
    result |= {f"{name}_with_noise": value for name, value in _figures(given, found).items()}
    if len(found):
        outside = (names[given] == noise) & ~kept if noise is not None else np.zeros(len(found), bool)
        inside = given[kept], found[kept]
        result["accuracy_with_noise"] = float((_right(*inside) + outside.sum()) / len(found))
    coverage = float(kept.mean()) if len(found) else None
    return result | {"coverage": coverage, "clusters": len(np.unique(found[kept])), "classes": len(names), "n": len(found)}


def at_coverage(labels: np.ndarray, membership: np.ndarray, coverage: float) -> np.ndarray:
    """Labels int [N] of the `coverage` of rows that belong most surely; the others are -1. Rows in no cluster stay so.

    Args:
      labels: int [N]. membership: float [N]. coverage: share of all N rows, 0 to 1; where fewer are in clusters, all of those.
    """
    order = np.lexsort((-membership, labels == NOISE))
    result = np.full_like(labels, NOISE)
    kept = order[: round(coverage * len(labels))]
    result[kept] = labels[kept]
    return result


def complete(points: np.ndarray, labels: np.ndarray, membership: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every row in a cluster: rows in none join that of the nearest row in one, with memberships below all others'.

    With it a method that leaves rows out and one that leaves none compare at any coverage (`at_coverage`).

    Args:
      points: float [N, K]. labels: int [N]. membership: float [N].
    Returns:
      labels and memberships of all rows; as given where no row is in a cluster. A row of `points` that is not finite stays out.
    """
    from sklearn.neighbors import NearestNeighbors

    inside = np.flatnonzero(labels != NOISE)
    outside = np.flatnonzero((labels == NOISE) & np.isfinite(points).all(axis=1))
    if not len(inside) or not len(outside):
        return labels, membership
    distances, nearest = NearestNeighbors(n_neighbors=1).fit(points[inside]).kneighbors(points[outside])
    labels, membership = labels.copy(), membership.copy()
    labels[outside] = labels[inside[nearest[:, 0]]]
    membership[inside] = 1 + membership[inside]
    membership[outside] = 1 / (1 + distances[:, 0])
    return labels, membership / 2


def _figures(given: np.ndarray, found: np.ndarray) -> dict[str, float | None]:
    from sklearn import metrics

    if not len(given):
        return dict.fromkeys(FIGURES)
    return {
        "ari": float(metrics.adjusted_rand_score(given, found)),
        "ami": float(metrics.adjusted_mutual_info_score(given, found)),
        "nmi": float(metrics.normalized_mutual_info_score(given, found)),
        "v_measure": float(metrics.v_measure_score(given, found)),
        "accuracy": _right(given, found) / len(given),
    }


def _right(given: np.ndarray, found: np.ndarray) -> int:
    """Rows whose cluster is that of their label, one cluster a label, at best."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    if not len(given):
        return 0
    counts = contingency_matrix(given, found)
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
