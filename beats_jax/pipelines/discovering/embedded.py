"""Recordings to regions with vectors, in a folder that a later call adds to: the part of `discover` that takes hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beats_jax.audio.io import AudioError, audio_info
from beats_jax.audio.regions import RegionSettings, find_regions
from beats_jax.audio.regions.finding import suggested_settings
from beats_jax.config import from_mapping, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.inference.files import HEADERS, rate_notes
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import WINDOW_SECONDS
from beats_jax.inference.sources import FILTERBANK, VectorSource, audio_for_rate, filterbank_source, open_source
from beats_jax.json_files import read_json
from beats_jax.pipelines.discovering.items import Items, open_items
from beats_jax.pipelines.discovering.regions import REGIONS, store_regions
from beats_jax.pipelines.discovering.settings import DiscoverSettings
from beats_jax.pipelines.discovering.vectors import EMBEDDINGS, store_vectors, vector_identity
from beats_jax.pipelines.training.workdir import write_json
from beats_jax.pipelines.window_job import find_recordings

if TYPE_CHECKING:
    import pandas as pd

SUGGESTED = "region_settings.json"  # settings of regions for each rate, as they were suggested when the job began
SUGGEST_FILES = 500  # recordings that are opened for the suggestions


def embed_regions(settings: DiscoverSettings, output: Path, errors: ErrorLog) -> tuple[Items, dict[str, Any]]:
    """The regions of all recordings with their vectors, and what they depend on, fit for JSON.

    Raises:
      UserError: no recordings, an unknown model, a folder of another job or a damaged one; strict `errors`: the first bad file.
    """
    names, left_out = find_recordings(settings.inputs)
    errors.forget(left_out)
    for file, reason in left_out.items():
        errors.add(file, reason)
    if not names:
        raise UserError(f"--input holds no recordings that can be used; {errors.path} lists {len(left_out)} others")
    source, grid = _open_source(settings, names)
    for note in rate_notes(names, source.program.audio):
        print(f"warning: {note}", flush=True)
    search = {f"regions.{name}": value for name, value in to_mapping(settings.regions).items()}
    store_regions(
        partial(_regions_of, chosen=region_settings(names, settings, output), given=settings.regions),
        search,
        names,
        output / REGIONS,
        output / EMBEDDINGS,
        errors,
        settings.threads,
    )
    identity = vector_identity(source, grid, settings.margin, search)
    store_vectors(
        source,
        grid,
        settings.margin,
        identity,
        output / REGIONS,
        output / EMBEDDINGS,
        errors,
        batch_size=settings.batch_size,
        threads=settings.threads,
    )
    return open_items(output), identity


def region_settings(names: Sequence[str], settings: DiscoverSettings, output: Path) -> dict[int, RegionSettings]:
    """Complete settings for each rate of the recordings. What was suggested once holds for recordings that are added later.

    Raises:
      UserError: the record of them is damaged.
    """
    path = output / SUGGESTED
    known: dict[int, RegionSettings] = {}
    if path.is_file():
        found = read_json(path, {str: dict}, remedy="delete it, and the folder regions beside it")
        known = {int(rate): from_mapping(RegionSettings, values, path.name) for rate, values in found.items()}
    step = -(-len(names) // SUGGEST_FILES)
    new = suggested_settings([*names[::step]], settings.regions) if not known else {}
    if new:
        write_json(path, {str(rate): to_mapping(values) for rate, values in new.items()})
    for rate, values in (known | new).items():
        print(f"regions at {rate} Hz: {_in_words(values)}", flush=True)
    return known | new


def _in_words(values: RegionSettings) -> str:
    return (
        f"{values.low_hz:.0f} to {values.high_hz:.0f} Hz, {values.seed_db:.0f} dB above the background, at least "
        f"{values.min_seconds:.3g} s, gaps of {values.join_seconds:.3g} s and {values.join_hz:.0f} Hz closed"
    )


def _regions_of(name: str, chosen: Mapping[int, RegionSettings], given: RegionSettings) -> pd.DataFrame:
    """Those of a file; one of a rate that had no part in the suggestions gets its own."""
    rate = given.sample_rate or audio_info(name).sample_rate
    return find_regions(name, chosen.get(rate, given))


def _open_source(settings: DiscoverSettings, names: list[str]) -> tuple[VectorSource, Grid]:
    if settings.model == FILTERBANK and (settings.layer, settings.pooling) == (-1, "mean"):
        audio = audio_for_rate(usual_rate(names))
        if audio != type(audio)():
            bank = audio.filterbank
            print(f"filterbank at {bank.sample_rate} Hz, frames of {bank.frame_length_ms:.3g} ms", flush=True)
        return filterbank_source(audio), Grid(WINDOW_SECONDS)
    print("loading the model ...", flush=True)
    options: Mapping[str, Any] = {"logits": False, "dtype": settings.dtype, "window": None, "hop": None}
    source, grid, _ = open_source(settings.model, (settings.layer,), (settings.pooling,), **options)
    return source, grid


def usual_rate(names: list[str]) -> int:
    """The most frequent sample rate of the recordings, by the headers of some; 16 kHz where none can be read."""
    rates: Counter[int] = Counter()
    for name in names[:: -(-len(names) // HEADERS)]:
        try:
            rates[audio_info(name).sample_rate] += 1
        except (AudioError, OSError):
            continue  # listed when it is searched
    return rates.most_common(1)[0][0] if rates else 16_000
