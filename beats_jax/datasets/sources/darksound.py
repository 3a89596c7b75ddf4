"""Darksound: calls of nocturnal birds of the tropics, cut out as regions of interest, with official splits of whole species.

First version (https://github.com/joachimpoutaraud/darksound): `root/{train,val,test}/FAMILY/SPECIES/*.wav`. Second version
(https://zenodo.org/records/10512103): `root/train/SPECIES/*.wav` with `root/train/cluster.csv`, which tells calls from noise, and
`root/test/SPECIES/*.wav`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from beats_jax.audio.files import search_folder, some
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import SPLITS, Manifest
from beats_jax.datasets.sources import data_folder, name_error, no_audio_error
from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.errors import UserError

FOLDERS = ("darksound", "data")  # names that the archives give to the folder of the splits
CLUSTERS = "cluster.csv"
SIGNAL, NOISE = ("1", "1.0"), ("0", "0.0", "")  # `auto_label`: in the largest cluster of its species, or not
REGION = re.compile(r"(?P<recording>.+?)_\d+(\.\d+)?s_\d+")  # XC1234_10s_03: a region that begins in second 10


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """One row for each region: label = species, split = official, group = recording where the name has one, metadata `family`.

    Labels are names, so that they mean the same in every split and on every machine. Of a training folder with `cluster.csv` only
    regions labelled as signal are rows, as upstream has it; a note counts the others.

    Raises:
      UserError: no folder of a split, no region in them, or a cluster.csv without its columns.
    """
    root = _split_root(data)
    files, labels, splits, groups, families, errors, notes = [], [], [], [], [], [], []
    for split in (name for name in SPLITS if (root / name).is_dir()):
        listing = search_folder(root / split)
        errors += listing.errors
        kept, more = _signals(root / split, listing.paths)
        notes += [*listing.notes, *more]
        for path in kept:
            family, species, error = _place(root / split, path)
            if error is not None:
                errors.append(error)
                continue
            found = REGION.fullmatch(path.stem)
            files.append(str(path))
            labels.append([species])
            splits.append(split)
            groups.append(f"{species}/{found['recording']}" if found else "")
            families.append(family)
    if not files:
        raise no_audio_error(f"{root} holds", listing, errors)
    if not any(groups):
        notes.append(f"{root}: no file is named like RECORDING_10s_03.wav, so that every region counts as a recording of its own")
    notes += _shared_species(labels, splits)
    return Manifest.from_columns(
        files, labels, splits=splits, groups=groups, metadata={"family": families}, errors=errors, notes=notes
    )


def _split_root(data: DataConfig) -> Path:
    root = data_folder(data)
    for place in (root, *(root / name for name in FOLDERS)):
        if any((place / split).is_dir() for split in SPLITS):
            return place
    raise UserError(f"data.root {root} holds none of the folders {', '.join(SPLITS)}; give the folder of the unpacked archives")


def _place(folder: Path, path: Path) -> tuple[str, str, AudioError | None]:
    """Family ("" in the second version) and species of a file below the folder of a split, or the error of its place."""
    above = path.parent.relative_to(folder).parts
    if not 1 <= len(above) <= 2:
        return "", "", AudioError(path, f"lies {len(above)} folders below {folder.name}; SPECIES or FAMILY/SPECIES is expected")
    return above[0] if len(above) == 2 else "", above[-1], name_error(path)


def _signals(folder: Path, paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The regions that cluster.csv calls signal, with a note; all where there is no such table."""
    if not (folder / CLUSTERS).is_file():
        return list(paths), []
    table = read_table(folder / CLUSTERS)
    table.require_columns(("fullfilename_ts", "auto_label"))
    wanted = set(_named_signals(table))
    kept = [path for path in paths if path.parts[-2:] in wanted]
    note = f"{folder}: {len(kept)} of {len(paths)} regions are signal by {CLUSTERS}; the others are not used"
    return kept, [note]


def _named_signals(table: Table) -> Iterator[tuple[str, ...]]:
    """(species, file) of the rows of signal. Paths are those of the machine that made the table."""
    for row, (name, label) in enumerate(zip(table["fullfilename_ts"], table["auto_label"], strict=True)):
        path = PureWindowsPath(name) if "\\" in name else PurePath(name)
        if label not in SIGNAL + NOISE:
            raise UserError(f"{table.at(row)}: auto_label is {label!r}; 1 is signal, 0 noise")
        if label in SIGNAL:
            yield path.parts[-2:]


def _shared_species(labels: Sequence[Sequence[str]], splits: Sequence[str]) -> list[str]:
    """A note on species in several splits: the official ones share none."""
    places: dict[str, set[str]] = {}
    for (species,), split in zip(labels, splits, strict=True):
        places.setdefault(species, set()).add(split)
    shared = sorted(species for species, found in places.items() if len(found) > 1)
    return (
        [f"{len(shared)} species are in several splits, which the official splits do not share: {some(shared)}"] if shared else []
    )
