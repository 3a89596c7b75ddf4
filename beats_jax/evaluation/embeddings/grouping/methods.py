"""Methods that put points [N, K] into clusters: each gives labels int [N] (-1 = none) and memberships float [N] in 0..1."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.clusters import NOISE
from beats_jax.evaluation.embeddings.grouping.knee import knee, neighbour_distances
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings

Found = tuple[np.ndarray, np.ndarray]


def hdbscan(points: np.ndarray, settings: GroupingSettings) -> Found:
    """HDBSCAN of scikit-learn; the membership is its own, 1 at the densest of a cluster."""
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(
        min_cluster_size=settings.smallest,
        min_samples=min(settings.min_samples, len(points)) or None,
        cluster_selection_method=settings.selection,
        copy=True,  # type: ignore[arg-type]  its stub wants a text
    )
    return model.fit_predict(points), model.probabilities_


def dbscan(points: np.ndarray, settings: GroupingSettings) -> Found:
    """DBSCAN with eps at the knee; clusters smaller than `smallest` are none."""
    from sklearn.cluster import DBSCAN

    k = dense_rows(points, settings)
    epsilon = settings.epsilon or knee(neighbour_distances(points, k if settings.knee == "kth" else 1))
    # eps must be above 0, and rows that are alike are neighbours at any: the smallest number there is
    labels = DBSCAN(eps=max(epsilon, float(np.finfo(np.float32).tiny)), min_samples=k).fit_predict(points)
    names, sizes = np.unique(labels, return_counts=True)
    labels = np.where(np.isin(labels, names[sizes < settings.smallest]), NOISE, labels)
    return labels, closeness(points, labels)


def dense_rows(points: np.ndarray, settings: GroupingSettings) -> int:
    """Rows that make a place dense for DBSCAN: `min_samples`, else 2 x dimensions - 1 as upstream."""
    return min(settings.min_samples or max(2, 2 * points.shape[1] - 1), len(points))


def kmeans(points: np.ndarray, settings: GroupingSettings) -> Found:
    """K-means with ten starts."""
    from sklearn.cluster import KMeans

    count = _at_most_distinct(points, settings.clusters)
    labels = KMeans(count, n_init=10, random_state=settings.seed).fit_predict(points)  # type: ignore[arg-type]  likewise
    return labels, closeness(points, labels)


def gmm(points: np.ndarray, settings: GroupingSettings) -> Found:
    """A mixture of Gaussians with diagonal covariances, begun by K-means; the membership is the posterior of the likeliest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    count = _at_most_distinct(points, settings.clusters)
    model = GaussianMixture(count, covariance_type="diag", n_init=3, max_iter=300, random_state=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best of its steps is still a mixture
        posterior = model.fit(points.astype(np.float64)).predict_proba(points.astype(np.float64))
    return posterior.argmax(axis=1), posterior.max(axis=1)


def agglomerative(points: np.ndarray, settings: GroupingSettings) -> Found:
    """Ward's joining of the two clusters whose union adds the least variance."""
    from sklearn.cluster import AgglomerativeClustering

    labels = AgglomerativeClustering(_at_most_distinct(points, settings.clusters)).fit_predict(points)
    return labels, closeness(points, labels)


def fast_hdbscan(points: np.ndarray, settings: GroupingSettings) -> Found:
    """HDBSCAN of fast-hdbscan: the same method, quicker beyond some ten thousand rows."""
    require_method("fast_hdbscan")
    from fast_hdbscan import HDBSCAN  # pyright: ignore[reportMissingImports]  an extra

    model = HDBSCAN(
        min_cluster_size=settings.smallest,
        min_samples=settings.min_samples or None,
        cluster_selection_method=settings.selection,
        reproducible=True,
    ).fit(points)
    return np.asarray(model.labels_), np.asarray(model.probabilities_)


def plscan(points: np.ndarray, settings: GroupingSettings) -> Found:
    """PLSCAN of fast-hdbscan: HDBSCAN over all smallest sizes from `smallest` on, at the most persistent."""
    require_method("plscan")
    from fast_hdbscan import PLSCAN  # pyright: ignore[reportMissingImports]  an extra

    dense = settings.min_samples or settings.smallest
    model = PLSCAN(min_samples=dense, base_min_cluster_size=settings.smallest, reproducible=True).fit(points)
    return model.labels_, model.membership_strengths_


def evoc(points: np.ndarray, settings: GroupingSettings) -> Found:
    """EVoC: made for long vectors, best with `reduce="none"`; of its layers the most persistent."""
    require_method("evoc")
    from evoc import EVoC  # pyright: ignore[reportMissingImports]  an extra

    narrow = min(4, points.shape[1])  # of its node embedding, which begins with principal components
    model = EVoC(base_min_cluster_size=settings.smallest, node_embedding_dim=narrow, random_state=settings.seed)
    labels = model.fit_predict(points)
    return labels, model.membership_strengths_


METHODS: dict[str, Callable[[np.ndarray, GroupingSettings], Found]] = {
    "hdbscan": hdbscan,
    "fast_hdbscan": fast_hdbscan,
    "plscan": plscan,
    "evoc": evoc,
    "dbscan": dbscan,
    "kmeans": kmeans,
    "gmm": gmm,
    "agglomerative": agglomerative,
}
PACKAGES = {"fast_hdbscan": "fast_hdbscan", "plscan": "fast_hdbscan", "evoc": "evoc"}


def has_method(method: str) -> bool:
    """Whether what the method needs is installed."""
    return method not in PACKAGES or find_spec(PACKAGES[method]) is not None


def require_method(method: str) -> None:
    """Raises `UserError` where a method's package is not installed."""
    if not has_method(method):
        raise UserError(f"{method} is not installed; pip install 'beats-jax[discover]' installs it")


def closeness(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Memberships where a method has none: 1 on the centre of the own cluster, 1/2 as near to another, 0 for rows in no cluster.

    Args:
      points: [N, K]. labels: int [N], -1 = none.
    Returns:
      float64 [N]: d' / (d + d') of the distances d to the centre of the own cluster and d' to the nearest other; 1 where none is.
    """
    from sklearn.metrics import pairwise_distances

    names = np.unique(labels[labels != NOISE])
    result = np.zeros(len(labels))
    if not len(names):
        return result
    rows = np.flatnonzero(labels != NOISE)
    centres = np.stack([points[labels == name].mean(axis=0, dtype=np.float64) for name in names])
    distances = pairwise_distances(points[rows].astype(np.float64), centres)
    own = np.searchsorted(names, labels[rows]), np.arange(len(rows))
    near = distances[own[1], own[0]]
    distances[own[1], own[0]] = np.inf
    other = distances.min(axis=1)
    result[rows] = 1 - np.where(np.isinf(other) | (near == 0), 0, near / np.maximum(near + other, 1e-300))
    return result


def _at_most_distinct(points: np.ndarray, clusters: int) -> int:
    return max(1, min(clusters, len(np.unique(points, axis=0))))
