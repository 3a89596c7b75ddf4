"""Regions of interest in a recording: a file of any length, or a waveform."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from beats_jax.audio.io import audio_info, blocks, read
from beats_jax.audio.recording import AnyPath, AudioError
from beats_jax.audio.regions.levels import make_plan
from beats_jax.audio.regions.search import Region, search
from beats_jax.audio.regions.settings import RegionSettings, with_options
from beats_jax.audio.regions.suggest import suggest
from beats_jax.audio.resampling import resample
from beats_jax.config.rules import require
from beats_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("start", "end", "low_hz", "high_hz", "snr_db")
EXCERPT_SECONDS = 10.0
MOST_EXCERPTS = 12


def find_regions(
    sound: AnyPath | ArrayLike, settings: RegionSettings | None = None, *, sample_rate: int | None = None, **options: Any
) -> pd.DataFrame:
    """The regions of interest of one recording, by start: boxes in time and frequency that stand out of the background.

    Args:
      sound: an audio file, or a waveform float [samples] with its `sample_rate` in Hz.
      sample_rate: of the waveform; of a file: the rate to which it is resampled, None = its own.
      options: settings by name, ours (`RegionSettings`) or bambird's (`LOW_FREQ=250, MASK_PARAM1=26`); with one of those, what is
        not given is as in bambird (`BAMBIRD`) instead of suggested.
    Returns:
      DataFrame with start, end (seconds), low_hz, high_hz, snr_db (`Region`); without rows where nothing stands out.
    Raises:
      AudioError: the file cannot be read, or its rate has nothing in the band.
      UserError: a setting out of range or of no known name; a waveform that is none.
    """
    import pandas as pd

    chosen = with_options(settings, options)
    if isinstance(sound, str | os.PathLike):
        found = stream_regions(sound, chosen if sample_rate is None else with_options(chosen, {"sample_rate": sample_rate}))
    else:
        found = waveform_regions(np.asarray(sound), sample_rate or 0, chosen)
    rows = [(one.start, one.end, one.low_hz, one.high_hz, one.snr_db) for one in found]
    return pd.DataFrame(np.array(rows, np.float64).reshape(-1, len(COLUMNS)), columns=list(COLUMNS))


def stream_regions(path: AnyPath, settings: RegionSettings | None = None) -> Iterator[Region]:
    """The regions of a recording of any length, by start, in memory for about a minute of it.

    Settings that are None are suggested from this recording alone; `suggested_settings` does so for many together.

    Raises:
      AudioError: as `find_regions`, when the damage is reached.
    """
    settings = settings or RegionSettings()
    rate = settings.sample_rate or audio_info(path).sample_rate
    if not settings.complete():
        settings = suggest(excerpts([path], settings)[rate], rate, settings)
    plan = make_plan(rate, settings)
    if not len(plan.hz):
        raise AudioError(path, _no_band(rate, settings))
    read = blocks(path, sample_rate=rate, channel=settings.channel, end_seconds=settings.first_seconds or None)
    yield from search(read, plan, settings)


def waveform_regions(waveform: np.ndarray, sample_rate: int, settings: RegionSettings | None = None) -> Iterator[Region]:
    """The regions of a waveform float [samples]. Raises `UserError` as `find_regions`."""
    settings = settings or RegionSettings()
    require(sample_rate >= 1, "a waveform needs sample_rate=, its rate in Hz")
    require(
        waveform.ndim == 1 and len(waveform) > 0 and np.issubdtype(waveform.dtype, np.floating),
        f"a waveform must be floats [samples], this is {waveform.dtype} {list(waveform.shape)}",
    )
    require(bool(np.isfinite(waveform).all()), "the waveform has NaN or infinite samples")
    rate = settings.sample_rate or sample_rate
    sound = resample(waveform.astype(np.float32, copy=False), sample_rate, rate)
    sound = sound[: round(settings.first_seconds * rate)] if settings.first_seconds else sound
    step = round(EXCERPT_SECONDS * rate)
    if not settings.complete():
        starts = _spread(len(sound) / rate, MOST_EXCERPTS)
        settings = suggest([sound[round(start * rate) :][:step] for start in starts], rate, settings)
    plan = make_plan(rate, settings)
    if not len(plan.hz):
        raise UserError(f"the waveform {_no_band(rate, settings)}")
    return search((sound[place : place + step] for place in range(0, len(sound), step)), plan, settings)


def suggested_settings(paths: Sequence[AnyPath], settings: RegionSettings | None = None) -> dict[int, RegionSettings]:
    """Complete settings for recordings, for each of their rates in Hz, from stretches of some of them.

    Files that cannot be read are left out; a rate that only they have is absent.
    """
    settings = settings or RegionSettings()
    found = excerpts(paths, settings, skip_bad=True)
    return {rate: suggest(stretches, rate, settings) for rate, stretches in found.items()}


def excerpts(paths: Sequence[AnyPath], settings: RegionSettings, skip_bad: bool = False) -> dict[int, list[np.ndarray]]:
    """Rate in Hz → at most a dozen stretches of up to 10 s, float32 [n], evenly over files of that rate and over their length.

    Raises:
      AudioError: a file cannot be read, unless `skip_bad`.
    """
    infos: dict[int, list[tuple[AnyPath, float]]] = {}
    for path in paths:
        try:
            info = audio_info(path)
        except AudioError:
            if not skip_bad:
                raise
            continue
        infos.setdefault(settings.sample_rate or info.sample_rate, []).append((path, info.seconds))
    return {rate: list(_read_excerpts(files, rate, settings, skip_bad)) for rate, files in infos.items()}


def _read_excerpts(
    files: Sequence[tuple[AnyPath, float]], rate: int, settings: RegionSettings, skip_bad: bool
) -> Iterator[np.ndarray]:
    chosen = [files[round(place)] for place in np.linspace(0, len(files) - 1, min(len(files), MOST_EXCERPTS))]
    for path, seconds in chosen:
        length = min(seconds, settings.first_seconds) if settings.first_seconds else seconds
        for start in _spread(length, max(1, MOST_EXCERPTS // len(chosen))):
            try:
                yield read(path, sample_rate=rate, start_seconds=start, seconds=EXCERPT_SECONDS, channel=settings.channel)
            except AudioError:
                if not skip_bad:
                    raise


def _spread(seconds: float, most: int) -> list[float]:
    """Starts of at most so many stretches, evenly over a length; one behind the other where they cover it."""
    count = max(1, min(most, math.ceil(seconds / EXCERPT_SECONDS)))
    last = max(0.0, seconds - EXCERPT_SECONDS)
    return [last * place / max(1, count - 1) for place in range(count)] if count > 1 else [0.0]


def _no_band(rate: int, settings: RegionSettings) -> str:
    band = f"{settings.low_hz:g} to {settings.high_hz:g} Hz"
    return f"of {rate} Hz has nothing in the band {band}: it ends at {rate / 2:g} Hz; lower low_hz"
