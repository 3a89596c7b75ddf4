"""What `discover` is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from beats_jax.audio.regions import RegionSettings
from beats_jax.config.rules import require
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.inference.sources import FILTERBANK
from beats_jax.pipelines.window_job import ReadSettings

# Columns of a vector have one unit (dB above the background, features of a layer): on a common range those without any sound weigh
# as much as those with it; of 28 calls of two kinds in noise HDBSCAN finds no cluster by `minmax`. Length 1 leaves loudness out.
SCALE = "l2"


@dataclass(frozen=True)
class DiscoverSettings(ReadSettings):
    """Which sounds are sought and grouped, and what becomes of the groups; see `python -m beats_jax.discover --help`.

    Attributes:
      smallest: sounds of the smallest cluster; 0 = by their number (`smallest_cluster`). `grouping.smallest` is not read.
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
    grouping: GroupingSettings = field(default_factory=partial(GroupingSettings, scale=SCALE))
    smallest: int = 0
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
        require(self.smallest == 0 or self.smallest >= 2, f"--smallest is {self.smallest}; it must be 2 or more")

    def grouping_of(self, sounds: int) -> GroupingSettings:
        """How so many sounds are grouped."""
        return replace(self.grouping, smallest=self.smallest or smallest_cluster(sounds))


def smallest_cluster(sounds: int) -> int:
    """Sounds of the smallest cluster: a quarter of the root of their number, 4 at least.

    6 of some 600 sounds, as upstream has it; 4 of thirty, among which 6 is too many; 79 of 100,000, where 6 makes thousands.
    """
    return max(4, round(0.25 * sounds**0.5))
