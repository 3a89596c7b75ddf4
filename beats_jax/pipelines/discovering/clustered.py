"""The clusters of sounds, and what is known of each: size, figures, frequencies, sites and hours, who stands for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.datasets.tables.refinements import UNCLUSTERED
from beats_jax.evaluation.embeddings.clusters import NOISE
from beats_jax.evaluation.embeddings.patterns import clocks
from beats_jax.pipelines.discovering.items import Items
from beats_jax.pipelines.discovering.members import cluster_rows

if TYPE_CHECKING:
    import pandas as pd

SHOWN_PLACES = 10  # sites and hours that clusters.csv names


def cluster_names(count: int) -> list[str]:
    """c01, c02, ...: sorted as texts, they are in order."""
    width = max(2, len(str(count)))
    return [f"c{number + 1:0{width}d}" for number in range(count)]


@dataclass(frozen=True, eq=False)
class Clustered:
    """N sounds in C clusters, the largest first.

    Attributes:
      items: the sounds. labels: int [N], -1 = in no cluster. membership: float [N], 0 to 1.
      points: float [N, K], the space in which clusters were sought. ranks: int [N], 1 = the best representative, 0 = none.
      novelty: float [N], NaN without a reference. known: texts [N], known labels, "" = none; () where no table was given.
      stability, silhouettes: float [C], NaN = not known.
      figures: of the whole, fit for JSON; None = undefined.
    """

    items: Items
    labels: np.ndarray
    membership: np.ndarray
    points: np.ndarray
    ranks: np.ndarray
    novelty: np.ndarray
    known: tuple[str, ...]
    stability: np.ndarray
    silhouettes: np.ndarray
    figures: dict[str, float | int | str | None]

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The rows of each cluster."""
        return cluster_rows(self.labels)

    @cached_property
    def names(self) -> list[str]:
        """Of the clusters."""
        return cluster_names(len(self.rows))

    @cached_property
    def row_names(self) -> list[str]:
        """The name of the cluster of each row."""
        return [self.names[label] if label != NOISE else UNCLUSTERED for label in self.labels.tolist()]

    @cached_property
    def times(self) -> list[datetime | None]:
        """Wall time at which each sound begins."""
        frame = self.items.frame
        return clocks(frame["recorded_at"].tolist(), frame["start"].to_numpy())

    def representatives(self, cluster: int) -> np.ndarray:
        """The rows that stand for a cluster, the best first."""
        rows = self.rows[cluster]
        chosen = rows[self.ranks[rows] > 0]
        return chosen[np.argsort(self.ranks[chosen], kind="stable")]


def region_table(found: Clustered) -> pd.DataFrame:
    """A row a sound: regions.csv, as design.md §5 has it, and the name of its cluster; known_label where labels are known."""
    import pandas as pd

    frame = found.items.frame
    columns = {name: frame[name] for name in ("file", "start", "end", "low_hz", "high_hz", "snr_db")}
    own = {
        "cluster": found.labels.astype(np.int64),
        "membership": np.round(found.membership.astype(np.float64), 4),
        "representative": found.ranks,
        "novelty": np.round(found.novelty, 4),
        "name": found.row_names,
    }
    table = pd.DataFrame({**columns, **own})
    for name in ("start", "end"):
        table[name] = table[name].round(6)
    for name in ("low_hz", "high_hz", "snr_db"):
        table[name] = table[name].round(1)
    if found.known:
        table["known_label"] = list(found.known)
    return table


def cluster_table(found: Clustered) -> pd.DataFrame:
    """A row a cluster, the largest first: clusters.csv."""
    import pandas as pd

    return pd.DataFrame([_cluster_row(found, cluster) for cluster in range(len(found.rows))], columns=_columns(found))


def _columns(found: Clustered) -> list[str]:
    return [
        *("cluster", "name", "size", "share", "stability", "silhouette", "recordings"),
        *("low_hz", "high_hz", "seconds", "snr_db", "novelty", "representative_file", "representative_start"),
        *("representative_end", "representative_time", "sites", "hours"),
        *(("known_label", "known_share") if found.known else ()),
    ]


def _cluster_row(found: Clustered, cluster: int) -> list[object]:
    rows, best = found.rows[cluster], int(found.representatives(cluster)[0])
    frame = found.items.frame.iloc[rows]
    first = found.items.frame.iloc[best]
    time = found.times[best]
    sites = Counter(site for site in frame["site"] if site)
    hours = Counter(f"{time.hour:02d}" for time in (found.times[row] for row in rows.tolist()) if time is not None)
    medians = [_median(frame[name].to_numpy()) for name in ("low_hz", "high_hz")]
    seconds, snr = _median((frame["end"] - frame["start"]).to_numpy(), 3), _median(frame["snr_db"].to_numpy())
    share = len(rows) / max(1, len(found.items))
    return [
        *(cluster, found.names[cluster], len(rows), round(share, 4)),
        *(round(float(found.stability[cluster]), 4), round(float(found.silhouettes[cluster]), 4), frame["file"].nunique()),
        *(*medians, seconds, snr, _median(found.novelty[rows], 4)),
        *(first["file"], round(float(first["start"]), 6), round(float(first["end"]), 6)),
        *("" if time is None else time.isoformat(timespec="seconds"), _counts(sites), _counts(hours)),
        *(_likeliest([found.known[row] for row in rows.tolist()]) if found.known else ()),
    ]


def _median(values: np.ndarray, digits: int = 1) -> float:
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), digits) if len(finite) else float("nan")


def _counts(counts: Counter[str]) -> str:
    """`05: 12, 06: 30`, in order of the names; the most frequent ones where there are many."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.most_common(SHOWN_PLACES)))


def _likeliest(labels: list[str]) -> tuple[str, float]:
    """The most frequent known label of a cluster, and its share of those that have one."""
    known = Counter(label for label in labels if label)
    if not known:
        return "", float("nan")
    (label, count), *_ = known.most_common(1)
    return label, round(count / known.total(), 4)


def hour_table(found: Clustered) -> pd.DataFrame:
    """Regions by cluster, site and hour of the recorder's clock: hours.csv. Sounds without a clock are left out."""
    import pandas as pd

    sites = found.items.frame["site"].tolist()
    counts = Counter(
        (int(label), sites[row] or "", time.hour)
        for row, (label, time) in enumerate(zip(found.labels.tolist(), found.times, strict=True))
        if time is not None
    )
    lines = [
        (cluster, found.names[cluster] if cluster != NOISE else UNCLUSTERED, site, hour, count)
        for (cluster, site, hour), count in sorted(counts.items())
    ]
    return pd.DataFrame(lines, columns=["cluster", "name", "site", "hour", "regions"])
