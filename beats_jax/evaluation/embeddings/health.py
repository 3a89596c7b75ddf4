"""How well embeddings use their space, and how far they have moved: numbers, and points for a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Points(NamedTuple):
    """Clips on the two directions in which they differ most."""

    places: np.ndarray  # float32 [N, 2]
    explained: np.ndarray  # float32 [2], share of all variance along each


def effective_rank(embeddings: np.ndarray) -> float:
    """Number of directions in which clips [N, D] differ: exp of the entropy of their singular values' shares.

    RankMe (Garrido et al. 2023, eq. 2) of centred embeddings, so a part common to all clips does not count; 0 to min(N - 1, D).
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
    """1 - linear CKA (Kornblith et al. 2019, eq. 5) of N clips, [N, D] and [N, E]: 0 = equal up to rotation and scale."""
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
