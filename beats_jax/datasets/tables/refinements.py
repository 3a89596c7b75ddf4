"""refinements.csv: what somebody decided on the clusters of `discover`, a line each, and the clusters that follow from it.

    action,cluster,value,regions,reviewer,time

| action | does |
|---|---|
| begin | the first line; value: hash of the regions.csv whose rows the lines are about |
| name | the cluster is a kind of sound; value: its name |
| merge | the cluster's regions join those of the cluster in value |
| split | the cluster becomes NAME.1, NAME.2, ...; regions: the rows of each part, `|` between them |
| move | the regions leave the cluster for the one in value; blank = for none |
| drop | the cluster is no kind of sound, and its regions are not used |
| undo | takes the action on the line in value back |

Rows are those of regions.csv, counted from 0: `0-4 9`. A cluster is known by its name in regions.csv, or as part of a split one,
not by the name that somebody gave it. Lines are only ever added.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beats_jax.config.validation import nearest
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError
from beats_jax.spreadsheets import safe_cell

REFINEMENTS_FILE, REGIONS_FILE = "refinements.csv", "regions.csv"
COLUMNS = ("action", "cluster", "value", "regions", "reviewer", "time")
BEGIN, NAME, MERGE, SPLIT, MOVE, DROP, UNDO = ACTIONS = ("begin", "name", "merge", "split", "move", "drop", "undo")
OPEN, NAMED, DROPPED = "open", "named", "dropped"
UNCLUSTERED = "unclustered"  # what tables of regions call one that is in no cluster
_RUN = re.compile(r"(\d+)(?:-(\d+))?")


class Refinement(NamedTuple):
    """A line. regions: rows, one list for each part of a split, one for a move. time: ISO 8601 in UTC."""

    action: str
    cluster: str = ""
    value: str = ""
    regions: tuple[tuple[int, ...], ...] = ()
    reviewer: str = ""
    time: str = ""


@dataclass(frozen=True)
class RefinedCluster:
    """A cluster now.

    Attributes:
      name: what tables have; the id until somebody names it. status: open | named | dropped. rows: int64 [n].
      changed: number of the line that changed it last, 0 = none did.
    """

    id: str
    name: str
    status: str
    rows: np.ndarray
    changed: int = 0


@dataclass
class Refined:
    """The clusters after all lines.

    Attributes:
      clusters: id → cluster; those that were merged or split are gone. lines: how many there are. standing: numbers of the lines
        that count and can be taken back, the oldest first.
    """

    clusters: dict[str, RefinedCluster]
    lines: int = 0
    standing: list[int] = field(default_factory=list)

    def names(self, count: int) -> tuple[list[str], list[str]]:
        """For each of `count` regions the name of its cluster and open, named, dropped, or "" in no cluster."""
        found, status = [UNCLUSTERED] * count, [""] * count
        for cluster in self.clusters.values():
            for row in cluster.rows.tolist():
                found[row], status[row] = cluster.name, cluster.status
        return found, status


def first_clusters(names: Sequence[str]) -> Refined:
    """The clusters of regions.csv, by the name that each row has, in the order of their names."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    rows.pop(UNCLUSTERED, None)
    return Refined({name: RefinedCluster(name, name, OPEN, np.array(rows[name], np.int64)) for name in sorted(rows)})


def refine(names: Sequence[str], lines: Sequence[Refinement]) -> Refined:
    """The clusters of rows with these names after all lines.

    Raises:
      UserError: a line that cannot be done; it is named by its number.
    """
    undone = {int(line.value) for line in lines if line.action == UNDO and line.value.isdecimal()}
    state = first_clusters(names)
    for number, line in enumerate(lines, start=1):
        state.lines = number
        if line.action not in (BEGIN, UNDO) and number not in undone:
            apply(state, line, number, len(names))
            state.standing.append(number)
    return state


def apply(state: Refined, line: Refinement, number: int, count: int) -> None:
    """Changes the clusters by a line, in place. Raises `UserError` where it cannot be done."""
    cluster = _cluster(state, line.cluster, number)
    if line.action in (NAME, DROP):
        status = (line.value, NAMED) if line.action == NAME else (cluster.name, DROPPED)
        state.clusters[cluster.id] = replace(cluster, name=status[0], status=status[1], changed=number)
    elif line.action == MERGE:
        other = _cluster(state, line.value, number)
        if other.id == cluster.id:
            raise UserError(f"decision {number}: {cluster.id} cannot be merged with itself")
        del state.clusters[cluster.id]
        _set_rows(state, other, np.union1d(other.rows, cluster.rows), number)
    elif line.action == SPLIT:
        parts = [np.array(sorted(part), np.int64) for part in line.regions]
        if len(parts) < 2 or not np.array_equal(np.sort(np.concatenate(parts)), cluster.rows):
            raise UserError(f"decision {number}: the parts of {cluster.id} are not its regions")
        del state.clusters[cluster.id]
        for place, part in enumerate(parts, start=1):
            own = f"{cluster.id}.{place}"
            state.clusters[own] = RefinedCluster(own, own, OPEN, part, number)
    else:
        _move(state, cluster, line, number, count)


def _move(state: Refined, cluster: RefinedCluster, line: Refinement, number: int, count: int) -> None:
    rows = np.array(sorted(line.regions[0]) if line.regions else [], np.int64)
    if not len(rows) or not np.isin(rows, cluster.rows).all() or rows[-1] >= count:
        raise UserError(f"decision {number}: {cluster.id} does not have these regions")
    other = _cluster(state, line.value, number) if line.value else None
    _set_rows(state, cluster, np.setdiff1d(cluster.rows, rows), number)
    if other is not None:
        _set_rows(state, other, np.union1d(other.rows, rows), number)


def _set_rows(state: Refined, cluster: RefinedCluster, rows: np.ndarray, number: int) -> None:
    if len(rows):
        state.clusters[cluster.id] = replace(state.clusters[cluster.id], rows=rows, changed=number)
    else:
        del state.clusters[cluster.id]


def _cluster(state: Refined, name: str, number: int) -> RefinedCluster:
    if name not in state.clusters:
        raise UserError(f"decision {number}: there is no cluster {name!r} now; {nearest(name, list(state.clusters))}")
    return state.clusters[name]


def concerned(line: Refinement) -> set[str]:
    """The clusters that a line changes or makes."""
    parts = {f"{line.cluster}.{place}" for place in range(1, len(line.regions) + 1)} if line.action == SPLIT else set()
    other = {line.value} if line.action in (MERGE, MOVE) and line.value else set()
    return {line.cluster} | parts | other


def read_refinements(path: Path) -> list[Refinement]:
    """All lines, the oldest first. Raises `UserError` for a table of another kind, or a line that is none of ours."""
    table = read_table(path)
    table.require_columns(COLUMNS)
    found = []
    for row, (action, cluster, value, regions, reviewer, time) in enumerate(zip(*(table[name] for name in COLUMNS), strict=True)):
        if action not in ACTIONS or not time:
            raise UserError(
                f"{table.at(row)}: {action or 'a blank'!r} is no whole decision; `python -m beats_jax.review` repairs it"
            )
        if action == UNDO and not value.isdecimal():
            raise UserError(f"{table.at(row)}: undo needs the number of a decision, not {value!r}")
        parts = tuple(_rows(part, table.at(row)) for part in regions.split("|")) if regions else ()
        found.append(Refinement(action, cluster, value, parts, reviewer, time))
    if found and found[0].action != BEGIN:
        raise UserError(f"{path} does not start with the action begin; restore it from a copy, or move it away")
    return found


def _rows(text: str, where: str) -> tuple[int, ...]:
    """`0-2 9` → (0, 1, 2, 9)."""
    rows: list[int] = []
    for run in text.split():
        found = _RUN.fullmatch(run)
        if found is None:
            raise UserError(f"{where}: {run!r} are no rows; write 0-4 9")
        rows += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(rows)


def rows_text(rows: Iterable[int]) -> str:
    """(0, 1, 2, 9) → `0-2 9`."""
    ordered = np.array(sorted(rows), np.int64)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if len(ordered) else []
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def refinement_lines(lines: Iterable[Refinement], *, header: bool) -> bytes:
    """Lines of the table. `time` comes last, so that a line which a kill cut off is known by what it lacks."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for line in lines:
        regions = "|".join(map(rows_text, line.regions))
        texts = [safe_cell(cell) for cell in (line.cluster, line.value)]
        writer.writerow([line.action, *texts, regions, safe_cell(line.reviewer), line.time])
    return text.getvalue().encode("utf-8", "surrogateescape")
