"""The table of decisions on clusters, to which pages in several tabs and processes add at once (`reviewing.appended`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from beats_jax.datasets.sources.clusters import regions_hash, require_same_regions
from beats_jax.datasets.tables.refinements import (
    BEGIN,
    COLUMNS,
    NAME,
    REFINEMENTS_FILE,
    UNDO,
    Refined,
    Refinement,
    apply,
    concerned,
    read_refinements,
    refine,
    refinement_lines,
)
from beats_jax.errors import UserError
from beats_jax.pipelines.exploring.label_table import checked_text
from beats_jax.pipelines.reviewing.appended import changing, header_of, repair, repair_file, time_now, write_whole


class RefinementFile:
    """refinements.csv of an output of `discover`, which may not exist yet; `names`: the cluster of each region in regions.csv."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.path, self._folder, self._names = folder / REFINEMENTS_FILE, folder, names
        self._seen: tuple[tuple[int, int], list[Refinement], Refined] | None = None

    def repair(self) -> str:
        """Removes a last line that a kill cut off, and returns it; "" = all lines are whole. Raises `UserError` as `add`."""
        return repair_file(self.path)

    def refined(self) -> Refined:
        """The clusters now; not to be changed. Raises `UserError` where the table is not ours, or of other regions."""
        return self._read()[1]

    def lines(self) -> list[Refinement]:
        """All lines, the oldest first; errors as `refined`."""
        return self._read()[0]

    def add(self, line: Refinement, reviewer: str, seen: int) -> None:
        """Adds a decision of a reviewer, at the time of now.

        Args:
          seen: how many lines the table had when the reviewer saw the clusters.
        Raises:
          UserError: somebody has changed one of its clusters since; a decision that cannot be done; a name that is empty, too
            long or holds control characters; a table that is not ours, cannot be written, or is held by another process for long.
        """
        line = line._replace(reviewer=checked_text(reviewer or "unknown", "reviewer"), time=time_now())
        if line.action == NAME:
            line = line._replace(value=checked_text(line.value, "name"))
        with changing(self.path) as descriptor:
            repair(descriptor)
            lines, state = self._read()
            self._require_unseen(lines, state, concerned(line), seen)
            trial = Refined(dict(state.clusters))
            apply(trial, line, len(lines) + 1, len(self._names))
            self._write(descriptor, line, lines)

    def undo(self, reviewer: str) -> Refinement | None:
        """Takes back the reviewer's last decision that still counts; returns it, None = there is none.

        Raises:
          UserError: a later decision is about the same clusters; else as `add`.
        """
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        with changing(self.path) as descriptor:
            repair(descriptor)
            lines, state = self._read()
            own = [number for number in state.standing if lines[number - 1].reviewer == reviewer]
            if not own:
                return None
            taken = lines[own[-1] - 1]
            later = [number for number in state.standing if number > own[-1] and concerned(lines[number - 1]) & concerned(taken)]
            if later:
                by = lines[later[-1] - 1]
                raise UserError(f"{by.reviewer} has decided on {by.cluster} since; that decision must be taken back first")
            line = Refinement(UNDO, taken.cluster, str(own[-1]), (), reviewer, time_now())
            self._write(descriptor, line, lines)
            return taken

    def _require_unseen(self, lines: list[Refinement], state: Refined, clusters: set[str], seen: int) -> None:
        for number in range(len(lines), seen, -1):
            line = lines[number - 1]
            about = lines[int(line.value) - 1] if line.action == UNDO else line
            if clusters & concerned(about):
                raise UserError(f"{line.reviewer} has changed {about.cluster} at {line.time}; look at it again, then decide")

    def _write(self, descriptor: int, line: Refinement, lines: list[Refinement]) -> None:
        size = os.fstat(descriptor).st_size
        if size and header_of(self.path)[0] != ",".join(COLUMNS):
            raise UserError(
                f"{self.path} has another header than {','.join(COLUMNS)} (a spreadsheet may have changed it); save it with "
                "commas and these columns, or move it away"
            )
        begin = [Refinement(BEGIN, "", regions_hash(self._folder), (), line.reviewer, line.time)] if not lines else []
        write_whole(descriptor, refinement_lines([*begin, line], header=size == 0), size)

    def _read(self) -> tuple[list[Refinement], Refined]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return [], refine(self._names, [])
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        state = found.st_size, found.st_mtime_ns
        if self._seen is None or self._seen[0] != state:
            lines = read_refinements(self.path) if found.st_size and header_of(self.path)[1] else []
            require_same_regions(self._folder, lines)
            self._seen = state, lines, refine(self._names, lines)
        return self._seen[1], self._seen[2]
