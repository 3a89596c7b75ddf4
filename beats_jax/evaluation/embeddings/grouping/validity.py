"""DBCV: how dense clusters are inside compared with the gaps between them, without labels (Moulavi et al. 2014).

A cluster's sparseness is the longest edge inside its minimum spanning tree, its separation the least distance to another cluster,
both of mutual reachability: the largest of the distance and of the two rows' core distances. Leaves of the trees do not count.

Conventions are those of `hdbscan.validity_index`: -1 to 1, larger is better; rows in no cluster add nothing, and lower the figure
because a cluster weighs its share of *all* rows; equal rows do not count as near to each other. Darksound's first version counts
the rows in no cluster as one cluster more, so its figures are lower, and negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 4_000_000  # distances held at once: 32 MB
ALIKE = 1e-14  # squared distance, as a share of the rows' squared lengths, below which rows are equal: rounding errors


@dataclass(frozen=True)
class Validity:
    """DBCV of N rows.

    Attributes:
      score: of all rows, -1 to 1; None with fewer than two clusters. clusters: float64 [C], of each cluster; 0 for one row.
      clustered: mean over the rows in clusters, which is `score` / coverage.
    """

    score: float | None
    clusters: np.ndarray
    clustered: float | None


def density_validity(points: np.ndarray, labels: np.ndarray) -> Validity:
    """DBCV of points [N, K] in clusters int [N], 0 to C - 1, -1 = none. Time N², memory N x K and one block of distances.

    Rows in clusters must be finite.
    """
    kept = labels >= 0
    sizes = np.bincount(labels[kept]) if kept.any() else np.zeros(0, np.int64)
    if len(sizes) < 2:
        return Validity(None, np.zeros(len(sizes)), None)
    wide = points.astype(np.float64)
    wide -= wide[kept].mean(axis=0)  # smaller numbers round less
    inside: list[np.ndarray] = []  # rows within the trees, a cluster after the other
    cores, sparseness = np.zeros(len(labels)), np.zeros(len(sizes))
    for cluster in range(len(sizes)):
        rows = np.flatnonzero(labels == cluster)
        cores[rows] = squared_cores(wide[rows])
        inner, sparseness[cluster] = _tree(wide[rows], cores[rows])
        inside.append(rows[inner])
    separation = _separations(wide, cores, inside)
    larger = np.maximum(separation, sparseness)
    validity = np.where(sizes > 1, (separation - sparseness) / np.where(larger > 0, larger, 1), 0.0)
    total = float(sizes @ validity)
    return Validity(total / len(labels), validity, total / int(sizes.sum()))


def squared_cores(points: np.ndarray) -> np.ndarray:
    """Squared core distances float64 [N] of all points [N, K] of a cluster: (mean of distance^-K to the others)^(-1/K), squared.

    It is computed in logarithms: a distance to the power of 768 has no place in a float.
    """
    rows, power = points.shape
    result = np.zeros(rows)
    for block, squares in _blocks(points, points):
        apart = squares > 0  # not the row itself, nor rows equal to it
        logs = np.log(squares, out=np.full(squares.shape, np.inf), where=apart).astype(np.float32) * np.float32(-power / 2)
        top = logs.max(axis=1)
        alone = np.isinf(top)
        top[alone] = 0
        total = np.log(np.maximum(np.exp(logs - top[:, None]).sum(axis=1), 1e-30))  # 1 at least, but of a row without another
        found = np.exp((total + top - np.log(max(rows - 1, 1))) * (-2 / power))
        result[block] = np.where(alone, 0, found)
    return result


def _tree(points: np.ndarray, cores: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows within the minimum spanning tree (not its leaves), and its longest edge between such rows, of squared `cores`."""
    if len(points) == 1:
        return np.zeros(1, np.int64), 0.0
    order, weights = _prim(points, cores)
    ends = np.stack([order[1:], _sources(points, cores, order, weights)], axis=1)
    degrees = np.bincount(ends.ravel(), minlength=len(points))
    inner = np.flatnonzero(degrees > 1)
    within = (degrees[ends] > 1).all(axis=1)
    longest = weights[within].max() if within.any() else weights.max()
    return (inner if len(inner) else np.zeros(1, np.int64)), float(np.sqrt(longest))


def _prim(points: np.ndarray, cores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [N] in the order in which they join the tree, and the squares [N - 1] of the edges by which they do."""
    rows = len(points)
    lengths = np.square(points).sum(axis=1)
    order, weights = np.zeros(rows, np.int64), np.zeros(rows - 1)
    waiting, best = np.arange(1, rows), np.full(rows - 1, np.inf)
    away, away_lengths, away_cores = points[1:], lengths[1:], cores[1:].copy()
    for step in range(rows - 1):
        current = order[step]
        total = away_lengths + lengths[current]
        reach = _clean(total - 2 * (away @ points[current]), total)
        np.maximum(np.maximum(reach, away_cores, out=reach), cores[current], out=reach)
        np.minimum(best, reach, out=best)
        place = int(best.argmin())
        order[step + 1], weights[step] = waiting[place], best[place]
        best[place] = away_cores[place] = np.inf  # nothing is near to a row that has joined
        left = rows - 2 - step
        if 2 * left < len(best):  # half have joined: they are left out
            keep = away_cores < np.inf
            waiting, best, away, away_lengths, away_cores = (
                array[keep] for array in (waiting, best, away, away_lengths, away_cores)
            )
    return order, weights


def _sources(points: np.ndarray, cores: np.ndarray, order: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The row int64 [N - 1] of the tree to which each row joins, of several as near the first.

    Many are as near where the core distance of the row that joins is the largest of the three, so the tree is not unique, and the
    leaves depend on the choice. This one is that of `hdbscan.validity_index`, with its tolerance.
    """
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    result = np.empty(len(weights), np.int64)
    for block, squares in _blocks(points[order[1:]], points):
        reach = np.maximum(np.maximum(squares, cores[order[1:][block], None]), cores)
        reach[turn >= np.arange(1, len(order))[block, None]] = np.inf
        distance = np.sqrt(weights[block])
        near = reach <= np.square(distance + 1e-8 + 1e-5 * distance)[:, None]
        result[block] = near.argmax(axis=1)
    return result


def _separations(points: np.ndarray, cores: np.ndarray, inside: list[np.ndarray]) -> np.ndarray:
    """Least mutual reachability float64 [C] between the rows within each tree and those within any other."""
    rows = np.concatenate(inside)
    ends = np.cumsum([len(each) for each in inside])
    result = np.full(len(inside), np.inf)
    for cluster, each in enumerate(inside):
        for block, squares in _blocks(points[each], points[rows]):
            reach = np.maximum(np.maximum(squares, cores[each[block], None]), cores[rows])
            reach[:, ends[cluster] - len(each) : ends[cluster]] = np.inf
            result[cluster] = min(result[cluster], reach.min())
    return np.sqrt(result)


def _blocks(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of some rows of `left` to all of `right`, block after block."""
    lengths, others = np.square(left).sum(axis=1), np.square(right).sum(axis=1)
    step = max(1, BLOCK // len(right))
    for start in range(0, len(left), step):
        block = slice(start, start + step)
        total = lengths[block, None] + others
        yield block, _clean(total - 2 * (left[block] @ right.T), total)


def _clean(squares: np.ndarray, total: np.ndarray) -> np.ndarray:
    squares[squares <= ALIKE * total] = 0
    return squares
