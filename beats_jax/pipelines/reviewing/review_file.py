"""The table of verdicts, to which pages in several tabs and processes add at once (`appended`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from beats_jax.datasets.tables.reviews import COLUMNS, TAKEN_BACK, Review, read_reviews, review_lines, standing
from beats_jax.errors import UserError
from beats_jax.pipelines.exploring.label_table import checked_text
from beats_jax.pipelines.reviewing.appended import changing, header_of, repair, repair_file, time_now, write_whole


class ReviewFile:
    """The table at `path`, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[tuple[int, int], tuple[Review, ...]] | None = None

    def reviews(self) -> tuple[Review, ...]:
        """All lines, the oldest first. Raises `UserError` where the table is not one of ours or cannot be read."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        if found.st_size == 0:
            return ()
        state = found.st_size, found.st_mtime_ns
        if self._seen is None or self._seen[0] != state:
            self._seen = state, tuple(read_reviews(self.path)) if self._has_rows() else ()
        return self._seen[1]

    def repair(self) -> str:
        """Removes a last line that a kill cut off, and returns it; "" = all lines are whole. Raises `UserError` as `add`."""
        return repair_file(self.path)

    def require_ours(self) -> None:
        """Raises `UserError` where verdicts could not be read, or not be added."""
        if self.reviews() or (self.path.is_file() and self.path.stat().st_size):
            self._has_rows(check=True)

    def add(self, reviews: Sequence[Review], reviewer: str) -> None:
        """Adds verdicts of a reviewer, at the time of now.

        Raises:
          UserError: a name or label that is empty, too long or holds control characters; a table with other columns; it cannot be
            written, or another process holds it for long.
        """
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        lines = [
            review._replace(
                other_label=checked_text(review.other_label, "label") if review.other_label else "",
                reviewer=reviewer,
                time=time_now(),
            )
            for review in reviews
        ]
        self._append(lambda _: lines)

    def undo(self, reviewer: str, of: Callable[[Review], bool] = lambda _: True) -> Review | None:
        """Takes back the last verdict of a reviewer that still counts and is wanted by `of`; returns it, None = there is none.

        Raises:
          UserError: as `add`.
        """
        reviewer = checked_text(reviewer or "unknown", "reviewer")
        taken: list[Review] = []

        def line(reviews: tuple[Review, ...]) -> list[Review]:
            own = [one for one in standing(reviews).values() if one.reviewer == reviewer and of(one)]
            taken.extend(own[-1:])
            return [one._replace(verdict=TAKEN_BACK, other_label="", time=time_now()) for one in taken]

        self._append(line)
        return taken[0] if taken else None

    def _append(self, lines: Callable[[tuple[Review, ...]], list[Review]]) -> None:
        """Adds lines that depend on the table, which is read under the lock."""
        with changing(self.path) as descriptor:
            repair(descriptor)
            size = os.fstat(descriptor).st_size
            wanted = lines(self.reviews())
            if not wanted:
                return
            if size:
                self._has_rows(check=True)
            write_whole(descriptor, review_lines(wanted, header=size == 0), size)

    def _has_rows(self, *, check: bool = False) -> bool:
        """Whether there is a line below the header. Raises `UserError` where the header, as `check` asks, is not ours."""
        header, more = header_of(self.path)
        if check and header != ",".join(COLUMNS):
            raise UserError(
                f"{self.path} has another header than {','.join(COLUMNS)} (a spreadsheet may have changed it); "
                "save it with commas and these columns, or give --review another file"
            )
        return more
