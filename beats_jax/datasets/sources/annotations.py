"""Recordings with tables of events beside them: Raven, Audacity and the other kinds of `datasets.tables`.

`data.metadata_file` is a table, or a folder that is searched for tables; `data.root` is the folder of the recordings (empty =
that of the tables). Every recording that a table names, or that a table without names belongs to, is cut into windows of
`data.window_seconds` every `data.hop_seconds` (`datasets.annotations`).
"""

from __future__ import annotations

import ntpath
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from beats_jax.audio.files import search_folder
from beats_jax.audio.io import audio_info
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.annotations import WindowRule, annotated_manifest
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.tables.cells import TABLE_ENDINGS, ReadOptions
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import read_events
from beats_jax.datasets.tables.same_recordings import match_recordings, plain_name
from beats_jax.errors import UserError

MOST_BLOCKS, LEAST_BLOCKS = 20, 6  # of a single recording, so that each split has some
LENGTH_SLACK = 1.0  # seconds by which the header of a compressed file may be wrong
WINDOWS_A_BLOCK = 5  # a window over the edge of a block is lost: fewer edges where the recording is long enough
ENDINGS = {
    "raven": (".selections.txt", ".selection.table.txt", ".txt"),
    "audacity": (".txt",),
    "": (".selections.txt", ".labels.txt", ".csv", ".parquet"),
}


def load(data: DataConfig, *, workdir: Path, kind: str = "") -> Manifest:
    """Windows of annotated recordings, with a class for background.

    Args:
      kind: raven or audacity; "" = any of `tables.registry.TABLES`, by each table's content.
    Raises:
      UserError: no table, one that cannot be read, an event without a label, or no recording that exists.
    """
    if not data.metadata_file:
        raise UserError(
            f"data.metadata_file is empty; data.source {data.source!r} needs a table of events, or a folder of tables"
        )
    place = Path(data.metadata_file).expanduser()
    tables = find_tables(place, kind)
    read = [_read(place, table, kind, data) for table in tables]
    empty = [own for found, own in read if not len(found)]
    root = Path(data.root).expanduser() if data.root else place if place.is_dir() else place.parent
    events, lengths, errors = _with_files(Events.concatenate([found for found, _ in read]), empty, root)
    block = block_length(max(lengths.values()), data.window_seconds) if len(lengths) == 1 else 0.0
    rule = WindowRule(
        data.window_seconds,
        data.hop_seconds,
        data.overlap,
        data.background,
        data.background_share,
        multi_label=data.multi_label,
        block_seconds=block,
    )
    manifest = annotated_manifest(events, lengths, rule)
    notes = [f"there is one recording: its blocks of {block:g} s are shared out among train, val and test"] if block else []
    manifest = replace(manifest, errors=tuple(errors)).with_notes(*notes)
    return _split_blocks(manifest, data) if block and not data.fold and not data.num_folds else manifest


def block_length(seconds: float, window_seconds: float) -> float:
    """Length of the blocks in which a single recording is split."""
    wished = max(WINDOWS_A_BLOCK * window_seconds, seconds / MOST_BLOCKS)
    return max(window_seconds, min(wished, seconds / LEAST_BLOCKS))


def _split_blocks(manifest: Manifest, data: DataConfig) -> Manifest:
    """Splits a recording by its blocks. `assign_splits` keeps a file together, so it is shown a manifest of blocks as files."""
    labels = [manifest.labels[row] for row in range(len(manifest))]
    return manifest.with_splits(assign_splits(Manifest.from_columns(manifest.groups.tolist(), labels), data).splits)


def load_raven(data: DataConfig, *, workdir: Path) -> Manifest:
    """`load` from selection tables of Raven."""
    return load(data, workdir=workdir, kind="raven")


def load_audacity(data: DataConfig, *, workdir: Path) -> Manifest:
    """`load` from label tracks of Audacity."""
    return load(data, workdir=workdir, kind="audacity")


def find_tables(place: Path, kind: str) -> list[Path]:
    """The table, or all tables below a folder, sorted. Raises `UserError` where there is none."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"data.metadata_file {place} does not exist; give a table of events, or a folder of tables")
    endings = ENDINGS[kind]
    found = sorted(path for path in place.rglob("*") if path.name.lower().endswith(endings) and not path.name.startswith("."))
    # A cumulative table repeats those of single recordings
    single = [path for path in found if path.name != "detections.selections.txt"] or found
    if not single:
        raise UserError(f"{place} holds no table of events (endings: {' '.join(endings)})")
    return single


def read_below(place: Path, table: Path, kind: str = "", options: ReadOptions | None = None) -> tuple[Events, str]:
    """The events of one of `find_tables`, and the recording of one that names none: its own name, with its folders below `place`.

    Recorders give the same names at every site, and a label track has no room for the site: folders tell them apart.
    """
    events = read_events(table, kind, options)
    stem = TABLE_ENDINGS.sub("", table.name) or table.stem
    own = str(table.parent.relative_to(place) / stem) if place.is_dir() else stem
    files = [own if file == stem else file for file in events.files.tolist()]
    return replace(events, files=text_column(files)), own


def _read(place: Path, table: Path, kind: str, data: DataConfig) -> tuple[Events, str]:
    named = "" if data.label_column == "label" else data.label_column
    events, own = read_below(place, table, kind, ReadOptions(columns={"label": named} if named else {}))
    blank = [row for row, label in enumerate(events.labels.tolist()) if not label]
    if blank:
        raise UserError(
            f"{table}: {len(blank)} events have no label, the first at {events.starts[blank[0]]:g} s; label or remove them"
        )
    return events, own


def _with_files(events: Events, empty: Sequence[str], root: Path) -> tuple[Events, dict[str, float], list[AudioError]]:
    """The events of recordings that are there and as long as their tables say, by path; file → seconds; the errors.

    Args:
      empty: names of recordings with a table in which there is nothing: they are background from start to end.
    """
    names = list(dict.fromkeys([*events.rows_of(), *empty]))
    paths = locate_recordings(names, root)
    last = {name: float(events.starts[rows].max()) for name, rows in events.rows_of().items()}
    lengths: dict[str, float] = {}
    errors: list[AudioError] = []
    for name in names:
        try:
            seconds = audio_info(paths[name]).seconds
        except AudioError as error:
            errors.append(error)
            continue
        if (start := last.get(name, 0.0)) > seconds + LENGTH_SLACK:  # its calls would be taught as background
            why = f"it ends at {seconds:g} s, and an event starts at {start:g} s"
            errors.append(AudioError(paths[name], f"{why}: the table is of another recording, or its times run on"))
        else:
            lengths[paths[name]] = seconds
    if not lengths:
        raise UserError(
            f"none of the {len(names)} recordings can be read, for example {errors[0] if errors else root}; set data.root"
        )
    kept = [row for row, name in enumerate(events.files.tolist()) if paths[name] in lengths]
    chosen = events.take(kept)
    files = [paths[name] for name in chosen.files.tolist()]
    bounds = {"scores": chosen.scores, "low_hz": chosen.low_hz, "high_hz": chosen.high_hz}
    return Events.from_columns(files, chosen.starts, chosen.ends, chosen.labels, **bounds), lengths, errors


def locate_recordings(names: Sequence[str], root: Path) -> dict[str, str]:
    """name in a table → path: as it stands, below `root`, or the one recording below `root` with that name (or stem).

    Tables are made on other machines: the folders of Begin Path are theirs, and HawkEars leaves out the suffix.

    Raises:
      UserError: several recordings below `root` have the name.
    """
    found = {name: next((place for place in (name, str(root / name)) if os.path.isfile(place)), "") for name in names}
    if all(found.values()):
        return found
    by_name: dict[str, list[str]] = {}
    for path in search_folder(root).paths:
        for key in {plain_name(path.name), plain_name(path.stem)}:
            by_name.setdefault(key, []).append(str(path))
    for name in (name for name, path in found.items() if not path):
        same = by_name.get(plain_name(ntpath.basename(name)), [])
        if len(same) > 1:  # the end of the path decides
            same = list(match_recordings([name], same).values())
        found[name] = same[0] if same else str(root / ntpath.basename(name))
    return found
