"""Recordings to regions with vectors, in a folder that a later call adds to: the part of `discover` that takes hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from beats_jax.audio.io import AudioError, audio_info
from beats_jax.audio.regions import find_regions
from beats_jax.config import to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.inference.files import HEADERS, rate_notes
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import WINDOW_SECONDS
from beats_jax.inference.sources import FILTERBANK, VectorSource, audio_for_rate, filterbank_source, open_source
from beats_jax.pipelines.discovering.items import Items, open_items
from beats_jax.pipelines.discovering.regions import REGIONS, store_regions
from beats_jax.pipelines.discovering.settings import DiscoverSettings
from beats_jax.pipelines.discovering.vectors import EMBEDDINGS, store_vectors, vector_identity
from beats_jax.pipelines.window_job import find_recordings


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
    search = {"settings": to_mapping(settings.regions)}
    store_regions(
        partial(find_regions, settings=settings.regions),
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
