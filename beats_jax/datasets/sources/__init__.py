"""Sources of recordings and labels. A source is a function `load(data: DataConfig, *, workdir: Path) -> Manifest`.

To add one: write its file and its line in `SOURCES`. The file is imported when it is used.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.audio.files import Listing, repeated_links_note, search_folder
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.manifest import LabelColumn, Manifest
from beats_jax.errors import UserError

SOURCES: dict[str, str] = {
    "bioacoustics": "beats_jax.datasets.sources.bioacoustics:load",
    "folder": "beats_jax.datasets.sources.folder:load",
    "csv": "beats_jax.datasets.sources.table:load",
    "raven": "beats_jax.datasets.sources.annotations:load_raven",
    "audacity": "beats_jax.datasets.sources.annotations:load_audacity",
    "annotations": "beats_jax.datasets.sources.annotations:load",
    "review": "beats_jax.datasets.sources.review:load",
    "clusters": "beats_jax.datasets.sources.clusters:load",
    "esc50": "beats_jax.datasets.sources.known:load_esc50",
    "urbansound8k": "beats_jax.datasets.sources.known:load_urbansound8k",
    "darksound": "beats_jax.datasets.sources.darksound:load",
    "tfds": "beats_jax.datasets.tfds.source:load",
    "recordings": "beats_jax.datasets.sources.folder:load_recordings",
    "synthetic": "beats_jax.datasets.sources.known:load_synthetic",
}
# The source of a file by its ending; any other file is a table of recordings ("csv").
FILE_ENDINGS: dict[str, str] = {
    ".selections.txt": "raven",
    ".labels.txt": "audacity",
}


def load_manifest(data: DataConfig, *, workdir: str | os.PathLike[str]) -> Manifest:
    """All rows of the data set `data.source`, or those of `data.classes`, with the splits that the data itself names.

    No file is opened; `validation.validate` does that. Generated data is written below `workdir`, the folder of the run.

    Raises:
      UserError: unknown source, nothing found, a table that cannot be read, an unknown class in `data.classes`.
    """
    if data.source not in SOURCES:
        raise UserError(f"data.source is {data.source!r}; {nearest(data.source, list(SOURCES))}")
    module, function = SOURCES[data.source].split(":")
    manifest = getattr(import_module(module), function)(data, workdir=Path(workdir))
    return keep_classes(manifest, data.classes) if data.classes else manifest


def keep_classes(manifest: Manifest, classes: tuple[str, ...]) -> Manifest:
    """The rows that have one of `classes`, without their other labels. Raises `UserError` for a class that no row has."""
    counts = manifest.labels.counts()
    composed = {unicodedata.normalize("NFC", name): name for name in counts}  # folders of macOS have decomposed accents
    wanted = {name if name in counts else composed.get(unicodedata.normalize("NFC", name), name) for name in classes}
    for name in sorted(wanted - counts.keys()):
        raise UserError(f"data.classes names {name!r}, which no row has; {nearest(name, list(counts))}")
    kept = np.isin(np.array(manifest.labels.names)[manifest.labels.ids], list(wanted))
    chosen = manifest.take(np.unique(manifest.labels.rows[kept]))
    labels = [[name for name in chosen.labels[i] if name in wanted] for i in range(len(chosen))]
    return replace(chosen, labels=LabelColumn.from_lists(labels))


def data_folder(data: DataConfig) -> Path:
    """`data.root` as a folder that exists. Raises `UserError` when it is not set, absent or a file."""
    if not data.root:
        raise UserError(f"data.root is empty; data.source {data.source!r} needs the folder of the audio")
    root = Path(data.root).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"data.root {root} {what}; give the folder of the audio")
    return root


def source_at(path: Path) -> str:
    """The source that reads this table or folder, recognised by its name or by what it holds.

    A file is read as `FILE_ENDINGS` says (`.selections.txt`: raven, `.labels.txt`: audacity), else as csv; a folder as esc50,
    urbansound8k, tfds, darksound (the second version, by its cluster.csv) or folder.

    Raises:
      UserError: the path does not exist.
    """
    if path.is_file():
        return next((source for end, source in FILE_ENDINGS.items() if path.name.lower().endswith(end)), "csv")
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give a folder of class folders, of a known data set, or a table")
    described = {"meta/esc50.csv": "esc50", "metadata/UrbanSound8K.csv": "urbansound8k", "dataset_info.json": "tfds"}
    described |= {"train/cluster.csv": "darksound", "data/train/cluster.csv": "darksound"}
    return next((source for table, source in described.items() if (path / table).is_file()), "folder")


def find_folder(data: DataConfig, table: str, names: tuple[str, ...]) -> Path:
    """`data.root`, or the folder of one of `names` in it, whichever holds the file `table`. Raises `UserError` if none does."""
    root = data_folder(data)
    for place in (root, *(root / name for name in names)):
        if (place / table).is_file():
            return place
    raise UserError(f"{root / table} does not exist; data.root must be the folder {names[0]} that holds it, or the one above")


def find_recordings(folder: Path, setting: str) -> tuple[list[str], list[AudioError], list[str]]:
    """(files, errors, notes) of all audio below a folder that `setting` names. Raises `UserError` where there is none."""
    listing = search_folder(folder)
    named = [(str(path), name_error(path)) for path in listing.paths]
    errors = [*listing.errors, *(error for _, error in named if error is not None)]
    files = [file for file, error in named if error is None]
    if not files:
        raise no_audio_error(f"{setting} {folder} holds", listing, errors)
    return files, errors, [*listing.notes, *repeated_links_note(listing.repeats, folder)]


def name_error(path: Path) -> AudioError | None:
    """The error of a name that no table can hold: Linux allows any bytes, and text needs UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return AudioError(os.fsencode(path).decode("utf-8", "replace"), "file name is not UTF-8; rename the file")
    return None


def no_audio_error(what: str, listing: Listing, errors: Sequence[AudioError]) -> UserError:
    """The error of a folder without a usable recording, with its other contents. `what`: "data.root x holds"."""
    found = [*listing.notes, *([f"the first of {len(errors)} errors: {errors[0]}"] if errors else [])]
    return UserError("; ".join([f"{what} no audio file", *found, f"known endings: {' '.join(sorted(AUDIO_SUFFIXES))}"]))
