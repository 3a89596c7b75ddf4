"""A resumed run keeps the rows it began with; this finds and names what has happened to their recordings since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.report import some
from beats_jax.errors import UserError

# Share of a run's recordings that may have gone or changed when it is resumed. A constant: a setting could not be changed for the
# run that meets it.
MOST_LOST = 0.2
CHANGED = "has changed since the run began, so that the run no longer uses it"


@dataclass(frozen=True)
class Changes:
    """Files, in the order of the rows.

    Attributes:
      recordings: number of the run's files.
      gone: not found. unreadable: found but unusable. changed: with another content, or another duration where contents are not
        known. described: with other times, labels, splits or folds than the run recorded. new: not in the run.
    """

    recordings: int
    gone: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[str, ...]:
        """Recordings that the run can no longer use."""
        return self.gone + self.unreadable + self.changed

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind."""
        kinds = {
            "gone since the run began": self.gone,
            "no longer readable": self.unreadable,
            "changed since the run began and no longer used": self.changed,
            "with other times, labels, splits or folds in the data now, while the run keeps its own": self.described,
        }
        notes = [f"{len(files)} of {self.recordings} recordings {what}: {some(files)}" for what, files in kinds.items() if files]
        if self.new:
            notes.append(f"recordings that were added since the run began, and are not used: {len(self.new)} ({some(self.new)})")
        return tuple(notes)


def compare_rows(recorded: Manifest, found: Manifest, usable: Manifest, data: DataConfig) -> Changes:
    """What has changed between the rows of a run and those there are now.

    Args:
      recorded: the run's rows. found: those that the source gives now. usable: those of them that validation lets pass.
    """
    before, now = _facts(recorded), _facts(usable)
    there = set(found.files.tolist())
    gone = tuple(file for file in before if file not in there)
    unreadable = tuple(file for file in before if file in there and file not in now)
    changed = tuple(file for file, fact in before.items() if file in now and _differ(fact, now[file]))
    lost = {*gone, *unreadable, *changed}
    new = tuple(file for file in now if file not in before)
    described = [file for file in _describe_differences(recorded, usable, data) if file not in lost and file in before]
    return Changes(len(before), gone, unreadable, changed, tuple(described), new)


def require_enough(changes: Changes) -> None:
    """Raises `UserError` where more than `MOST_LOST` of the recordings can no longer be used."""
    lost = len(changes.lost)
    if lost > MOST_LOST * changes.recordings:
        raise UserError(
            f"{lost} of the {changes.recordings} recordings of this run have gone or changed since it began "
            f"({some(changes.lost)}), more than {MOST_LOST:.0%}: put them back, or start anew in another --workdir"
        )


def list_lost(changes: Changes, errors: ErrorLog) -> None:
    """Lists the gone and changed files in errors.csv; validation has listed the unreadable ones."""
    for file in changes.gone:
        errors.add(file, "has gone since the run began")
    for file in changes.changed:
        errors.add(file, CHANGED)


def _facts(manifest: Manifest) -> dict[str, tuple[str, float]]:
    """File → hash of its bytes ("" = not known) and seconds."""
    columns = (manifest.metadata["file_hash"], manifest.metadata["seconds"])
    return dict(zip(manifest.files.tolist(), zip(*(column.tolist() for column in columns), strict=True), strict=True))


def _differ(before: tuple[str, float], now: tuple[str, float]) -> bool:
    return before[0] != now[0] if before[0] and now[0] else before[1] != now[1]


def _describe_differences(recorded: Manifest, usable: Manifest, data: DataConfig) -> list[str]:
    """Files of rows that are in one of the two only."""
    keys = [_row_keys(manifest, _given_placement(manifest, usable, data)) for manifest in (recorded, usable)]
    rows = [recorded.files[~np.isin(keys[0], keys[1])], usable.files[~np.isin(keys[1], keys[0])]]
    return list(dict.fromkeys(np.concatenate(rows).tolist()))


def _given_placement(manifest: Manifest, usable: Manifest, data: DataConfig) -> np.ndarray:
    """The fold or split that the data itself gives a row, or nothing."""
    if data.fold:
        return manifest.metadata["fold"] if not data.num_folds and "fold" in usable.metadata else np.zeros(len(manifest))
    given = bool((usable.splits != "").any()) and "role" not in usable.metadata
    return manifest.splits if given else np.zeros(len(manifest))


def _row_keys(manifest: Manifest, given: np.ndarray) -> np.ndarray:
    """int64 [N], equal for equal rows within this process; hashes, because a million tuples would take a gigabyte."""
    times = (np.nan_to_num(column, nan=-1.0).tolist() for column in (manifest.starts, manifest.ends))
    rows = zip(manifest.files.tolist(), *times, given.tolist(), strict=True)
    return np.array([hash((*row, manifest.labels[i])) for i, row in enumerate(rows)], np.int64)
