"""Which of several ways to group vectors, without labels: by DBCV as upstream, by stability, by silhouette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.config.rules import require, require_one_of
from beats_jax.evaluation.embeddings.clusters import describe_clusters
from beats_jax.evaluation.embeddings.grouping.group import Groups, group
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.grouping.stability import stability
from beats_jax.evaluation.embeddings.grouping.validity import density_validity
from beats_jax.evaluation.embeddings.maps import sample_rows

RULES = ("dbcv", "stability", "silhouette")
VALIDITY_ROWS = 20_000  # DBCV compares all pairs


@dataclass(frozen=True)
class Candidate:
    """One way to group, and its figures without labels; None where there are fewer than two groups."""

    settings: GroupingSettings
    groups: Groups
    dbcv: float | None
    silhouette: float | None
    stability: float | None

    def row(self) -> dict[str, object]:
        """A row of a table."""
        found = self.groups
        figures = {"dbcv": self.dbcv, "silhouette": self.silhouette, "stability": self.stability}
        way = {name: getattr(self.settings, name) for name in ("scale", "reduce", "dimensions", "method")}
        return {**way, "clusters": found.count, "coverage": found.coverage, **figures}


def measure(vectors: np.ndarray, settings: GroupingSettings, draws: int = 0) -> Candidate:
    """Groups of vectors [N, D] and their figures; stability only where `draws` samples are asked for."""
    found = group(vectors, settings)
    points, labels = found.points[found.finite], found.labels[found.finite]
    rows = sample_rows(len(points), VALIDITY_ROWS, settings.seed)
    described = describe_clusters(points, labels, found.fitted, settings.seed)
    again = stability(points, labels, settings, draws).agreement if draws and len(points) else None
    dbcv = density_validity(points[rows], consecutive(labels[rows])).score
    return Candidate(settings, found, dbcv, described.silhouette, again)


def select(
    vectors: np.ndarray, candidates: Sequence[GroupingSettings], by: str = "dbcv", draws: int = 10
) -> tuple[Candidate, list[Candidate]]:
    """The candidate with the highest figure, and all of them, in order; of equal ones that with most groups, then the first.

    Args:
      vectors: float [N, D]. by: `dbcv`, `stability`, `silhouette`. draws: samples of the stability, where it is asked for.
    Raises:
      UserError: no candidate, or another `by`.
    """
    require_one_of("by", by, RULES)
    require(len(candidates) > 0, "there is no way to choose from; give one setting or more")
    measured = [measure(vectors, each, draws if by == "stability" else 0) for each in candidates]

    def figure(one: Candidate) -> tuple[float, int]:
        value = getattr(one, by)
        return -np.inf if value is None else value, one.groups.count

    return max(measured, key=figure), measured


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Labels without gaps: a sample may miss a cluster."""
    kept = labels >= 0
    result = labels.copy()
    result[kept] = np.unique(labels[kept], return_inverse=True)[1]
    return result
