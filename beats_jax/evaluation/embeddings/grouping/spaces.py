"""Vectors on a common scale, and in few dimensions: density has no meaning in many."""

from __future__ import annotations

import warnings

import numpy as np

from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.maps import LEAST_POINTS, require_umap, threads_for
from beats_jax.evaluation.embeddings.neighbours import unit_vectors


def scale(vectors: np.ndarray, how: str) -> np.ndarray:
    """Vectors [N, D] on a common scale, float32; a column or row without variation is zeros.

    Args:
      how: `minmax`, `standard`, `l2`, `none` (`GroupingSettings.scale`).
    """
    wide = vectors.astype(np.float32)
    if how == "none" or not len(wide):
        return wide
    if how == "l2":
        return unit_vectors(wide)
    if how == "minmax":
        start, width = wide.min(axis=0), np.ptp(wide, axis=0)
    else:
        start, width = wide.mean(axis=0, dtype=np.float64), wide.std(axis=0, dtype=np.float64)
    constant = width <= 1e-6 * np.maximum(np.abs(start), 1e-6)  # rounding errors of a constant column are no variation
    return np.where(constant, 0, (wide - start) / np.where(constant, 1, width)).astype(np.float32)


def reduce(scaled: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    """Scaled vectors [N, D] in `settings.dimensions`, at most min(N, D), float32 [N, K].

    Raises:
      UserError: UMAP is asked for and umap-learn is not installed.
    """
    if settings.reduce == "umap":
        require_umap()
        return _umap(scaled, settings)
    if settings.reduce == "none":
        return scaled
    return _principal(scaled, min(settings.dimensions, *scaled.shape), settings.seed)


def _principal(scaled: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    if len(scaled) < 2 or not np.ptp(scaled, axis=0).any():
        return np.zeros((len(scaled), dimensions), np.float32)
    # Of many rows the eigenvectors of their covariance: a tenth of the time of a decomposition of all rows
    solver = "covariance_eigh" if len(scaled) > scaled.shape[1] else "full"
    with threads_for(len(scaled)):
        return PCA(dimensions, svd_solver=solver, random_state=seed).fit_transform(scaled).astype(np.float32)


def _umap(scaled: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    dimensions = min(settings.dimensions, scaled.shape[1], len(scaled) - 2)
    if len(scaled) < LEAST_POINTS or not np.ptp(scaled, axis=0).any():
        return _principal(scaled, min(settings.dimensions, *scaled.shape), settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and of its own use of other libraries
        from umap import UMAP  # pyright: ignore[reportMissingImports]  an extra

        model = UMAP(
            min(settings.neighbours, len(scaled) - 1),
            dimensions,
            min_dist=settings.min_dist,
            densmap=settings.densmap,
            random_state=settings.seed,
            init="pca" if dimensions <= min(scaled.shape) else "random",  # its spectral start needs more points than dimensions
        )
        return np.asarray(model.fit_transform(scaled), np.float32)
