"""One folder per class: `root/robin/a.wav`, `root/wren/2019/b.flac`; or the same below `root/train`, `root/val`, `root/test`.

Or a folder with `labels.csv` and the recordings beside it or in `audio/`. And folders of recordings without labels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from beats_jax.audio.decoding.file_kinds import is_hidden
from beats_jax.audio.files import repeated_links_note, search_folder, some
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import data_folder, find_recordings, name_error, no_audio_error
from beats_jax.datasets.sources.table import load_table
from beats_jax.datasets.splits import SYNONYMS, normalise_split
from beats_jax.errors import UserError

TABLE, AUDIO = "labels.csv", "audio"
BESIDE = "lies beside the class folders and so has no label"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every audio file below `data.root`; its label is the name of the class folder.

    Folders called train, val, test or the like are splits where they hold class folders and either there are two of them or
    nothing else holds recordings. Notes name folders beside the splits and class folders without a recording. Audio beside the
    class folders becomes `errors` of the manifest. A link to a recording of another class is an error; with `data.multi_label`
    the recording has both labels. Where there is `labels.csv` and no folder but `audio`, its rows are read (`table.load_table`).
    For `data.fold_by` "folder" metadata `folder` is the place below the class: "2019" of
    wren/2019/b.flac, "" of robin/a.wav.

    Raises:
      UserError: the folder is empty, has no class folders, or the class folders hold no audio.
    """
    root = data_folder(data)
    if (root / TABLE).is_file() and {folder.name for folder in _visible_folders(root)} <= {AUDIO}:
        return load_table(root / TABLE, replace(data, root=""))
    folders = _folders(root)
    listing = search_folder(root)
    layout = _Layout(root, _split_folders(root, folders, listing.paths))
    rows, errors = [], [*listing.errors]
    for path in listing.paths:
        place = layout.place(path)
        if place is None:
            errors += [] if layout.is_stray(path) else [AudioError(path, BESIDE)]
        elif error := name_error(path):
            errors.append(error)
        else:
            rows.append((str(path), *place))
    labelled, left_out, notes = _linked_rows(listing.repeats, layout, data.multi_label)
    if not rows:
        raise no_audio_error(f"the class folders of {root} hold", listing, [*errors, *left_out])
    files, splits, labels, below = (list(column) for column in zip(*rows, *labelled, strict=True))
    return Manifest.from_columns(
        files,
        [[label] for label in labels],
        splits=splits,
        metadata={"folder": below} if data.fold_by == "folder" else None,
        errors=[*errors, *left_out],
        notes=[*listing.notes, *notes, *layout.notes(listing.paths, folders, set(zip(splits, labels, strict=True)))],
    )


def load_recordings(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each audio file below `data.root`, whole and without a label; the folders have no meaning.

    Raises:
      UserError: there is no audio below the folder.
    """
    files, errors, notes = find_recordings(data_folder(data), "data.root")
    return Manifest.from_columns(files, [[]] * len(files), errors=errors, notes=notes)


class _Place(NamedTuple):
    split: str  # or ""
    label: str
    below: str  # folders between the class and the file


@dataclass(frozen=True)
class _Layout:
    """Where class folders lie: right below the root, or below `splits` (name of the folder → split)."""

    root: Path
    splits: dict[str, str]

    def place(self, path: Path) -> _Place | None:
        """Split, class and folders of a file; None where it lies in no class folder."""
        parts = _parts(self.root, path)
        above = 1 if self.splits else 0
        if len(parts) < above + 2 or (self.splits and parts[0] not in self.splits):
            return None
        return _Place(self.splits.get(parts[0], ""), parts[above], "/".join(parts[above + 1 : -1]))

    def is_stray(self, path: Path) -> bool:
        """Whether a file lies in a folder beside the splits."""
        parts = _parts(self.root, path)
        return bool(self.splits) and len(parts) > 1 and parts[0] not in self.splits

    def notes(self, paths: list[Path], folders: list[Path], found: set[tuple[str, str]]) -> list[str]:
        """Sentences on folders beside the splits, and on class folders without a recording."""
        notes = []
        held = Counter(_parts(self.root, path)[0] for path in paths if self.is_stray(path))
        beside = [f"{folder.name} ({held[folder.name]} recordings)" for folder in folders if folder.name not in self.splits]
        if self.splits and beside:
            notes.append(f"{self.root}: {' and '.join(self.splits)} are splits; not used beside them: {some(beside)}")
        classes = [(split, folder) for name, split in self.splits.items() for folder in _visible_folders(self.root / name)]
        classes = classes if self.splits else [("", folder) for folder in folders]
        empty = [str(folder.relative_to(self.root)) for split, folder in classes
                 if (split, folder.name) not in found and not folder.is_symlink()]  # fmt: skip
        if empty:
            notes.append(f"{self.root}: {len(empty)} class folders hold no usable recording: {some(empty)}")
        return notes


def _linked_rows(
    repeats: list[tuple[Path, Path]], layout: _Layout, multi_label: bool
) -> tuple[list[tuple[str, str, str, str]], list[AudioError], list[str]]:
    """(rows, errors, notes) for links to recordings that are rows already."""
    rows, errors, alike = [], [], []
    for link, path in repeats:
        place, own = layout.place(link), layout.place(path)
        if place is None or own is None or place.label == own.label:
            alike.append((link, path))
        elif multi_label:
            rows.append((str(path), own.split, place.label, own.below))
        else:
            what = f"is a link to {path}, which is of class {own.label!r}: one recording, two labels"
            errors.append(AudioError(link, f"{what}; remove it or set data.multi_label=True"))
    return rows, errors, repeated_links_note(alike, layout.root)


def _parts(root: Path, path: Path) -> tuple[str, ...]:
    return path.parts[len(root.parts) :]


def _folders(root: Path) -> list[Path]:
    if all(is_hidden(path.name) for path in root.iterdir()):
        raise UserError(f"data.root {root} is empty; it should hold one folder of audio per class")
    folders = _visible_folders(root)
    if not folders:
        raise UserError(
            f"data.root {root} has no class folders; put the audio of each class into a folder of its own, or use source csv"
        )
    return folders


def _visible_folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path.name)]


def _split_folders(root: Path, folders: list[Path], paths: list[Path]) -> dict[str, str]:
    """Name of a folder → split; empty where the folders in the root are classes."""
    named = {folder.name: normalise_split(folder.name) for folder in folders if folder.name.lower() in SYNONYMS}
    depths = {(parts[0], len(parts) > 2) for parts in (_parts(root, path) for path in paths) if len(parts) > 1}
    if not any((name, True) in depths for name in named):  # they hold recordings, not class folders
        return {}
    others = {name for name, _ in depths} - named.keys()
    return named if len(set(named.values())) > 1 or not others else {}
