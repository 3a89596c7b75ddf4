"""Recordings by role: `unlabeled/`, `labeled/` with `labels.csv`, `positive/`, `negative/` (as of marianbasti/bioacoustics).

The metadata column `role` holds the role of every row: unlabeled, labeled, positive (a kind of sound to gather) or negative
(certainly another kind of sound); `datasets.roles` draws batches from them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from beats_jax.audio.files import some
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.roles import LABELED, NEGATIVE, POSITIVE, UNLABELED
from beats_jax.datasets.sources import data_folder, find_recordings
from beats_jax.datasets.sources.columns import NOT_USED, USUAL, with_usual_columns
from beats_jax.datasets.sources.table import manifest_from_table
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError

LABELS_FILE = "labels.csv"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each recording, and for each line of `labels.csv`.

    `data.root` is searched at any depth. Where it holds a folder `unlabeled`, that one is searched, and the folders `positive`,
    `negative` and `labeled` beside it too unless `data.positive_dir` and so on name others. A file in several of them is labelled
    rather than positive or negative, and unlabelled last. `labels.csv` has the columns `filename` and `labels`; its files lie
    beside it or in `audio/`. Missing ones become one error of the manifest, with their number and names.

    Raises:
      UserError: a named folder does not exist or holds no audio; no `labels.csv`; a file both positive and negative.
    """
    if data.classes:
        raise UserError(f"data.classes keeps labelled rows only; with data.source 'bioacoustics' change {LABELS_FILE} instead")
    root = data_folder(data)
    laid_out = (root / UNLABELED).is_dir()
    rows = _Rows()
    labelled = _role_folder(data.labeled_dir, root / LABELED if laid_out else None, "data.labeled_dir")
    if labelled is not None:
        rows.add_table(labelled, data)
    for role, named in ((POSITIVE, data.positive_dir), (NEGATIVE, data.negative_dir)):
        folder = _role_folder(named, root / role if laid_out else None, f"data.{role}_dir")
        if folder is not None:
            rows.add_folder(folder, role, f"data.{role}_dir")
    rows.add_folder(root / UNLABELED if laid_out else root, UNLABELED, "data.root")
    return Manifest.from_columns(rows.files, rows.labels, metadata={"role": rows.roles}, errors=rows.errors, notes=rows.notes)


class _Rows:
    """The rows found so far."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.labels: list[tuple[str, ...]] = []
        self.roles: list[str] = []
        self.errors: list[AudioError] = []
        self.notes: list[str] = []
        self._role_of: dict[str, str] = {}

    def _add(self, file: str, labels: tuple[str, ...], role: str) -> None:
        """Adds a row, unless an earlier role has the file."""
        before = self._role_of.setdefault(os.path.realpath(file), role)
        if {before, role} == {POSITIVE, NEGATIVE}:
            raise UserError(f"{file} is both positive and negative; take it out of data.positive_dir or data.negative_dir")
        if before == role:
            self.files.append(file)
            self.labels.append(labels)
            self.roles.append(role)

    def add_folder(self, folder: Path, role: str, setting: str) -> None:
        """Adds all audio below a folder."""
        files, errors, notes = find_recordings(folder, setting)
        self.errors += errors
        self.notes += notes
        for file in files:
            self._add(file, (), role)

    def add_table(self, folder: Path, data: DataConfig) -> None:
        """Adds the lines of `labels.csv` in a folder, and one error for all missing files."""
        path = folder / LABELS_FILE
        if not path.is_file():
            raise UserError(f"data.labeled_dir {folder} holds no {LABELS_FILE} (columns filename, labels)")
        columns = read_table(path)
        settings = replace(data, root=str(folder), audio_column="filename", label_column="labels")
        used, _ = with_usual_columns(columns, replace(settings, **dict.fromkeys(USUAL, "")))
        if unused := [name for name in (getattr(used, setting) for setting in USUAL) if name]:
            self.notes.append(f"{path}: columns {', '.join(unused)} are not used; a label counts for the whole recording")
        table = manifest_from_table(columns, replace(settings, **dict.fromkeys(USUAL, NOT_USED)), folder)
        missing = []
        for row, file in enumerate(table.files.tolist()):
            if os.path.exists(file):
                self._add(file, table.labels[row], LABELED)
            else:
                missing.append(os.path.basename(file))
        if missing:
            self.errors.append(AudioError(path, f"{len(missing)} of its {len(table)} files do not exist: {some(missing)}"))


def _role_folder(named: str, beside: Path | None, setting: str) -> Path | None:
    """The folder that a setting names, else the one beside `unlabeled` if it exists."""
    if not named:
        return beside if beside is not None and beside.is_dir() else None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"{setting} {folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    return folder
