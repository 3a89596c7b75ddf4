"""How regions become vectors: the mel bands of a region above the background of its recording, or a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import AudioError, audio_info, read
from beats_jax.config import AudioConfig
from beats_jax.inference.files import HEADERS
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import WINDOW_SECONDS
from beats_jax.inference.region_program import RegionProgram, background_of
from beats_jax.inference.sources import FILTERBANK, VectorSource, audio_for_rate, filterbank_source, open_source
from beats_jax.pipelines.discovering.settings import DiscoverSettings

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "embedding"
EXCERPTS, EXCERPT_SECONDS = 6, 10.0  # of a recording, in which its background is measured


@dataclass(frozen=True)
class Encoder:
    """What embeds regions.

    Attributes:
      audio: its front-end. width: of a vector. identity: all that vectors depend on, fit for JSON. grid: its longest windows.
      source: rows of regions (file, low_hz, high_hz, ...) → the program for them.
    """

    audio: AudioConfig
    width: int
    identity: dict[str, Any]
    grid: Grid
    source: Callable[[pa.Table], VectorSource]


def open_encoder(settings: DiscoverSettings, names: Sequence[str]) -> Encoder:
    """That of the settings. names: of the recordings. Raises `UserError` for an unknown model, layer or pooling."""
    if settings.model == FILTERBANK and (settings.layer, settings.pooling) == (-1, "mean"):
        audio = audio_for_rate(usual_rate(names))
        bank = audio.filterbank
        print(f"mel bands at {bank.sample_rate} Hz, frames of {bank.frame_length_ms:.3g} ms", flush=True)
        plain, nothing = filterbank_source(audio), np.zeros(0, np.float32)
        empty = RegionProgram(audio, np.zeros((0, bank.num_mel_bins), np.float32), nothing, nothing, nothing)
        source = partial(_band_source, audio=audio, threads=settings.threads)
        return Encoder(audio, plain.widths[COLUMN], empty.identity(), Grid(WINDOW_SECONDS), source)
    print("loading the model ...", flush=True)
    found, grid, _ = open_source(
        settings.model, (settings.layer,), (settings.pooling,), logits=False, dtype=settings.dtype, window=None, hop=None
    )
    return Encoder(found.program.audio, found.widths[COLUMN], found.program.identity(), grid, lambda rows: found)


def usual_rate(names: Sequence[str]) -> int:
    """The most frequent sample rate of the recordings, by the headers of some; 16 kHz where none can be read."""
    rates: Counter[int] = Counter()
    for name in names[:: -(-len(names) // HEADERS)]:
        try:
            rates[audio_info(name).sample_rate] += 1
        except (AudioError, OSError):
            continue  # listed when it is searched
    return rates.most_common(1)[0][0] if rates else 16_000


def _band_source(rows: pa.Table, audio: AudioConfig, threads: int) -> VectorSource:
    files = rows["file"].to_pylist()
    names = list(dict.fromkeys(files))
    place = {name: number for number, name in enumerate(names)}
    print(f"measuring the background of {len(names)} recordings ...", flush=True)
    with ThreadPoolExecutor(threads) as pool:
        backgrounds = np.stack(list(pool.map(partial(recording_background, audio=audio), names)))
    bounds = [rows[name].to_numpy().astype(np.float32) for name in ("low_hz", "high_hz")]
    program = RegionProgram(audio, backgrounds, np.array([place[file] for file in files], np.int32), *bounds)
    return replace(filterbank_source(audio), program=program)


def recording_background(name: str, audio: AudioConfig) -> np.ndarray:
    """float32 [M]: the background of a recording, by excerpts evenly over it; zeros where none can be read."""
    rate = audio.sample_rate
    samples = round(EXCERPT_SECONDS * rate)
    try:
        seconds = audio_info(name).seconds
        count = min(EXCERPTS, max(1, math.ceil(seconds / EXCERPT_SECONDS)))
        starts = np.linspace(0, max(0.0, seconds - EXCERPT_SECONDS), count)
        places = {"sample_rate": rate, "channel": audio.channel, "seconds": EXCERPT_SECONDS}
        excerpts = [read(name, start_seconds=float(start), **places)[:samples] for start in starts]
    except (AudioError, OSError):
        return np.zeros(audio.filterbank.num_mel_bins, np.float32)  # its regions are listed when they are read
    return background_of(audio, excerpts, samples)
