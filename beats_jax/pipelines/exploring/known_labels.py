"""Labels of windows: from class folders, a known data set's table, a table of recordings, or a table of events."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.datasets.tables.cells import ReadOptions, find_columns
from beats_jax.datasets.tables.registry import kind_of, read_events
from beats_jax.errors import UserError


class LabelledStretch(NamedTuple):
    """A stretch of a recording (seconds; end may be infinite; bounds in frequency where they are known) and what is in it."""

    start: float
    end: float
    label: str
    low_hz: float = np.nan
    high_hz: float = np.nan


Labels = dict[str, list[LabelledStretch]]  # real path of a recording → its stretches


def folder_labels(folder: str) -> Labels:
    """Labels by class folders, or by the table of a known data set; none where the folder is of neither kind."""
    if not folder:
        return {}
    try:
        manifest = load_manifest(DataConfig(source=source_at(Path(folder)), root=folder), workdir=Path(folder))
    except UserError:  # recordings in one folder have no labels, which is no mistake
        return {}
    return _of_manifest(manifest)


def read_labels(table: str, folder: str) -> Labels:
    """Labels of a table: of events where it has starts and ends, or is of Raven or Audacity; else of whole recordings.

    Args:
      folder: of the recordings; "" = the folder of the table.
    Raises:
      UserError: the table cannot be read, or names recordings that are nowhere.
    """
    path = Path(table)
    if not path.is_file():
        raise UserError(f"--labels {table} {'is no file' if path.exists() else 'does not exist'}; give a table of labels")
    root = Path(folder or path.parent)
    columns = find_columns(read_table(path), ReadOptions()) if kind_of(path) == "csv" else {}
    if columns and not {"start", "end"} <= columns.keys():
        names: dict[str, Any] = {"audio_column": columns.get("file", "filename"), "label_column": columns.get("label", "label")}
        return _of_manifest(load_manifest(DataConfig(source="csv", root=str(root), metadata_file=table, **names), workdir=root))
    events = read_events(path)
    paths = locate_recordings(list(dict.fromkeys(events.files.tolist())), root)
    found: Labels = {}
    columns_of = (events.files, events.starts, events.ends, events.labels, events.low_hz, events.high_hz)
    for file, *stretch in zip(*(column.tolist() for column in columns_of), strict=True):
        found.setdefault(os.path.realpath(paths[file]), []).append(LabelledStretch(*stretch))
    return found


def labels_of_windows(labels: Labels, files: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> list[str]:
    """The label of each window: that of the stretch which fills most of it, "" where there is none."""
    real = {file: os.path.realpath(file) for file in set(files)}
    return [_largest(labels.get(real[file], ()), *times) for file, *times in zip(files, starts, ends, strict=True)]


def _largest(stretches: Sequence[LabelledStretch], start: float, end: float) -> str:
    shared = [(min(end, one.end) - max(start, one.start), one.label) for one in stretches]
    most = max(shared, key=lambda pair: pair[0], default=(0.0, ""))
    return most[1] if most[0] > 0 else ""


def _of_manifest(manifest: Manifest) -> Labels:
    found: Labels = {}
    starts, ends = np.nan_to_num(manifest.starts).tolist(), np.where(np.isnan(manifest.ends), np.inf, manifest.ends).tolist()
    for row, file in enumerate(manifest.files.tolist()):
        stretch = LabelledStretch(starts[row], ends[row], ", ".join(manifest.labels[row]))
        found.setdefault(os.path.realpath(file), []).append(stretch)
    return found
