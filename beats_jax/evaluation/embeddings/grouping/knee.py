"""The knee of a curve of sorted distances: DBSCAN's eps (Kneedle, Satopää et al. 2011)."""

from __future__ import annotations

import numpy as np

DEGREE = 7  # of the polynomial that smooths the curve, as in the package kneed
SENSITIVITY = 1.0


def neighbour_distances(points: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row of points [N, K] to its k-th nearest other row, ascending, float64 [N]; at most N - 1 neighbours."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=min(k, len(points) - 1)).fit(points)
    return np.sort(model.kneighbors()[0][:, -1])


def knee(distances: np.ndarray) -> float:
    """The distance at which ascending distances [N] begin to rise steeply; never 0 unless all are.

    Kneedle of a convex, rising curve that a polynomial of degree 7 smooths, as darksound and bambird call the package kneed. A
    curve without a knee gives its distance farthest below the straight line between its ends. 0 becomes the largest, as there.
    """
    from scipy.signal import argrelextrema

    if len(distances) < 3 or distances[0] == distances[-1]:
        return float(distances[-1])
    places = np.arange(len(distances))
    smooth = np.polynomial.Polynomial.fit(places, distances, min(DEGREE, len(distances) - 1))(places)
    along, height = places / places[-1], (smooth - smooth.min()) / np.ptp(smooth)
    gap = (height.max() - height)[::-1] - along  # from its end on: the knee is where it is highest above the diagonal
    tops, lows = argrelextrema(gap, np.greater_equal)[0], argrelextrema(gap, np.less_equal)[0]
    place = _first_knee(gap, set(tops.tolist()), set(lows.tolist()), SENSITIVITY / (len(gap) - 1))
    found = float(distances[-(place + 1)])
    return found if found > 0 else float(distances[-1])


def _first_knee(gap: np.ndarray, tops: set[int], lows: set[int], drop: float) -> int:
    """The first top after which the curve falls by `drop` before the next: Kneedle's rule; the highest place without one."""
    threshold, top = -np.inf, int(gap.argmax())
    for place in range(min(tops, default=len(gap)), len(gap) - 1):
        if place in tops:
            threshold, top = gap[place] - drop, place
        if place in lows:
            threshold = 0.0
        if gap[place + 1] < threshold:
            return top
    return int(gap.argmax())
