"""Clusters of `discover` that somebody has named on the review page, as rows to train on.

`data.metadata_file` is an output of `discover`: its regions.csv has the regions, its refinements.csv what was decided. Regions of
named clusters have the name as label; those of clusters that are open or dropped, and those in no cluster, are left out.
"""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.datasets.tables.cells import numbers
from beats_jax.datasets.tables.refinements import (
    BEGIN,
    NAMED,
    REFINEMENTS_FILE,
    REGIONS_FILE,
    Refined,
    Refinement,
    read_refinements,
    refine,
)
from beats_jax.errors import UserError
from beats_jax.files import sha256_of


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """A row a region of a named cluster; groups are recordings.

    Raises:
      UserError: no output of `discover`, regions that are no longer those of the decisions, or no named cluster.
    """
    if not data.metadata_file:
        raise UserError("data.metadata_file is empty; data.source 'clusters' needs an output of discover")
    folder = Path(data.metadata_file).expanduser()
    folder = folder.parent if folder.name in (REGIONS_FILE, REFINEMENTS_FILE) else folder
    if not (folder / REFINEMENTS_FILE).is_file():
        missing = f"has no {REFINEMENTS_FILE}" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {missing}; name its clusters with python -m beats_jax.review --clusters {folder}")
    table, refined = refined_regions(folder)
    rows = len(table["file"])
    names, status = refined.names(rows)
    kept = [row for row in range(rows) if status[row] == NAMED]
    if not kept:
        raise UserError(f"no cluster of {folder} has a name yet; name some with python -m beats_jax.review --clusters {folder}")
    starts, ends = (numbers(table[name], name, table, needed=True) for name in ("start", "end"))
    root = Path(data.root).expanduser() if data.root else folder
    paths = locate_recordings(list(dict.fromkeys(table["file"][row] for row in kept)), root)
    notes = [f"{rows - len(kept)} of {rows} regions are left out: their clusters have no name, or they are in none"]
    files = [paths[table["file"][row]] for row in kept]
    labels = [[names[row]] for row in kept]
    return Manifest.from_columns(files, labels, starts=starts[kept], ends=ends[kept], notes=notes)


def refined_regions(folder: Path) -> tuple[Table, Refined]:
    """regions.csv of an output of `discover`, and its clusters after all decisions.

    Raises:
      UserError: a table is missing or damaged, or the regions are no longer those that the decisions are about.
    """
    table = read_table(folder / REGIONS_FILE)
    table.require_columns(("file", "start", "end", "name"))
    log = folder / REFINEMENTS_FILE
    lines = read_refinements(log) if log.is_file() else []
    require_same_regions(folder, lines)
    return table, refine(table["name"], lines)


def require_same_regions(folder: Path, lines: list[Refinement]) -> None:
    """Raises `UserError` where regions.csv is not the table that the decisions are about."""
    begun = [line.value for line in lines if line.action == BEGIN]
    if begun and any(value != regions_hash(folder) for value in begun):
        raise UserError(
            f"{folder / REGIONS_FILE} has changed since the decisions in {REFINEMENTS_FILE} were made; restore it from a copy, "
            f"or move {REFINEMENTS_FILE} away"
        )


def regions_hash(folder: Path) -> str:
    """By which decisions know their regions."""
    return sha256_of(folder / REGIONS_FILE)[:16]
