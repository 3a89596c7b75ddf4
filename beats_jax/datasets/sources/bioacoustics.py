"""Recordings by role: `unlabeled/`, `labeled/` with `labels.csv`, `positive/`, `negative/` (as of marianbasti/bioacoustics).

Every row has its role in the column `role` of the metadata: unlabeled, labeled, positive (a kind of sound that is to be gathered)
or negative (what is surely something else); `datasets.roles` draws batches from them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from beats_jax.audio.files import repeated_links_note, search_folder
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.roles import LABELED, NEGATIVE, POSITIVE, UNLABELED
from beats_jax.datasets.sources import data_folder, is_text, no_audio, not_text
from beats_jax.datasets.sources.columns import NOT_USED, USUAL, with_usual_columns
from beats_jax.datasets.sources.table import Origin, manifest_from_table
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError

LABELS_FILE = "labels.csv"
SHOWN = 10  # missing files that are named


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each recording, and for each line of `labels.csv`.

    `data.root` is searched at any depth; where it holds a folder `unlabeled`, that one, and the folders `positive`, `negative`
    and `labeled` beside it are taken too unless `data.positive_dir` and so on name others. A file in several of them is labelled
    before it is positive or negative, and unlabelled last. `labels.csv` has the columns `filename` and `labels`; its files lie
    beside it or in `audio/`. Those that are not there become one error of the manifest, which counts and names them.

    Raises:
      UserError: a folder that is named does not exist or holds no audio; no `labels.csv`; a file both positive and negative.
    """
    if data.classes:
        raise UserError(f"data.classes keeps labelled rows only; with data.source 'bioacoustics' change {LABELS_FILE} instead")
    root = data_folder(data)
    laid_out = (root / UNLABELED).is_dir()
    columns, errors = _Columns(), []
    labelled = _role_folder(data.labeled_dir, root / LABELED if laid_out else None, "data.labeled_dir")
    if labelled is not None:
        errors += columns.add_table(labelled, data)
    for role, named in ((POSITIVE, data.positive_dir), (NEGATIVE, data.negative_dir)):
        folder = _role_folder(named, root / role if laid_out else None, f"data.{role}_dir")
        if folder is not None:
            errors += columns.add_folder(folder, role, f"data.{role}_dir")
    errors += columns.add_folder(root / UNLABELED if laid_out else root, UNLABELED, "data.root")
    return Manifest.from_columns(
        columns.files, columns.labels, metadata={"role": columns.roles}, errors=errors, notes=columns.notes
    )


class _Columns:
    """The rows found so far."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.labels: list[list[str]] = []
        self.roles: list[str] = []
        self.notes: list[str] = []
        self._role_of: dict[str, str] = {}

    def add(self, file: str, labels: list[str], role: str) -> None:
        """A row, unless the file has a more special role already."""
        place = os.path.realpath(file)
        before = self._role_of.setdefault(place, role)
        if {before, role} == {POSITIVE, NEGATIVE}:
            raise UserError(f"{file} is both positive and negative; take it out of data.positive_dir or data.negative_dir")
        if before == role:
            self.files.append(file)
            self.labels.append(labels)
            self.roles.append(role)

    def add_folder(self, folder: Path, role: str, setting: str) -> list[AudioError]:
        """All audio below a folder; returns what is left out."""
        listing = search_folder(folder)
        errors = [*listing.errors, *(not_text(path) for path in listing.paths if not is_text(path))]
        files = [str(path) for path in listing.paths if is_text(path)]
        if not files:
            raise no_audio(f"{setting} {folder} holds", listing, errors)
        self.notes += [*listing.notes, *repeated_links_note(listing, folder)]
        for file in files:
            self.add(file, [], role)
        return errors

    def add_table(self, folder: Path, data: DataConfig) -> list[AudioError]:
        """The lines of `labels.csv` in a folder; returns one error for all files that are missing."""
        path = folder / LABELS_FILE
        if not path.is_file():
            raise UserError(f"data.labeled_dir {folder} holds no {LABELS_FILE} (columns filename, labels)")
        settings = replace(
            data, root=str(folder), audio_column="filename", label_column="labels", **dict.fromkeys(USUAL, NOT_USED)
        )  # fmt: skip
        columns = read_table(path)
        used, _ = with_usual_columns(columns, replace(settings, **dict.fromkeys(USUAL, "")), str(path))
        if unused := [name for name in (getattr(used, setting) for setting in USUAL) if name]:
            self.notes.append(f"{path}: columns {', '.join(unused)} are not used; a label counts for the whole recording")
        table, missing = manifest_from_table(columns, settings, Origin(str(path), columns.lines), folder), []
        for row, file in enumerate(table.files.tolist()):
            if os.path.exists(file):
                self.add(file, list(table.labels[row]), LABELED)
            else:
                missing.append(os.path.basename(file))
        if not missing:
            return []
        names = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        return [AudioError(path, f"names {len(missing)} of {len(table)} files that are not there: {names}")]


def _role_folder(named: str, beside: Path | None, setting: str) -> Path | None:
    """The folder that a setting names, else the one beside `unlabeled` where there is one."""
    if not named:
        return beside if beside is not None and beside.is_dir() else None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"{setting} {folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    return folder
