"""How regions of interest are found: settings with units, and the names that bambird and darksound give them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np

from beats_jax.config.rules import Settings, bounded, one_of, require
from beats_jax.config.validation import from_mapping, nearest, to_mapping
from beats_jax.errors import UserError

T = TypeVar("T")

BAMBIRD_NAMES = {  # PARAMS_EXTRACT of bambird and darksound → ours
    "SAMPLE_RATE": "sample_rate",
    "LOW_FREQ": "low_hz",
    "HIGH_FREQ": "high_hz",
    "BUTTER_ORDER": "filter_order",
    "AUDIO_DURATION": "first_seconds",
    "CHUNK_DURATION": "chunk_seconds",
    "MODE_RMBCKG": "background",
    "N_RUNNING_MEAN": "smooth_rows",
    "NFFT": "fft_samples",
    "MASK_PARAM1": "seed_db",
    "MASK_PARAM2": "edge_db",
    "MAX_RATIO_YX": "max_ratio",
    "MIN_DURATION": "min_seconds",
    "MARGIN_T_LEFT": "join_seconds",
    "MARGIN_F_BOTTOM": "join_hz",
}
# What upstream reads elsewhere or never: the right and top margins have no effect there, and the others concern clips.
NOT_OF_BOXES = ("FUNC", "OVLP", "MARGIN_T_RIGHT", "MARGIN_F_TOP", "MARGIN_T", "MARGIN_F", "FILTER_ORDER")


@dataclass(frozen=True)
class RegionSettings(Settings):
    """Settings of `find_regions`. Those that are None are suggested from the sound (`suggest`).

    Attributes:
      sample_rate: Hz to which recordings are resampled; 0 = their own rate.
      channel: mean, or the number of one counted from 0.
      low_hz, high_hz: band that is searched; what lies above half the rate does not exist.
      filter_order: of a Butterworth band-pass that runs forth and back; 0 = none, the band is cut from the spectrogram.
      fft_samples: length of a Hann window, half of which is the hop.
      first_seconds: only the start of a recording is searched; 0 = all of it.
      chunk_seconds: length of the stretches whose background is estimated at a time.
      separate_chunks: True: boxes end where stretches do, as upstream; False: they go on.
      range_db: what lies so far below full scale counts as silence. A sine of full scale has -5 dB; the rounding of 16 bits
        makes about -128 dB in each pixel of a window of 1024 samples.
      background: of a row of the spectrogram in a stretch: its median or mean in dB, or "quiet", the level that a fifth of the
        frames stay below, raised to where the median of Gaussian noise lies: it holds when a sound fills most of the stretch.
      smooth_rows: rows of the running mean over the background.
      seed_db: a region reaches so far above the background; edge_db: and has so much in all its pixels.
      depth_db: and what lies so far below its loudest pixel does not belong to it; 0 = no such rule.
      join_seconds, join_hz: gaps up to twice these are closed.
      join_harmonics: boxes that start and end together become one, whatever their frequencies.
      min_seconds: regions as short or shorter are dropped. max_seconds: longer ones are cut.
      max_ratio: boxes with a height of so many times their width in pixels are dropped; 0 = none.
    """

    GROUP: ClassVar[str] = "regions"
    sample_rate: int = bounded(0, ge=0, le=2**24)
    channel: str = "mean"
    low_hz: float | None = None
    high_hz: float | None = None
    filter_order: int = bounded(0, ge=0, le=20)
    fft_samples: int | None = None
    first_seconds: float = bounded(0.0, ge=0)
    chunk_seconds: float = bounded(10.0, gt=0, le=3600)
    separate_chunks: bool = False
    range_db: float | None = None
    background: str = one_of("median", "quiet", "mean")
    smooth_rows: int = bounded(3, ge=1, le=10_000)
    seed_db: float | None = None
    edge_db: float | None = None
    depth_db: float | None = None
    join_seconds: float | None = None
    join_hz: float | None = None
    join_harmonics: bool | None = None
    min_seconds: float | None = None
    max_seconds: float = bounded(60.0, gt=0, le=3600)
    max_ratio: float = bounded(0.0, ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low_hz", "high_hz", "seed_db", "edge_db", "depth_db", "join_seconds", "join_hz", "min_seconds"):
            value = getattr(self, name)
            require(value is None or 0 <= value < math.inf, f"regions.{name} is {value}; it must not be negative")
        require(self.low_hz is None or self.high_hz is None or self.low_hz < self.high_hz, f"regions: {self._band()}")
        require(self.fft_samples is None or 8 <= self.fft_samples <= 2**20, f"regions.fft_samples is {self.fft_samples}")
        require(self.range_db is None or math.isfinite(self.range_db), f"regions.range_db is {self.range_db}; it must be finite")
        edge, seed = self.edge_db, self.seed_db
        require(edge is None or seed is None or edge <= seed, f"regions.edge_db is {edge}, above seed_db {seed}; lower it")

    def _band(self) -> str:
        return f"low_hz is {self.low_hz}, high_hz {self.high_hz}; the lower one must be below"

    def complete(self) -> bool:
        """Whether nothing is left to be suggested."""
        return all(getattr(self, one.name) is not None for one in fields(self))


def given(value: T | None) -> T:
    """A value that is not left to be suggested. Raises `ValueError` for None."""
    if value is None:
        raise ValueError("settings must be complete; `suggest` completes them")
    return value


BAMBIRD = RegionSettings(  # its defaults, but for AUDIO_DURATION: all of a recording is searched
    sample_rate=48_000,
    low_hz=250.0,
    high_hz=12_000.0,
    filter_order=1,
    fft_samples=1024,
    separate_chunks=True,
    range_db=96.0,
    background="median",
    smooth_rows=10,
    seed_db=26.0,
    edge_db=10.0,
    depth_db=0.0,
    join_seconds=0.2,
    join_hz=250.0,
    join_harmonics=False,
    min_seconds=0.1,
    max_ratio=7.0,
)


def with_options(settings: RegionSettings | None, options: Mapping[str, Any]) -> RegionSettings:
    """Settings with some replaced, under our names or upstream's.

    Args:
      settings: None = `BAMBIRD` where a name is upstream's, so that its options give its boxes; else those that are suggested.
    Raises:
      UserError: an unknown name, two names of one setting, or a value of the wrong type or out of range.
    """
    known = [one.name for one in fields(RegionSettings)]
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name in NOT_OF_BOXES:
            continue
        ours = BAMBIRD_NAMES.get(name, name)
        require(ours not in values, f"{ours} is given twice, under upstream's name too")
        if ours not in known:
            raise UserError(f"unknown option {name}; {nearest(name, [*known, *BAMBIRD_NAMES])}")
        value = value.item() if isinstance(value, np.generic) else value
        values[ours] = value if value is not None or ours != "max_ratio" else 0.0  # upstream's None: no rule
    upstreams = any(name in BAMBIRD_NAMES or name in NOT_OF_BOXES for name in options)
    begun = settings or (BAMBIRD if upstreams else RegionSettings())
    return from_mapping(RegionSettings, {**to_mapping(begun), **values}, RegionSettings.GROUP)
