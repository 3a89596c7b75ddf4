"""How vectors are put into groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from beats_jax.config.rules import Settings, bounded, one_of, require

COUNTED = ("kmeans", "gmm", "agglomerative")  # they are told how many clusters there are


@dataclass(frozen=True)
class GroupingSettings(Settings):
    """The way from vectors to clusters. Defaults are what docs/discovery_methods.md measures, as far as scikit-learn does it.

    Attributes:
      scale: `l2` puts each row on length 1, `minmax` each column on [0, 1] (upstream's), `standard` on mean 0 and variance 1.
      reduce: `pca`, `umap` (needs beats-jax[discover]) or `none`. dimensions: of the reduced space.
      method: `hdbscan` (scikit-learn), `dbscan`, `kmeans`, `gmm`, `agglomerative` (Ward), and of beats-jax[discover]
        `fast_hdbscan`, `plscan`, `evoc`.
      smallest: rows of the smallest cluster, for the density methods. min_samples: rows that make a place dense; 0 = `smallest`,
        and 2 x dimensions - 1 for `dbscan`, which upstream uses.
      selection: of HDBSCAN's tree: `eom` takes the most stable clusters, `leaf` the smallest ones.
      knee: distances whose knee is DBSCAN's eps: to the k-th neighbour, k = min_samples (`kth`), or to the nearest (`nearest`, as
        upstream does, which leaves more rows out). epsilon: instead of the knee; 0 = the knee.
      clusters: how many, for `kmeans`, `gmm` and `agglomerative`; 0 elsewhere.
      neighbours, min_dist, densmap: of UMAP.
      most: rows that the methods compare; beyond it a sample is, and the other rows join the nearest of it.
      seed: the same seed gives the same groups.
    """

    GROUP: ClassVar[str] = "grouping"

    scale: str = one_of("l2", "minmax", "standard", "none")
    reduce: str = one_of("pca", "umap", "none")
    dimensions: int = bounded(10, ge=1, le=4096)
    method: str = one_of("hdbscan", "fast_hdbscan", "plscan", "evoc", "dbscan", "kmeans", "gmm", "agglomerative")
    smallest: int = bounded(6, ge=2)
    min_samples: int = bounded(0, ge=0)
    selection: str = one_of("eom", "leaf")
    knee: str = one_of("kth", "nearest")
    epsilon: float = bounded(0.0, ge=0)
    clusters: int = bounded(0, ge=0)
    neighbours: int = bounded(15, ge=2)
    min_dist: float = bounded(0.0, ge=0, le=1)
    densmap: bool = False
    most: int = bounded(20_000, ge=10)
    seed: int = bounded(0, ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        counted = self.method in COUNTED
        require(not counted or self.clusters >= 1, f"grouping.method {self.method!r} needs grouping.clusters, how many there are")
        require(counted or not self.clusters, f"grouping.method {self.method!r} finds the number of clusters; leave out clusters")


def upstream_v1(n_shot: int = 5, n_query: int = 1, **changed: Any) -> GroupingSettings:
    """Darksound's first version: min-max, no reduction, HDBSCAN with clusters of an episode's rows at least."""
    return GroupingSettings(**{"scale": "minmax", "reduce": "none", "smallest": n_shot + n_query, **changed})


def upstream_v2(dimensions: int, **changed: Any) -> GroupingSettings:
    """Darksound's second version: densMAP to `dimensions`, DBSCAN with eps at the knee of the nearest neighbour's distance."""
    fixed: dict[str, Any] = {"scale": "none", "reduce": "umap", "dimensions": dimensions, "min_dist": 0.1, "densmap": True}
    return GroupingSettings(**{**fixed, "method": "dbscan", "knee": "nearest", **changed})
