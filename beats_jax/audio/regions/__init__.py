"""Regions of interest: sounds that stand out of the background of a recording, as boxes in time and frequency."""

from beats_jax.audio.regions.finding import find_regions, stream_regions, suggested_settings, waveform_regions
from beats_jax.audio.regions.search import Region
from beats_jax.audio.regions.settings import BAMBIRD, RegionSettings

__all__ = ["BAMBIRD", "Region", "RegionSettings", "find_regions", "stream_regions", "suggested_settings", "waveform_regions"]
