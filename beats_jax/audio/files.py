"""Which files of a folder are recordings."""

from __future__ import annotations

import os
from pathlib import Path

from beats_jax.audio.recording import AnyPath, AudioError
from beats_jax.errors import UserError

SOUNDFILE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
PYAV_SUFFIXES = frozenset({".m4a", ".aac", ".wma"})
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | PYAV_SUFFIXES
"""Suffixes of recordings: lower case, with the dot. Files are matched whatever the case of theirs."""


def find_audio(root: AnyPath) -> tuple[list[Path], list[AudioError]]:
    """Finds the recordings under `root`, in all its folders; links to folders are followed, each folder once.

    Returns:
      Sorted paths (starting with `root`), and sorted errors for what looks like a recording but is left out: hidden files and
      files in hidden folders, folders with the name of a recording, folders that cannot be listed. An empty folder gives none.
    Raises:
      UserError: `root` does not exist or is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is {'not a folder' if root.exists() else 'missing'}; give a folder of audio files")
    paths: list[Path] = []
    errors: list[AudioError] = []
    seen: set[str] = set()

    def note_unreadable(error: OSError) -> None:
        errors.append(AudioError(error.filename or root, f"folder cannot be listed: {error.strerror}"))

    for place, folders, names in os.walk(root, followlinks=True, onerror=note_unreadable):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in folders:
            if is_audio_name(name):
                errors.append(AudioError(Path(place, name), "is a folder, not a file"))
        for path in (Path(place, name) for name in names if is_audio_name(name)):
            if _is_hidden_below(root, path):
                errors.append(AudioError(path, "hidden file, left out"))
            else:
                paths.append(path)
    return sorted(paths), sorted(errors, key=lambda error: error.path)


def is_audio_name(name: AnyPath) -> bool:
    """Whether the suffix is one of `AUDIO_SUFFIXES`, in any case. A hidden "._call.wav" counts; a bare ".wav" has no suffix."""
    return Path(name).suffix.lower() in AUDIO_SUFFIXES


def _is_hidden_below(root: Path, path: Path) -> bool:
    """Whether a part of `path` below `root` starts with a dot ("._x.wav" is what macOS leaves beside files)."""
    return any(part.startswith(".") for part in Path(os.path.relpath(path, root)).parts)
