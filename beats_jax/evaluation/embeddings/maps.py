"""Vectors as points of two or three dimensions: principal components, t-SNE, UMAP. The same seed gives the same map.

    vectors [N, D] ─ standardise ─> PCA, at most 50 components ─> t-SNE | UMAP ─> places [N, 2 or 3]

t-SNE and UMAP read the principal components, as van der Maaten and Hinton do (2008, JMLR 9, section 4.2): distances in fewer
dimensions are faster and less noisy.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from beats_jax.config.rules import require
from beats_jax.errors import UserError

COMPONENTS = 50
FEW_POINTS = (
    2000  # beyond it a second thread helps; below it threads wait for each other, a hundred times longer on a busy machine
)
LEAST_POINTS = 5  # fewer have no neighbourhoods: they are shown on their principal components


@dataclass(frozen=True)
class Principal:
    """Principal components of standardised vectors.

    Attributes:
      mean, scale: float32 [D]; a column without variation has scale 1. axes: float32 [K, D]. explained: float32 [K], share of all
      variance along each, largest first.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [N, D] on the components, float32 [N, K]."""
        return ((vectors.astype(np.float32) - self.mean) / self.scale) @ self.axes.T


def fit_principal(vectors: np.ndarray, components: int = COMPONENTS, seed: int = 0) -> Principal:
    """The first components of vectors [N, D], each column standardised; at most min(N, D) of them, three at least.

    Three components are always there, so that a map can be drawn: those beyond min(N, D) are zeros.
    """
    from sklearn.decomposition import PCA

    wide = vectors.astype(np.float32)
    mean, scale = wide.mean(axis=0, dtype=np.float64).astype(np.float32), wide.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1.0  # rounding errors of a constant column are no variation
    wide = (wide - mean) / scale
    count = min(components, *wide.shape)
    axes, explained = np.zeros((max(3, count), wide.shape[1]), np.float32), np.zeros(max(3, count), np.float32)
    if len(wide) > 1 and wide.any():
        # Of many rows the eigenvectors of their covariance: a tenth of the time of a decomposition of all rows
        solver = "covariance_eigh" if len(wide) > wide.shape[1] else "auto"
        with threads_for(1):
            found = PCA(count, svd_solver=solver, random_state=seed).fit(wide)
        axes[:count], explained[:count] = found.components_, np.nan_to_num(found.explained_variance_ratio_)
    return Principal(mean, scale, axes, explained)


def tsne_places(reduced: np.ndarray, dimensions: int, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Places by t-SNE of scikit-learn, float32 [N, dimensions]; `usable_perplexity` says which perplexity it uses.

    Args:
      reduced: float32 [N, K], principal components. dimensions: 2 or 3.
    Raises:
      UserError: a value out of range.
    """
    from sklearn.manifold import TSNE

    _require_dimensions(dimensions)
    require(perplexity > 0, f"perplexity is {perplexity}; it must be positive")
    if len(reduced) < LEAST_POINTS:
        return reduced[:, :dimensions].astype(np.float32)
    model = TSNE(dimensions, perplexity=usable_perplexity(perplexity, len(reduced)), init="pca", random_state=seed)
    if not reduced.any():  # equal vectors: PCA, which gives the first places, would divide by zero
        return np.zeros((len(reduced), dimensions), np.float32)
    with threads_for(len(reduced)):
        return model.fit_transform(reduced).astype(np.float32)


def threads_for(points: int) -> AbstractContextManager[object]:
    """A context in which scikit-learn computes with as many threads as so many points are fit for."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if points < FEW_POINTS else None)


def usable_perplexity(perplexity: float, points: int) -> float:
    """The perplexity, at most a third of the other points: beyond it every point is a neighbour of every other."""
    return min(perplexity, max(1.0, (points - 1) / 3))


def umap_places(reduced: np.ndarray, dimensions: int, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 0) -> np.ndarray:
    """Places by UMAP, float32 [N, dimensions]; at most N - 1 neighbours.

    Raises:
      UserError: umap-learn is not installed, or a value out of range.
    """
    _require_dimensions(dimensions)
    require(n_neighbors >= 2, f"n_neighbors is {n_neighbors}; it must be 2 or more")
    require(0 <= min_dist <= 1, f"min_dist is {min_dist}; it must be in [0, 1]")
    require_umap()
    if len(reduced) < LEAST_POINTS or not reduced.any():
        return reduced[:, :dimensions].astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and of its own use of other libraries
        from umap import UMAP

        # Its spectral start needs more points than eigenvectors, with room; principal components always exist
        model = UMAP(min(n_neighbors, len(reduced) - 1), dimensions, min_dist=min_dist, random_state=seed, init="pca")
        return np.asarray(model.fit_transform(reduced), np.float32)


def require_umap() -> None:
    """Raises `UserError` where umap-learn is not installed."""
    if not has_umap():
        raise UserError("UMAP is not installed; pip install 'beats-jax[discover]' installs it")


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return find_spec("umap") is not None


def sample_rows(rows: int, most: int, seed: int = 0) -> np.ndarray:
    """int64 [min(rows, most)]: all rows, or so many of them without repeats, in order."""
    require(most >= 1, f"the number of samples is {most}; it must be 1 or more")
    if rows <= most:
        return np.arange(rows, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _require_dimensions(dimensions: int) -> None:
    require(dimensions in (2, 3), f"a map has 2 or 3 dimensions, not {dimensions}")
