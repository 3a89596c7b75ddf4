"""Makes folds for a cross-validation of any data: whole recordings, sites, days or other groups, and every class evenly."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.splits import FOLD_GROUP, deal, numbered_groups
from beats_jax.errors import UserError

OWN_GROUPS = ("", "recording", "group")  # names for the rule of `splits.group_codes`
# beside ISO 8601; the first is AudioMoth's
_STAMPS = ("%Y%m%d_%H%M%S", "%Y%m%d-%H%M%S", "%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S")


def with_folds(manifest: Manifest, data: DataConfig) -> Manifest:
    """The manifest with the folds that `data.num_folds` and `data.fold_by` ask for, if any."""
    if not data.num_folds:
        return manifest
    return grouped_folds(manifest, data.num_folds, by=data.fold_by, seed=data.split_seed)


def grouped_folds(manifest: Manifest, num_folds: int, *, by: str = "", seed: int = 0) -> Manifest:
    """The manifest with metadata `fold`: "1" to `num_folds`, which replaces an older one.

    Rows that belong together (same file, group or content, see `splits.group_codes`) or agree in the column `by` are in one fold,
    also by a chain of these. Whole groups are spread so that each class is as even as they allow; a class in fewer groups than
    folds is missing from some folds. The same seed gives the same folds.

    Args:
      by: "", "recording" or "group" = no further column; or a metadata column, such as a site. In a column of dates with times
        only the date counts.
    Raises:
      UserError: fewer than 2 folds, fewer groups than folds, no such column, or a blank cell in it.
    """
    if num_folds < 2:
        raise UserError(f"data.num_folds is {num_folds}; a cross-validation needs at least 2")
    if by in manifest.metadata or by not in OWN_GROUPS:
        column = fold_column(manifest, by)
        if by in ("fold", FOLD_GROUP):
            raise UserError(f"data.fold_by is {by!r}, which the new folds would replace; name another column")
        manifest = manifest.with_metadata(**{FOLD_GROUP: column})
    codes, groups = numbered_groups(manifest)
    if groups < num_folds:
        what = f"by column {by!r} " if by not in OWN_GROUPS else ""
        raise UserError(
            f"data.num_folds is {num_folds}, but the data has {groups} groups {what}that must stay whole; ask for fewer folds"
        )
    chosen = deal(manifest, codes, np.full(num_folds, 1 / num_folds), seed)
    return manifest.with_metadata(fold=text_column([str(k + 1) for k in chosen.tolist()]))


def fold_column(manifest: Manifest, by: str) -> np.ndarray:
    """StringDType [N]: the metadata column `by`, dates with times cut to the date. Raises `UserError`, see `grouped_folds`."""
    if by not in manifest.metadata:
        known = [*manifest.metadata]
        hint = nearest(by, known) if known else "the data has no further columns"
        raise UserError(f"data.fold_by is {by!r}, which is no column of the data; {hint}")
    cells = [str(cell).strip() for cell in manifest.metadata[by].tolist()]
    if "" in cells:
        row = cells.index("")
        raise UserError(
            f"{cells.count('')} rows have no {by!r}, the first is {manifest.files[row]}; fill the column in, or choose another "
            "data.fold_by"
        )
    days = [_day(cell) for cell in cells]
    # one cell that is no date makes all of them names
    return text_column(cells if None in days else [str(day) for day in days])


def _day(cell: str) -> str | None:
    """ "2021-05-03" from a date or a date with a time; None for any other text, such as the number of a site."""
    if len(cell) < len("20210503"):
        return None
    for form in ("", *_STAMPS):  # "" = ISO 8601
        try:
            return (datetime.strptime(cell, form) if form else datetime.fromisoformat(cell)).date().isoformat()
        except ValueError:
            continue
    return None
