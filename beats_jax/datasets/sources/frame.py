"""Manifests from pandas DataFrames, by the rules of tables on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beats_jax.audio.files import some
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources.columns import find_label_column
from beats_jax.datasets.sources.table import manifest_from_table
from beats_jax.datasets.sources.text_table import Table
from beats_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def manifest_from_frame(frame: pd.DataFrame, data: DataConfig, *, fold_column: str = "fold") -> Manifest:
    """A manifest from a DataFrame.

    Columns and files are found as in a table on disk (`sources.table.load_table`); file names are absolute or start from
    `data.root` (without it, the working directory). Labels may be numbers (3, and 3.0 in a column of whole numbers, are "3");
    spaces around them are cut, with a note. With `data.multi_label` cells may be lists. `fold_column` names the folds, if any.

    Raises:
      UserError: not a DataFrame, no rows, a column that is missing (the nearest one is named) or repeated, a blank (None, NaN)
        file name or label, a time that is not a number, an unknown split, or no file exists.
    """
    table = table_from_frame(frame)
    if fold_column in table:
        table["fold"] = table[fold_column]
    manifest = manifest_from_table(_strip(table), data, Path())
    spaced = sorted({cell for cell in table[find_label_column(list(table), data.label_column)] if cell != cell.strip()})
    if not spaced:
        return manifest
    note = f"{len(spaced)} labels have spaces around them, which are cut: {some([repr(name) for name in spaced])}"
    return manifest.with_notes(note)


def table_from_frame(frame: pd.DataFrame) -> Table:
    """Columns of texts: "" for None and NaN, whole numbers without a point, lists as JSON. Raises as `manifest_from_frame`."""
    require_frame(frame)
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the DataFrame has {names.count(name)} columns {name!r}; rename or drop one")
    if not len(frame):
        raise UserError("the DataFrame has no rows; give at least one recording per class")
    return Table({name: _texts(frame.iloc[:, place]) for place, name in enumerate(names)}, "DataFrame")


def require_frame(frame: Any) -> None:
    """Raises `UserError` unless `frame` is a pandas DataFrame."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise UserError(f"a pandas DataFrame is needed, this is of type {type(frame).__name__}; wrap it in pandas.DataFrame(...)")


def _texts(column: Any) -> list[str]:
    from pandas.api.types import is_float_dtype

    known = column.dropna()
    whole = is_float_dtype(column) and bool((known % 1 == 0).all())  # integers beside a NaN
    cells = zip(column, column.notna(), strict=True)
    return [_text(int(cell) if whole and there else cell, there) for cell, there in cells]


def _text(cell: Any, known: bool) -> str:
    if not known:
        return ""
    if isinstance(cell, list | tuple | set | frozenset):
        return json.dumps([str(item) for item in cell], ensure_ascii=False)
    return str(cell)


def _strip(table: Table) -> Table:
    return Table({name: [cell.strip() for cell in cells] for name, cells in table.items()}, table.name)
