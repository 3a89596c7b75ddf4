"""Which regions of a species hold its sound, and which are noise: the largest group of alike ones is the sound (bambird)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from beats_jax.config.rules import Settings, bounded, one_of
from beats_jax.evaluation.embeddings.clusters import by_size
from beats_jax.evaluation.embeddings.grouping.group import cluster
from beats_jax.evaluation.embeddings.grouping.knee import knee, neighbour_distances
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings

LEAST_REGIONS = 3  # fewer are no group


@dataclass(frozen=True)
class SignalSettings(Settings):
    """How signal is separated from noise. Darksound's way is `knee="nearest"`, the rest as it stands.

    Attributes:
      method: `dbscan` with eps at the knee of the sorted distances, or `hdbscan`.
      percentage_pts, min_pts: rows that make a place dense, in per cent of the species' regions, or a number; 0 and 0 = 2.
      eps: distance within a group; 0 = the knee.
      knee: of the distances to the `kth` other row, k = the rows that make a place dense, or to the `nearest`, as upstream, which
        calls more of a species' regions noise.
      keep: `biggest`: the largest group is signal; `all`: every group is.
    """

    GROUP: ClassVar[str] = "signal"
    method: str = one_of("dbscan", "hdbscan")
    percentage_pts: float = bounded(0.0, ge=0, le=100)
    min_pts: int = bounded(0, ge=0)
    eps: float = bounded(0.0, ge=0)
    knee: str = one_of("kth", "nearest")
    keep: str = one_of("biggest", "all")


@dataclass(frozen=True)
class PseudoLabels:
    """Of N regions: signal bool [N] (auto_label), group int32 [N] within its species (cluster_number), -1 = in none."""

    signal: np.ndarray
    group: np.ndarray


def pseudo_labels(
    features: np.ndarray, names: Sequence[str], species: Sequence[str], settings: SignalSettings | None = None
) -> PseudoLabels:
    """Groups alike regions of each species, and calls the largest group its signal.

    Args:
      features: float [N, D] (`audio.regions.features`); a row that is not finite is noise.
      names: of the D columns; those that begin with "shp" share one scale, each other column has its own.
      species: of each row. One with fewer than three finite rows has noise only.
    """
    settings = settings or SignalSettings()
    group = np.full(len(features), -1, np.int32)
    signal = np.zeros(len(features), bool)
    finite = np.isfinite(features).all(axis=1)
    of_row = np.asarray(species, dtype=object)
    for one in sorted({*species}):
        rows = np.flatnonzero(finite & (of_row == one))
        if len(rows) < LEAST_REGIONS:
            continue
        group[rows] = _groups(scale_features(features[rows], names), settings)
        signal[rows] = group[rows] == 0 if settings.keep == "biggest" else group[rows] >= 0  # 0 is the largest
    return PseudoLabels(signal, group)


def scale_features(features: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Features [N, D] between 0 and 1, the shape's columns together, float64."""
    shape = np.array([name.startswith("shp") for name in names], bool)
    scaled = features.astype(np.float64)
    for columns in (shape, *(np.arange(len(names)) == column for column in np.flatnonzero(~shape))):
        part = scaled[:, columns]
        width = np.ptp(part) if part.size else 0.0
        scaled[:, columns] = (part - part.min()) / width if width else 0.0
    return scaled


def _groups(points: np.ndarray, settings: SignalSettings) -> np.ndarray:
    """int32 [N], the largest group first."""
    dense = round(settings.percentage_pts / 100 * len(points)) if settings.percentage_pts else settings.min_pts
    dense = max(2, min(dense, len(points)))
    if settings.method == "dbscan" or not np.ptp(points, axis=0).any():
        same = {"scale": "none", "reduce": "none", "method": "dbscan", "smallest": 2}
        return cluster(points, GroupingSettings(**same, min_samples=dense, epsilon=settings.eps, knee=settings.knee))[0]
    from sklearn.cluster import HDBSCAN

    eps = settings.eps or knee(neighbour_distances(points, dense if settings.knee == "kth" else 1))
    # Upstream's call, but a single group is allowed: most species have one sound.
    model = HDBSCAN(
        min_cluster_size=dense,
        min_samples=max(1, round(dense / 2)),
        cluster_selection_epsilon=eps,
        allow_single_cluster=True,
        copy=True,  # type: ignore[arg-type]  its stub wants a text
    )
    return by_size(model.fit_predict(points))
