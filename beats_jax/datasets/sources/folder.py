"""One folder per class: `root/robin/a.wav`, `root/wren/2019/b.flac`; or the same below `root/train`, `root/val`, `root/test`."""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import data_folder, is_text, readable
from beats_jax.datasets.splits import SYNONYMS, normalise_split
from beats_jax.errors import UserError


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every audio file below `data.root`; its label is the name of the class folder.

    Hidden files ("._a.wav", left behind by macOS) and audio beside the class folders become `errors` of the manifest. For
    `data.fold_by` "folder" metadata `folder` is its place below the class: "2019" of wren/2019/b.flac, "" of robin/a.wav.

    Raises:
      UserError: the folder is empty, has no class folders, or the class folders hold no audio.
    """
    from beats_jax.audio.io import AUDIO_SUFFIXES, AudioError, find_audio

    root = data_folder(data)
    files: list[str] = []
    labels: list[list[str]] = []
    splits: list[str] = []
    places: list[str] = []
    stray = [path for path in sorted(root.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
    errors = [AudioError(path, "lies beside the class folders, so that it has no label") for path in stray]
    for folder, split in _class_folders(root):
        found, left_out = find_audio(folder)
        paths = [path for path in found if is_text(path)]
        errors += left_out
        errors += [AudioError(readable(path), "file name is not UTF-8; rename the file") for path in found if not is_text(path)]
        files += map(str, paths)
        labels += [[folder.name]] * len(paths)
        splits += [split] * len(paths)
        places += ["" if path.parent == folder else path.parent.relative_to(folder).as_posix() for path in paths]
    if not files:
        raise UserError(f"the class folders of {root} hold no audio file; known endings: {' '.join(sorted(AUDIO_SUFFIXES))}")
    metadata = {"folder": places} if data.fold_by == "folder" else None
    return Manifest.from_columns(files, labels, splits=splits, metadata=metadata, errors=errors)


def _class_folders(root: Path) -> list[tuple[Path, str]]:
    """(class folder, split or "") in sorted order."""
    there = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    if not there:
        raise UserError(f"data.root {root} is empty; it should hold one folder of audio per class")
    folders = [path for path in there if path.is_dir()]
    if not folders:
        raise UserError(
            f"data.root {root} has no class folders; put the audio of each class into a folder of its own, or use source csv"
        )
    if all(path.name.lower() in SYNONYMS for path in folders):
        inner = [(path, normalise_split(outer.name)) for outer in folders for path in sorted(outer.iterdir())]
        found = [(path, split) for path, split in inner if path.is_dir() and not path.name.startswith(".")]
        if found:
            return found
    return [(path, "") for path in folders]
