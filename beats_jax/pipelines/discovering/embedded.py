"""Recordings to regions with vectors, in a folder that a later call adds to: the part of `discover` that takes hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import audio_info
from beats_jax.audio.regions import RegionSettings, find_regions
from beats_jax.audio.regions.finding import suggested_settings
from beats_jax.config import from_mapping, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.inference.files import rate_notes
from beats_jax.inference.grid import Grid
from beats_jax.inference.store import JOB_FILE, read_rows
from beats_jax.json_files import read_json
from beats_jax.pipelines.discovering.encoder import open_encoder
from beats_jax.pipelines.discovering.items import Items, open_items
from beats_jax.pipelines.discovering.regions import REGIONS, store_regions
from beats_jax.pipelines.discovering.settings import DiscoverSettings
from beats_jax.pipelines.discovering.vectors import EMBEDDINGS, store_vectors, vector_identity
from beats_jax.pipelines.training.workdir import write_json
from beats_jax.pipelines.window_plan import find_recordings

if TYPE_CHECKING:
    import pandas as pd

SUGGESTED = "region_settings.json"  # settings of regions for each rate, as they were suggested when the job began
LONG_REGION, SHORTEST_WINDOW = 95, 0.5  # percentile of the lengths; seconds
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
    encoder = open_encoder(settings, names)
    for note in rate_notes(names, encoder.audio):
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
    grid = _region_grid(encoder.grid, settings.margin, output)
    identity = vector_identity(encoder, grid, settings.margin, search)
    store_vectors(encoder, grid, settings.margin, identity, output, errors, settings)
    return open_items(output), identity


def _region_grid(longest: Grid, margin: float, output: Path) -> Grid:
    """Windows for regions: as long as nearly all of them, because a batch is as long as its windows; longer ones take several.

    The first call decides for those that add recordings.
    """
    job = output / EMBEDDINGS / JOB_FILE
    if job.is_file():
        found = read_json(job, {"grid": {"window_seconds": float}}, remedy="delete the folder embeddings")
        return Grid(min(found["grid"]["window_seconds"], longest.window_seconds))
    lengths = [table["end"].to_numpy() - table["start"].to_numpy() for table in read_rows(output / REGIONS, ["start", "end"])]
    seconds = np.concatenate([*lengths, np.zeros(0)])
    usual = float(np.percentile(seconds, LONG_REGION)) if len(seconds) else 0.0
    return Grid(min(longest.window_seconds, max(SHORTEST_WINDOW, np.ceil(4 * (usual + 2 * margin)) / 4)))


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
