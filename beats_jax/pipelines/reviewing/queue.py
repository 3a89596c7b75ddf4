"""The clips of a label in the order of review, with what was decided on each: what the page shows, without a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from beats_jax.datasets.tables.reviews import NO, UNSURE, YES, Place, Review
from beats_jax.evaluation.metrics.precision_table import wilson_interval
from beats_jax.pipelines.reviewing.candidates import Candidates
from beats_jax.pipelines.reviewing.order import review_order
from beats_jax.pipelines.reviewing.review_file import ReviewFile


@dataclass(frozen=True)
class Progress:
    """Of one label: clips, and how many have each verdict."""

    clips: int
    yes: int
    no: int
    unsure: int

    @property
    def reviewed(self) -> int:
        """Clips with a verdict, unsure ones too."""
        return self.yes + self.no + self.unsure

    @property
    def right(self) -> tuple[float, float, float] | None:
        """(share of yes among yes and no, lower and upper end of its 95 % interval); None before the first."""
        sure = self.yes + self.no
        return (self.yes / sure, *wilson_interval(self.yes, sure)) if sure else None


@dataclass(frozen=True, eq=False)
class Queue:
    """Clips (int64 `rows` of `candidates`) by their position in the review; `decided` is from `tables.reviews.standing`."""

    candidates: Candidates
    rows: np.ndarray
    decided: Mapping[Place, Review]

    def __len__(self) -> int:
        return len(self.rows)

    def review(self, position: int) -> Review | None:
        """What was decided on a clip."""
        return self.decided.get(self.candidates.places[self.rows[position]])

    def next_open(self, after: int = -1) -> int | None:
        """The first position without a verdict behind `after`, else from the start; None = all are reviewed."""
        for position in chain(range(after + 1, len(self)), range(after + 1)):
            if self.review(position) is None:
                return position
        return None


def queue_of(
    candidates: Candidates,
    label: str,
    order: str,
    decided: Mapping[Place, Review],
    *,
    vectors: np.ndarray | None = None,
    seed: int = 0,
) -> Queue:
    """The clips of a label. vectors: float [N, D] of all candidates, for diverse. Raises `UserError` as `review_order`."""
    rows = candidates.labels[label]
    own = None if vectors is None else vectors[rows]
    ranks = review_order(candidates.events.scores[rows], order, threshold=candidates.threshold(label), vectors=own, seed=seed)
    return Queue(candidates, rows[ranks], decided)


def progress_of(candidates: Candidates, decided: Mapping[Place, Review]) -> dict[str, Progress]:
    """label → how far its review is."""
    counts = Counter((review.label, review.verdict) for place, review in decided.items() if place in candidates.place_set)
    return {
        label: Progress(len(rows), *(counts[label, verdict] for verdict in (YES, NO, UNSURE)))
        for label, rows in candidates.labels.items()
    }


def decide(table: ReviewFile, candidates: Candidates, row: int, verdict: str, reviewer: str, other_label: str = "") -> None:
    """Adds a verdict on a clip. Raises `UserError` as `ReviewFile.add`."""
    events = candidates.events
    place = str(events.files[row]), float(events.starts[row]), float(events.ends[row]), str(events.labels[row])
    table.add([Review(*place, float(events.scores[row]), verdict, other_label)], reviewer)
