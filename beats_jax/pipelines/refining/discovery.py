"""An output of `discover`, opened to be refined: its regions, their vectors, and the recordings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.datasets.tables.cells import numbers
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.refinements import REGIONS_FILE, RefinedCluster
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.group import group
from beats_jax.files import require_below
from beats_jax.json_files import read_json
from beats_jax.pipelines.discovering.discover import RECORD
from beats_jax.pipelines.discovering.items import open_items
from beats_jax.pipelines.discovering.settings import default_grouping

MOST_PARTS = 20


@dataclass(frozen=True, eq=False)
class Discovery:
    """N regions.

    Attributes:
      folder: of the output. regions: as events, labels are the first names of clusters. membership: float [N].
      ranks: int [N], 1 = the best representative, 0 = none.
      audio: folder of the recordings, outside of which none is opened; None = where the table says they are.
    """

    folder: Path
    regions: Events
    membership: np.ndarray
    ranks: np.ndarray
    audio: Path | None = None

    @cached_property
    def names(self) -> list[str]:
        """The cluster of each region as `discover` wrote it."""
        return self.regions.labels.tolist()

    @cached_property
    def vectors(self) -> np.ndarray:
        """float32 [N, D], read when a cluster is split. Raises `UserError` where they are gone, or of other regions."""
        record = read_json(self.folder / RECORD, dict)
        sounds = record.get("sounds") if isinstance(record.get("sounds"), dict) else {}
        items = open_items(sounds.get("embeddings") or self.folder, _column(record))
        same = len(items) == len(self.regions) and np.allclose(items.frame["start"], self.regions.starts, atol=1e-5)
        if not same:
            raise UserError(f"the embeddings of {self.folder} are no longer those of {REGIONS_FILE}; run discover again")
        return items.vectors

    @cached_property
    def _paths(self) -> dict[str, str]:
        names = list(dict.fromkeys(self.regions.files.tolist()))
        return locate_recordings(names, self.audio) if self.audio else {name: name for name in names}

    @cached_property
    def highest_hz(self) -> float:
        """Up to which frequency pictures show: a third above nearly all regions; 0 = all, where regions have no bounds."""
        high = self.regions.high_hz[np.isfinite(self.regions.high_hz)]
        return 1.33 * float(np.percentile(high, 99)) if len(high) else 0.0

    def in_order(self, cluster: RefinedCluster) -> np.ndarray:
        """The rows of a cluster: representatives first, then by membership."""
        rows = cluster.rows
        ranks = np.where(self.ranks[rows] > 0, self.ranks[rows], np.iinfo(np.int64).max)
        return rows[np.lexsort([-self.membership[rows], ranks])]

    def split(self, cluster: RefinedCluster, parts: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
        """The rows of a cluster in so many parts, the largest first, by K-means of their vectors.

        Raises:
          UserError: fewer different regions than parts, or vectors that are gone.
        """
        rows = cluster.rows
        if not 2 <= parts <= MOST_PARTS:
            raise UserError(f"a cluster is split into 2 to {MOST_PARTS} parts, not {parts}")
        vectors = self.vectors[rows]
        usable = np.isfinite(vectors).all(axis=1)
        settings = default_grouping({"method": "kmeans", "clusters": parts, "seed": seed})
        labels = group(vectors[usable], settings).labels if usable.sum() >= parts else np.zeros(0, np.int32)
        if labels.max(initial=0) + 1 < parts:
            raise UserError(f"{cluster.name} has too few different sounds for {parts} parts")
        everywhere = np.zeros(len(rows), np.int64)
        everywhere[usable] = labels
        return tuple(tuple(rows[everywhere == part].tolist()) for part in range(parts))

    def recording(self, row: int) -> Path:
        """The file of a region.

        Raises:
          UserError: it is missing, or lies outside of `audio`.
        """
        return require_below(Path(self._paths[str(self.regions.files[row])]), self.audio, "--audio")


def _column(record: dict[str, object]) -> str | None:
    settings = record.get("settings")
    return (settings.get("column") or None) if isinstance(settings, dict) else None


def open_discovery(folder: Path, audio: str = "") -> Discovery:
    """Opens an output of `discover`.

    Raises:
      UserError: nothing there, a damaged table, or no region.
    """
    if not (folder / REGIONS_FILE).is_file():
        raise UserError(f"--clusters {folder} holds no {REGIONS_FILE}; give the --output of python -m beats_jax.discover")
    if audio and not Path(audio).is_dir():
        raise UserError(f"--audio {audio} is no folder; give the folder of the recordings")
    table = read_table(folder / REGIONS_FILE)
    table.require_columns(("file", "start", "end", "name", "membership", "representative"))
    read = {name: numbers(table[name], name, table, needed=True) for name in ("start", "end", "membership", "representative")}
    bounds = {name: numbers(table[name], name, table, needed=False) for name in ("low_hz", "high_hz") if name in table}
    regions = Events.from_columns(table["file"], read["start"], read["end"], table["name"], scores=read["membership"], **bounds)
    return Discovery(folder, regions, read["membership"], read["representative"].astype(np.int64), Path(audio) if audio else None)
