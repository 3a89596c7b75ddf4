"""The settings of `discover`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from beats_jax.audio.regions import RegionSettings
from beats_jax.config import from_mapping
from beats_jax.config.rules import require
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.inference.sources import FILTERBANK
from beats_jax.pipelines.window_job import ReadSettings

# Chosen on finch notes and a day in a forest (docs/discovery.md). Columns of a vector have one unit (dB above the background,
# features of a layer): on a common range those without any sound weigh as much as those with it, and of 28 calls of two kinds in
# noise HDBSCAN finds no cluster. With `min_samples` as large as the smallest cluster half of all sounds are in none.
DEFAULTS: Mapping[str, Any] = {"scale": "none", "dimensions": 8}
TREES = ("hdbscan", "fast_hdbscan")  # methods that cut a tree of densities
DENSE_ROWS = 3  # that make a place dense for them


def default_grouping(given: Mapping[str, Any]) -> GroupingSettings:
    """How sounds are grouped where `given` says nothing else. Raises `UserError` for an unknown setting or a wrong value."""
    dense = {"min_samples": DENSE_ROWS} if given.get("method", TREES[0]) in TREES else {}
    return from_mapping(GroupingSettings, {**DEFAULTS, **dense, **given}, "--group")


@dataclass(frozen=True)
class DiscoverSettings(ReadSettings):
    """Which sounds are sought and grouped, and what becomes of the groups; see `python -m beats_jax.discover --help`.

    Attributes:
      smallest: sounds of the smallest cluster; 0 = by their number (`smallest_cluster`). `grouping.smallest` is not read.
      iterations: times that an encoder learns from the clusters, and clusters are sought anew; fewer where they settle.
      margin: seconds of the recording before and behind a region that are embedded with it.
      column: of an output of `embed`, where it has several. labels: table of known labels; reference: folder of known sounds;
        "" = none. formats: names of `datasets.tables.registry.TABLES`.
      representatives, members: sounds of each cluster on the page, the nearest to its middle and others drawn at random.
    Raises:
      UserError: a number out of its range.
    """

    model: str = FILTERBANK
    layer: int = -1
    pooling: str = "mean"
    dtype: str = "auto"
    margin: float = 0.0
    regions: RegionSettings = field(default_factory=RegionSettings)
    grouping: GroupingSettings = field(default_factory=lambda: default_grouping({}))
    smallest: int = 0
    iterations: int = 0
    column: str = ""
    labels: str = ""
    reference: str = ""
    formats: tuple[str, ...] = ("raven", "audacity")
    representatives: int = 3
    members: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.margin <= 60, f"--margin is {self.margin:g}; it must be from 0 to 60 seconds")
        require(1 <= self.representatives <= 100, f"--representatives is {self.representatives}; it must be from 1 to 100")
        require(0 <= self.members <= 100, f"--members is {self.members}; it must be from 0 to 100")
        require(0 <= self.iterations <= 1000, f"--iterations is {self.iterations}; it must be from 0 to 1000")
        require(self.smallest == 0 or self.smallest >= 2, f"--smallest is {self.smallest}; it must be 2 or more")

    def grouping_of(self, sounds: int) -> GroupingSettings:
        """How so many sounds are grouped."""
        return replace(self.grouping, smallest=self.smallest or smallest_cluster(sounds))


def smallest_cluster(sounds: int) -> int:
    """Sounds of the smallest cluster: a quarter of the root of their number, 4 at least.

    6 of some 600 sounds, as upstream has it; 4 of thirty, among which 6 is too many; 79 of 100,000, where 6 makes thousands.
    """
    return max(4, round(0.25 * sounds**0.5))
