"""Whether embeddings of the same clips are healthy, and how far they have moved: numbers and their picture's points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Points(NamedTuple):
    """Clips on the two directions in which they differ most.

    Attributes:
      places: float32 [N, 2].
      explained: the share of all variance along each, float32 [2].
    """

    places: np.ndarray
    explained: np.ndarray


def effective_rank(embeddings: np.ndarray) -> float:
    """In how many directions clips [N, D] differ: exp of the entropy of their singular values' shares.

    RankMe (Garrido et al. 2023, eq. 2) of centred embeddings, so that what all clips share does not count; 0 where all are alike,
    at most min(N - 1, D).
    """
    values = np.linalg.svd(_centre(embeddings), compute_uv=False)
    total = values.sum()
    if total <= 1e-9 * max(1.0, float(np.abs(embeddings).max(initial=0.0))) * len(values):
        return 0.0
    shares = values / total
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def spread(embeddings: np.ndarray) -> float:
    """Share of the mean square of clips [N, D] that differs among them: 0 = all alike, 1 = nothing in common."""
    square = float(np.square(embeddings, dtype=np.float64).mean())
    return float(np.square(_centre(embeddings)).mean()) / square if square > 0 else 0.0


def drift(before: np.ndarray, after: np.ndarray) -> float:
    """1 - linear CKA (Kornblith et al. 2019, eq. 5) of the same N clips: 0 = the same up to rotation and scale, 1 = unrelated.

    Args:
      before, after: [N, D] and [N, E].
    """
    one, two = _centre(before), _centre(after)
    # ||Y'X||² is the sum over XX' * YY', which is smaller where clips are fewer than channels.
    left, right = one @ one.T, two @ two.T
    norm = np.linalg.norm(left) * np.linalg.norm(right)
    return float(1.0 - (left * right).sum() / norm) if norm > 0 else 1.0


def principal_points(embeddings: np.ndarray) -> Points:
    """Clips [N, D] on their first two principal components (scikit-learn)."""
    from sklearn.decomposition import PCA

    centred = _centre(embeddings)
    if not centred.any():
        return Points(np.zeros((len(centred), 2), np.float32), np.zeros(2, np.float32))
    found = PCA(n_components=2, svd_solver="full")
    places = found.fit_transform(centred)
    return Points(places.astype(np.float32), found.explained_variance_ratio_.astype(np.float32))


def _centre(embeddings: np.ndarray) -> np.ndarray:
    wide = embeddings.astype(np.float64)
    return wide - wide.mean(axis=0, keepdims=True)
