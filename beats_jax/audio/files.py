"""Finds the recordings of a folder; every other file becomes an error or is counted in a note, so that none vanishes.

A file with a suffix of recordings (`AUDIO_SUFFIXES`) is one; validation decodes it later. A file with a suffix of texts, pictures
and the like is counted. The content decides about all others: a file that a decoder opens is a recording, one that looks like
sound and cannot be opened is an error, the rest is counted. So a note beside recordings is no error, and no random bytes become
training data because a decoder guesses. Hidden files and folders are counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beats_jax.audio.decoding import file_kinds
from beats_jax.audio.recording import AnyPath, AudioError, name_surprises
from beats_jax.errors import UserError

DEEPEST = 100  # folders within folders; no data set is deeper, but a broken disk or a loop of mounts can be
SHOWN = 10  # names in a note


@dataclass(frozen=True)
class Listing:
    """The contents of a folder."""

    paths: list[Path]  # recordings, sorted, starting with the folder's path; every file once
    errors: list[AudioError]  # files that look like recordings and cannot be used, sorted
    repeats: list[tuple[Path, Path]]  # (link, path) of links to recordings that are among `paths`
    notes: list[str]  # sentences on hidden files, other kinds of files, and folders reached twice


def find_audio(root: AnyPath) -> tuple[list[Path], list[AudioError]]:
    """`paths` and `errors` of `search_folder`."""
    found = search_folder(root)
    return found.paths, found.errors


def search_folder(root: AnyPath) -> Listing:
    """Finds the recordings under `root`, in all its folders.

    Links to folders are followed, but not to a folder that is searched anyway or that holds `root`: a file belongs to the folder
    it lies in. So a link to a file among the recordings is no further recording.

    Raises:
      UserError: `root` does not exist or is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is {'not a folder' if root.exists() else 'missing'}; give a folder of audio files")
    search = _Search(str(root))
    search.walk(search.root, search.real_root)
    search.follow_folder_links()
    search.resolve_file_links()
    search.try_unknown_files()
    return Listing(
        sorted(map(Path, search.recordings)),
        sorted(search.errors, key=lambda error: error.path),
        search.repeats,
        search.notes(),
    )


class _Search:
    """The files found so far. Real folders are searched before links, so that a file belongs to the folder it lies in."""

    def __init__(self, root: str) -> None:
        self.root, self.real_root = root, os.path.realpath(root)
        self.recordings: list[str] = []
        self.errors: list[AudioError] = []
        self.repeats: list[tuple[Path, Path]] = []
        self._unknown: list[str] = []  # their content decides
        self._folder_links: list[str] = []
        self._file_links: list[str] = []
        self._walked: dict[str, str] = {}  # real folder → path by which it was searched
        self._same_folders: list[tuple[str, str]] = []
        self._hidden_files = 0
        self._hidden_folders: list[str] = []
        self._others: Counter[str] = Counter()  # suffix → files of another kind

    def walk(self, folder: str, real: str) -> None:
        """Sorts the files below a folder and keeps links for later. Not recursive: folders may be nested thousands deep."""
        pending = [(folder, real, 0)]
        while pending:
            folder, real, depth = pending.pop()
            if real in self._walked:
                self._same_folders.append((folder, self._walked[real]))
                continue
            if depth > DEEPEST:
                self.errors.append(AudioError(folder, f"lies more than {DEEPEST} folders deep and is not searched"))
                continue
            self._walked[real] = folder
            try:
                with os.scandir(folder) as entries:
                    below = [entry.name for entry in entries if self._add(entry)]
            except OSError as error:
                self.errors.append(AudioError(folder, f"folder cannot be listed: {error.strerror or error}"))
                continue
            pending += [(os.path.join(folder, name), os.path.join(real, name), depth + 1) for name in below]

    def _add(self, entry: os.DirEntry[str]) -> bool:
        """Sorts one entry of a folder; returns whether it is a folder to search."""
        if file_kinds.is_hidden(entry.name):
            if entry.is_dir(follow_symlinks=False):
                self._hidden_folders.append(entry.path)
            else:
                self._hidden_files += 1
        elif entry.is_symlink():
            (self._folder_links if os.path.isdir(entry.path) else self._file_links).append(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            if _suffix(entry.name) in file_kinds.AUDIO_SUFFIXES:
                self.errors.append(AudioError(entry.path, "is a folder, not a file"))
            return True
        elif not entry.is_file(follow_symlinks=False):
            self.errors.append(AudioError(entry.path, "is not a regular file"))
        else:
            self._add_file(entry.path)
        return False

    def _add_file(self, path: str) -> None:
        suffix = _suffix(path)
        if suffix in file_kinds.AUDIO_SUFFIXES:
            self.recordings.append(path)
        elif suffix in file_kinds.OTHER_SUFFIXES:
            self._others[suffix] += 1
        else:
            self._unknown.append(path)

    def follow_folder_links(self) -> None:
        """Searches the folders that links lead to, in the order of their names, until there are no more."""
        while self._folder_links:
            links, self._folder_links = sorted(self._folder_links), []
            for link in links:
                real = os.path.realpath(link)
                above = os.path.join(self.real_root, "").startswith(os.path.join(real, ""))
                if above or real in self._walked:
                    self._same_folders.append((link, self._walked.get(real, real)))
                else:
                    self.walk(link, real)

    def resolve_file_links(self) -> None:
        """Sorts links to files that no folder holds; links to files that are found anyway become `repeats`."""
        known = {*self.recordings, *self._unknown} if self._file_links else set()
        first: dict[str, str] = {}
        for link in sorted(self._file_links):
            real = os.path.realpath(link)
            folder, name = os.path.split(real)
            inside = os.path.join(self._walked[folder], name) if folder in self._walked else ""
            same = inside if inside in known else first.setdefault(real, link)
            if _suffix(link) in file_kinds.OTHER_SUFFIXES:
                self._add_file(link)
            elif not os.path.isfile(link):
                what = "is not a regular file" if os.path.exists(link) else "no such file: the link leads nowhere"
                self.errors.append(AudioError(link, what))
            elif same != link:
                self.repeats.append((Path(link), Path(same)))
            else:
                self._add_file(link)

    def try_unknown_files(self) -> None:
        """Sorts files with unknown suffixes by their content."""
        for path in self._unknown:
            suffix = _suffix(path)
            try:
                with open(path, "rb") as file:
                    sound = suffix in file_kinds.MEDIA_SUFFIXES or file_kinds.looks_like_sound(file.read(file_kinds.HEAD_BYTES))
            except OSError as error:
                self.errors.append(AudioError(path, f"cannot be read: {error.strerror or error}"))
                continue
            if not sound:
                self._others[suffix] += 1
            elif (fault := _fault(path, suffix)) is not None:
                self.errors.append(fault)
            else:
                self.recordings.append(path)

    def notes(self) -> list[str]:
        """A sentence on each kind of file that is not used."""
        notes = []
        if self._hidden_files or self._hidden_folders:
            names = some(self._names(self._hidden_folders))
            folders = f" and {len(self._hidden_folders)} hidden folders ({names})" if names else ""
            notes.append(f"{self.root}: {self._hidden_files} hidden files{folders} are left out")
        if self._others:
            kinds = [f"{number} {suffix or 'without a suffix'}" for suffix, number in sorted(self._others.items())]
            notes.append(f"{self.root}: other files, no recordings: {some(kinds)}")
        if self._same_folders:
            pairs = [f"{self._names([link])[0]} → {place}" for link, place in sorted(self._same_folders)]
            notes.append(f"{self.root}: {len(pairs)} folders are reached in two ways and searched once: {some(pairs)}")
        return notes

    def _names(self, paths: Sequence[str]) -> list[str]:
        return sorted(os.path.relpath(path, self.root) for path in paths)


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def repeated_links_note(repeats: Sequence[tuple[Path, Path]], root: AnyPath) -> list[str]:
    """A sentence on links to recordings that are used already, where there are any."""
    pairs = [f"{link} → {path}" for link, path in repeats]
    return [f"{root}: {len(pairs)} links lead to recordings that are used already: {some(pairs)}"] if pairs else []


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _fault(path: str, suffix: str) -> AudioError | None:
    """Why a file with an unusual suffix cannot be used; None where a decoder opens it."""
    from beats_jax.audio.io import audio_info  # which imports this file

    if suffix in file_kinds.UNFINISHED_SUFFIXES:
        return AudioError(path, f"its suffix {suffix} marks an unfinished file; rename it to use it")
    try:
        with name_surprises(path, "opened"):
            audio_info(path)
    except AudioError as error:
        return error
    return None
