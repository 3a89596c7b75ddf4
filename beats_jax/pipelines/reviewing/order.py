"""In which order clips are reviewed.

strongest    by score, the highest first: all that is reviewed is all above some score, so that its precision is exact there
stratified   a clip of each tenth of the scores in turn: what is reviewed is like the whole at any moment
uncertain    nearest to the threshold first: what the detector learns most from
diverse      each clip as unlike those before it as possible, by embeddings
random       for comparison
"""

from __future__ import annotations

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.errors import UserError

ORDERS = ("strongest", "stratified", "uncertain", "diverse", "random")
STRATA = 10
MOST_DIVERSE = 1000  # clips that are chosen one by one; nobody reviews more in a sitting


def review_order(
    scores: np.ndarray, order: str, *, threshold: float = 0.5, vectors: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """The clips in the order of review; the same arguments give the same order.

    Args:
      scores: float [N]. threshold: of `uncertain`. vectors: float [N, D], of `diverse`; a row of NaN = none, it comes last.
    Returns:
      int64 [N], each row once.
    Raises:
      UserError: an unknown order, or diverse without vectors.
    """
    require_one_of("--order", order, ORDERS)
    scores = np.asarray(scores, np.float64)
    strongest = np.argsort(-scores, kind="stable")
    if order == "strongest":
        return strongest
    if order == "uncertain":
        return np.argsort(np.abs(scores - threshold), kind="stable")
    random = np.random.default_rng(seed)
    if order == "random":
        return random.permutation(len(scores))
    if order == "stratified":
        strata = [random.permutation(part) for part in np.array_split(strongest, min(STRATA, max(1, len(scores))))]
        ranks = np.concatenate([np.arange(len(part)) for part in strata])
        return np.concatenate(strata)[np.argsort(ranks, kind="stable")]
    if vectors is None:
        raise UserError("--order diverse needs --embeddings, the output of embed for these recordings")
    return _farthest_first(np.asarray(vectors, np.float32), strongest)


def _farthest_first(vectors: np.ndarray, strongest: np.ndarray) -> np.ndarray:
    """Gonzalez (1985): after the strongest, always the clip whose nearest chosen one, by cosine, is farthest; then by score."""
    known = strongest[np.isfinite(vectors[strongest]).all(axis=1)]
    if not len(known):
        return strongest
    units = vectors[known] / np.maximum(np.linalg.norm(vectors[known], axis=1, keepdims=True), 1e-12)
    nearest = np.full(len(known), -np.inf, np.float32)  # cosine with the nearest chosen one
    chosen = [0]
    for _ in range(min(len(known), MOST_DIVERSE) - 1):
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
    first = known[chosen]
    return np.concatenate([first, strongest[~np.isin(strongest, first)]])
