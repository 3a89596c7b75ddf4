"""Finds the files that a table names, in any spelling.

macOS decomposes the accents of file names (NFD) and other systems keep what was typed (mostly NFC), so that names can look equal
and differ for the file system. And one file has many names: `a.wav`, `./a.wav`, a link to it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from beats_jax.audio.decoding.file_kinds import is_recording_name
from beats_jax.audio.decoding.tfds_records import is_present, is_record
from beats_jax.audio.files import some
from beats_jax.errors import UserError


class NamedFiles:
    """Finds files below some folders. All names of one file give the path of the first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._found: dict[str, str] = {}  # name in the table → path
        self._spelling: dict[str, str] = {}  # real path → path that the first row with that file gave
        self._real: dict[str, str] = {}  # folder → real path
        self._listed: dict[str, dict[str, str]] = {}  # folder → {composed name: name}

    def find(self, name: str) -> str:
        """The first place where the file exists, else the first place where it should be."""
        if name not in self._found:
            self._found[name] = name if is_record(name) else self._look_up(name)
        return self._found[name]

    def _look_up(self, name: str) -> str:
        variants = dict.fromkeys((name, name.replace("\\", "/")))
        places = [str(folder / variant) for variant in variants for folder in self._folders]  # without "./" and "//"
        there = next((place for place in places if os.path.exists(place)), None)
        there = there or next((found for place in places if (found := self._compose_accents(place))), None)
        if there is None:
            return places[-len(self._folders)]
        return self._spelling.setdefault(self._real_path(there), there)

    def _real_path(self, path: str) -> str:
        """As `os.path.realpath`, but resolves each folder only once."""
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], name)

    def _compose_accents(self, place: str) -> str | None:
        """An existing path whose parts are equal once accents are composed; None where there is none."""
        if place.isascii():
            return None
        found = place[: len(place) - len(place.lstrip("/"))]
        for part in filter(None, place.split("/")):
            nearer = os.path.join(found, part)
            if not os.path.exists(nearer):
                names = self._names(found or ".")
                composed = unicodedata.normalize("NFC", part)
                if composed not in names:
                    return None
                nearer = os.path.join(found, names[composed])
            found = nearer
        return found

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(folder), reverse=True)
            except OSError:  # no such folder, or not readable: validation lists the file as missing
                names = []
            self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._listed[folder]


def unnamed_notes(files: Sequence[str], where: str | Path) -> list[str]:
    """A sentence on recordings beside the named ones that are in no row of the table, where there are any."""
    named = {file for file in set(files) if not is_record(file)}
    unnamed: list[str] = []
    for folder in sorted({os.path.dirname(file) for file in named}):
        try:
            names = [name for name in os.listdir(folder or ".") if is_recording_name(name)]
        except OSError:  # validation lists missing files; or the folder cannot be listed, only entered
            continue
        unnamed += [path for path in (os.path.join(folder, name) for name in names) if path not in named]
    if not unnamed:
        return []
    return [f"{where}: {len(unnamed)} recordings in the same folders are in no row: {some(sorted(unnamed))}"]


def require_some_exist(files: Sequence[str], folders: Sequence[Path], where: str | Path) -> None:
    """Raises `UserError` with the folders that were searched when none of the files exists."""
    if not any(is_present(name) for name in files):
        places = " and ".join(str(folder) for folder in folders)
        raise UserError(
            f"none of the {len(files)} files of {where} exists, for example {files[0]}; looked in {places}; set data.root"
        )
