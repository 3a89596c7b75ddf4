"""The vectors most like another one, and where a new vector falls among points that have places."""

from __future__ import annotations

import numpy as np


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1, float32; a vector of zeros stays so."""
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def nearest_by_cosine(units: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows most like each query, best first.

    Args:
      units: float32 [N, D] of `unit_vectors`. queries: float [Q, D]. count: neighbours of each, at most N.
    Returns:
      rows int64 [Q, count], and their cosines float32 [Q, count].
    """
    similar = unit_vectors(queries) @ units.T
    count = min(count, len(units))
    rows = np.argpartition(-similar, count - 1, axis=1)[:, :count] if count < len(units) else np.argsort(-similar, axis=1)
    found = np.take_along_axis(similar, rows, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(found, order, axis=1)


def place_among(places: np.ndarray, rows: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """Where new vectors fall on a map that has no formula, such as t-SNE: the mean place of their nearest neighbours.

    Neighbours are weighted by the inverse of their cosine distance, so that a vector of the map falls on its own place.

    Args:
      places: float32 [N, 2 or 3]. rows, similar: of `nearest_by_cosine`, [Q, k].
    Returns:
      float32 [Q, 2 or 3].
    """
    weights = 1 / np.maximum(1 - similar.astype(np.float64), 1e-9)
    weights /= weights.sum(axis=1, keepdims=True)
    return (places[rows] * weights[..., None]).sum(axis=1).astype(np.float32)
