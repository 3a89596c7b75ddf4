"""Recordings without labels: every audio file anywhere below a folder, of any length."""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import data_folder, is_text, readable
from beats_jax.errors import UserError


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each file below `data.root`, whole, without a label; the folders have no meaning.

    Hidden files and names that are not UTF-8 become `errors` of the manifest.

    Raises:
      UserError: there is no audio below the folder.
    """
    from beats_jax.audio.io import AUDIO_SUFFIXES, AudioError, find_audio

    root = data_folder(data)
    found, errors = find_audio(root)
    errors += [AudioError(readable(path), "file name is not UTF-8; rename the file") for path in found if not is_text(path)]
    files = [str(path) for path in found if is_text(path)]
    if not files:
        raise UserError(f"data.root {root} holds no audio file; known endings: {' '.join(sorted(AUDIO_SUFFIXES))}")
    return Manifest.from_columns(files, [[]] * len(files), errors=errors)
