"""How unlike a reference set new vectors are, as a share of that set that is less unlike the rest of it.

The distance is that to the nearest vector of the reference, by cosine. What it means depends on the encoder, so it is calibrated:
each vector of the reference has such a distance, too, to the nearest one of another recording. The novelty of a new vector is the
share of the reference with a smaller distance, from 0 (as near as any) to 1 (farther than all): 1 minus the p-value of a
conformal test (Laxhammar and Falkman 2010, with one neighbour). Of sounds that are like the reference 5 % have 0.95 or more.
"""

from __future__ import annotations

import numpy as np

from beats_jax.evaluation.embeddings.maps import sample_rows
from beats_jax.evaluation.embeddings.neighbours import unit_vectors

CALIBRATION_ROWS = 5_000  # of the reference: shares are exact to half a per cent
BLOCK = 1 << 24  # similarities that are held at once, 64 MB
UNSURE = 20  # rows of a reference, from which a share can be told at all


def novelty(vectors: np.ndarray, reference: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The share of the reference that is nearer to the rest of it than each vector.

    Args:
      vectors: float [N, D], finite. reference: float [R, D], finite, R >= 2. groups: texts or numbers [R], the recording of each;
        where all are of one, single rows are left out in place of recordings.
      seed: of the rows by which it is calibrated, where the reference has more than `CALIBRATION_ROWS`.
    Returns:
      float64 [N], from 0 to 1.
    Raises:
      ValueError: fewer than two vectors in the reference.
    """
    if len(reference) < 2:
        raise ValueError("the reference has fewer than two vectors")
    units = unit_vectors(reference)
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    codes = codes if codes.any() else np.arange(len(reference))
    rows = sample_rows(len(reference), CALIBRATION_ROWS, seed)
    usual = np.sort(_distances(units[rows], units, codes[rows], codes))
    return np.searchsorted(usual, _distances(unit_vectors(vectors), units), side="left") / len(usual)


def _distances(
    queries: np.ndarray, units: np.ndarray, own: np.ndarray | None = None, codes: np.ndarray | None = None
) -> np.ndarray:
    """Cosine distance to the nearest of `units` [R, D], float32 [Q]; of another code than the query's own where codes are given.

    Distances below a part in 10^5 are rounding errors of equal vectors, and count as 0.
    """
    found = np.empty(len(queries), np.float32)
    step = max(1, BLOCK // max(1, len(units)))
    for first in range(0, len(queries), step):
        similar = queries[first : first + step] @ units.T
        if own is not None and codes is not None:
            similar[own[first : first + step, None] == codes[None]] = -np.inf
        found[first : first + step] = 1 - similar.max(axis=1)
    return np.where(found < 1e-5, 0, found)
