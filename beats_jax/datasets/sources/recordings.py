"""Recordings without labels: every audio file anywhere below a folder, of any length."""

from __future__ import annotations

from pathlib import Path

from beats_jax.audio.files import repeated_links_note, search_folder
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import data_folder, is_text, no_audio, not_text


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each file below `data.root`, whole, without a label; the folders have no meaning.

    What is left out becomes `errors` and `notes` of the manifest, as `audio.files.search_folder` finds it.

    Raises:
      UserError: there is no audio below the folder.
    """
    root = data_folder(data)
    listing = search_folder(root)
    errors = [*listing.errors, *(not_text(path) for path in listing.paths if not is_text(path))]
    files = [str(path) for path in listing.paths if is_text(path)]
    if not files:
        raise no_audio(f"data.root {root} holds", listing, errors)
    notes = [*listing.notes, *repeated_links_note(listing, root)]
    return Manifest.from_columns(files, [[]] * len(files), errors=errors, notes=notes)
