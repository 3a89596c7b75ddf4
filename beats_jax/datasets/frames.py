"""Data sets as DataFrames, and the checks of training for DataFrames."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import is_present, is_record
from beats_jax.audio.recording import AnyPath
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.columns import find_label_column
from beats_jax.datasets.sources.frame import manifest_from_frame, require_frame
from beats_jax.datasets.sources.table import resolve_files
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.datasets.validation import require_classes, validate
from beats_jax.errors import UserError
from beats_jax.spreadsheets import safe_cell

if TYPE_CHECKING:
    import pandas as pd


def load_esc50(path: AnyPath) -> pd.DataFrame:
    """ESC-50 (the folder that holds `audio/` and `meta/esc50.csv`, or the one above) as a table; see `frame_from_manifest`.

    Columns: filename, category, group (the clip's recording), fold, target. Raises `UserError` if anything is missing.
    """
    return _frame_of_source("esc50", path)


def load_urbansound8k(path: AnyPath) -> pd.DataFrame:
    """UrbanSound8K (the folder that holds `audio/` and `metadata/`, or the one above) as a table; see `frame_from_manifest`.

    Columns: filename, category, group (fsID), fold, target, salience. Raises `UserError` if anything is missing. The authors ask
    for the mean over the ten folds, without any other split.
    """
    return _frame_of_source("urbansound8k", path)


def scan_directory_dataset(path: AnyPath) -> pd.DataFrame:
    """A folder of class folders (which may lie in train, val and test folders) as a table; see `frame_from_manifest`.

    Columns: filename, category, and split where the folders give one. Raises `UserError` without class folders that hold audio.
    """
    return _frame_of_source("folder", path)


def load_csv_dataset(csv: AnyPath, audio_col: str = "filename", label_col: str = "category") -> pd.DataFrame:
    """A table of recordings with columns of any name.

    Args:
      csv: comma-, semicolon- or tab-separated text; file names are absolute or start from its folder (or `audio` in it).
      label_col: "category" also finds "label" in a table without a column category.
    Returns:
      columns filename (absolute) and category, then the others of the table, all as texts. Later readers of the frame find times,
      splits and groups among them (`sources.columns`).
    Raises:
      UserError: no such table or column (the nearest one is named), a blank file name, or no file exists.
    """
    import pandas as pd

    path = Path(csv).expanduser()
    table = read_table(path)
    label_col = find_label_column(list(table), label_col)
    table.require_columns((audio_col, label_col))
    files = [os.path.abspath(name) for name in resolve_files(table, audio_col, path.parent)]
    taken = (audio_col, label_col, "filename", "category")
    others = {name: cells for name, cells in table.items() if name not in taken}
    return pd.DataFrame({"filename": files, "category": table[label_col], **others})


def validate_dataset(
    df: pd.DataFrame,
    data_dir: AnyPath = "",
    *,
    audio_column: str = "filename",
    label_column: str = "category",
    multi_label: bool = False,
    check: str = "decode",
) -> dict[str, Any]:
    """Makes the checks of training (`validation.validate`) and returns their findings without raising.

    Columns with times, splits, groups and `fold` are used if they exist (`sources.columns`); a warning names them.

    Args:
      data_dir: where relative file names start; "" = the working directory.
      check: "decode" reads all of every file, "header" its header only.
    Returns:
      errors, warnings: sentences. An error is a row or file that training would leave out, or a reason for it to stop.
      total_samples, usable_samples: rows given and rows left. existing_files, missing_files: different files.
      class_names, num_classes, class_distribution: classes of the rows given, and rows of each.
      total_seconds: sound in the usable files.
    Raises:
      UserError: `df` is no DataFrame.
    """
    require_frame(df)
    data = DataConfig(
        root=os.fspath(data_dir),
        audio_column=audio_column,
        label_column=label_column,
        multi_label=multi_label,
        check=check,
    )
    found: dict[str, Any] = {"errors": list(df.attrs.get("errors", [])), "warnings": list(df.attrs.get("notes", []))}
    found |= {"total_samples": len(df), "usable_samples": 0, "total_seconds": 0.0}
    manifest = None
    try:
        manifest = manifest_from_frame(df, data)
        report = validate(manifest, data, AudioConfig(), min_classes=0)
        found["errors"] += map(str, report.errors)
        found["warnings"] += report.warnings
        found |= {"usable_samples": len(report.manifest), "total_seconds": report.total_seconds}
        require_classes(report.manifest, multi_label, 2)
    except UserError as error:
        found["errors"].append(str(error))
    return found | _counts(manifest)


def frame_from_manifest(manifest: Manifest) -> pd.DataFrame:
    """A manifest as a table.

    Returns:
      filename (absolute, so that it means the same with any `data_dir`) and category (with several labels in a row, a JSON list),
      then start, end (seconds), split, group and the metadata, each where any row has it. `attrs` hold the `errors` (files that
      are left out, and why) and `notes` of the manifest; `validate_dataset` reports both.
    """
    import pandas as pd

    several = bool((manifest.labels.per_row != 1).any())
    rows = [list(manifest.labels[row]) for row in range(len(manifest))]
    columns: dict[str, Any] = {
        "filename": [name if is_record(name) else os.path.abspath(name) for name in manifest.files.tolist()],
        "category": [json.dumps(names, ensure_ascii=False) if several else names[0] for names in rows],
    }
    times = {"start": manifest.starts, "end": manifest.ends}
    columns |= {name: column for name, column in times.items() if not np.isnan(column).all()}
    texts = {"split": manifest.splits, "group": manifest.groups}
    columns |= {name: column.tolist() for name, column in texts.items() if (column != "").any()}
    frame = pd.DataFrame(columns | {name: column.tolist() for name, column in manifest.metadata.items()})
    frame.attrs |= {"errors": [str(error) for error in manifest.errors], "notes": list(manifest.notes)}
    return frame


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV, without its index. `read_table` restores texts that a spreadsheet would otherwise run."""
    from pandas.api.types import is_numeric_dtype

    safe = frame.apply(lambda column: column if is_numeric_dtype(column) else column.map(_safe))
    return safe.to_csv(index=False, header=[_safe(name) for name in frame.columns])


def _safe(cell: Any) -> Any:
    return safe_cell(cell) if isinstance(cell, str) else cell


def _frame_of_source(source: str, path: AnyPath) -> pd.DataFrame:
    return frame_from_manifest(load_manifest(DataConfig(source=source, root=os.fspath(path)), workdir=Path()))


def _counts(manifest: Manifest | None) -> dict[str, Any]:
    classes = manifest.labels.counts() if manifest is not None else {}
    files = set(manifest.files.tolist()) if manifest is not None else set()
    missing = sum(not is_present(name) for name in files)
    return {
        "existing_files": len(files) - missing,
        "missing_files": missing,
        "num_classes": len(classes),
        "class_names": list(classes),
        "class_distribution": classes,
    }
