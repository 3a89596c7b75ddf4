"""Regions cut out of their recording, with margins, and filtered to their band where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from beats_jax.audio.io import audio_info, read, write_wav
from beats_jax.audio.recording import AnyPath
from beats_jax.audio.regions.search import Region
from beats_jax.config.rules import Settings, bounded

SHORTEST_BAND = 1e-3  # of half the rate, between the edges of the filter


@dataclass(frozen=True)
class ClipSettings(Settings):
    """How regions are cut. The defaults are bambird's, without its filter.

    Attributes:
      margin_seconds: before and behind the region (MARGIN_T), where the recording has it.
      filter_order: of a Butterworth band-pass that runs forth and back (FILTER_ORDER, 5 there); 0 = none, all of the band stays.
      margin_hz: by which the pass band is wider than the region (MARGIN_F).
      sample_rate: of the clips in Hz; 0 = the recording's own.
      channel: mean, or the number of one counted from 0.
    """

    GROUP: ClassVar[str] = "clips"
    margin_seconds: float = bounded(0.1, ge=0)
    filter_order: int = bounded(0, ge=0, le=20)
    margin_hz: float = bounded(250.0, ge=0)
    sample_rate: int = bounded(0, ge=0, le=2**24)
    channel: str = "mean"


def region_clips(
    path: AnyPath, regions: Iterable[Region], settings: ClipSettings | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """(float32 [samples], rate in Hz) of each region of a recording, in their order.

    Raises:
      AudioError: the recording cannot be read.
    """
    settings = settings or ClipSettings()
    rate = settings.sample_rate or audio_info(path).sample_rate
    for one in regions:
        start = max(0.0, one.start - settings.margin_seconds)
        seconds = max(one.end + settings.margin_seconds - start, 1.0 / rate)
        clip = read(path, sample_rate=rate, start_seconds=start, seconds=seconds, channel=settings.channel)
        yield (
            band_pass(clip, rate, one.low_hz - settings.margin_hz, one.high_hz + settings.margin_hz, settings.filter_order),
            rate,
        )


def write_clips(path: AnyPath, regions: Iterable[Region], folder: Path, settings: ClipSettings | None = None) -> list[Path]:
    """Writes each region as `{recording}_{number}_{start}s.wav` (16 bit) into a folder; the files, in order.

    Raises:
      AudioError: the recording cannot be read. UserError: no room to write.
    """
    regions = list(regions)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (one, (clip, rate)) in enumerate(zip(regions, region_clips(path, regions, settings), strict=True)):
        files.append(folder / f"{Path(path).stem}_{number:05d}_{one.start:.3f}s.wav")
        write_wav(files[-1], clip, rate)
    return files


def band_pass(clip: np.ndarray, rate: int, low_hz: float, high_hz: float, order: int) -> np.ndarray:
    """A clip float32 [n] filtered forth and back; an edge at or below 0, or at or above half the rate, is none."""
    from scipy.signal import butter, sosfiltfilt

    half = rate / 2
    edges = [hz for hz in (low_hz, high_hz) if 0 < hz < half]
    if not order or not edges or (len(edges) == 2 and edges[1] - edges[0] < SHORTEST_BAND * half):
        return clip
    kind = "bandpass" if len(edges) == 2 else "highpass" if edges[0] == low_hz else "lowpass"
    sections = np.asarray(butter(order, edges if len(edges) == 2 else edges[0], kind, output="sos", fs=rate))
    padding = min(3 * (2 * len(sections) + 1), len(clip) - 1)
    return np.asarray(sosfiltfilt(sections, clip, padlen=padding), np.float32)
