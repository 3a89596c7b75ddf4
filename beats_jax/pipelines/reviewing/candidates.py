"""Clips to review: detections of `detect`, events of any table with scores, or all windows that `detect` scored.

Detections alone show how often a detector is right. Its windows with low scores hold the calls that it misses, which teach it
more (`docs/review.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.datasets.sources.annotations import find_tables, locate_recordings
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import read_events
from beats_jax.datasets.tables.reviews import REVIEW_FILE, Place, place_of
from beats_jax.errors import UserError
from beats_jax.files import require_below
from beats_jax.json_files import read_json
from beats_jax.pipelines.detecting.detect import RECORD, tables_of_output
from beats_jax.pipelines.detecting.scores import SCORES, score_columns, scored_recordings
from beats_jax.pipelines.detecting.thresholds import DEFAULT, known_labels

KINDS = ("detections", "windows")
_UNSAFE = frozenset("\r\n\0")  # a name with these would not come back from a table


@dataclass(frozen=True, eq=False)
class Candidates:
    """N clips.

    Attributes:
      events: all with finite scores. thresholds: label → score from which it counts as found, where that is known.
      audio: folder of the recordings, outside of which none is opened; None = where the table says they are.
      left_out: why clips are left out → how many.
    """

    events: Events
    thresholds: Mapping[str, float] = field(default_factory=dict)
    audio: Path | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events)

    @cached_property
    def places(self) -> list[Place]:
        """The key of each clip in the table of verdicts."""
        columns = (self.events.files, self.events.starts, self.events.ends, self.events.labels)
        return [place_of(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    @cached_property
    def place_set(self) -> frozenset[Place]:
        """All of `places`."""
        return frozenset(self.places)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """label → its clips (int64), labels with most clips first."""
        names = self.events.labels
        found = {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()))}
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @cached_property
    def _paths(self) -> dict[str, str]:
        names = list(dict.fromkeys(self.events.files.tolist()))
        return locate_recordings(names, self.audio) if self.audio else {name: name for name in names}

    def threshold(self, label: str) -> float:
        """The score from which a label counts as found."""
        return self.thresholds.get(label, DEFAULT)

    def recording(self, row: int) -> Path:
        """The file of a clip.

        Raises:
          UserError: it is missing, or lies outside of `audio`.
        """
        return require_below(Path(self._paths[str(self.events.files[row])]), self.audio, "--audio")


def open_candidates(place: Path, *, kind: str = "detections", labels: Sequence[str] = (), audio: str = "") -> Candidates:
    """The clips of an output of `detect`, or of a table of events.

    Args:
      kind: detections, or windows: all that `detect` scored, of `labels`. labels: those that are wanted; () = all.
    Raises:
      UserError: nothing there, a table without scores, an unknown label, windows without a label or without scores on disk.
    """
    require_one_of("--of", kind, KINDS)
    if not place.exists():
        raise UserError(f"--detections {place} does not exist; give an output of detect, or a table of events")
    if audio and not Path(audio).is_dir():
        raise UserError(f"--audio {audio} is no folder; give the folder of the recordings")
    record = read_json(place / RECORD, dict, remedy="run detect again") if (place / RECORD).is_file() else {}
    thresholds = {
        str(label): float(found["value"])
        for label, found in record.get("thresholds", {}).items()
        if isinstance(found, dict) and isinstance(found.get("value"), int | float)
    }
    if kind == "windows":
        events = _windows(place, [str(label) for label in record.get("labels", [])], labels)
    else:
        events = _detections(place, labels)
    events, left_out = _usable(events)
    if not len(events):
        raise UserError(f"{place} holds nothing to review{f' ({left_out})' if left_out else ''}; lower the threshold of detect")
    return Candidates(events, thresholds, Path(audio) if audio else None, left_out)


def _detections(place: Path, labels: Sequence[str]) -> Events:
    events = Events.concatenate([read_events(table) for table in _tables(place)])
    if not labels:
        return events
    wanted = known_labels(labels, sorted(set(events.labels.tolist())))
    return events.take(np.isin(events.labels, np.array(wanted, np.dtypes.StringDType())))


def _tables(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = tables_of_output(place)
    if found is None:
        return [table for table in find_tables(place, "") if table.name != REVIEW_FILE]
    if not found:
        raise UserError(f"{place} holds no table of detections; give --of windows, or run detect without --scores-only")
    return found


def _windows(place: Path, all_labels: Sequence[str], labels: Sequence[str]) -> Events:
    if not all_labels:
        raise UserError(f"--of windows needs the scores of detect, and {place} has no {RECORD}; give an output of detect")
    if not labels:
        raise UserError("--of windows needs --label: each window has a score of every label")
    wanted = known_labels(labels, all_labels)
    columns = score_columns(all_labels)
    parts = []
    for recording in scored_recordings(place / SCORES, [columns[label] for label in wanted]):
        number = len(recording.starts)
        for column, label in enumerate(wanted):
            scores = [float(str(score)) for score in recording.scores[:, column]]  # short numbers, as in detections.csv
            places = ([recording.file] * number, np.round(recording.starts, 6), np.round(recording.ends, 6))
            parts.append(Events.from_columns(*places, [label] * number, scores=scores))
    return Events.concatenate(parts)


def _usable(events: Events) -> tuple[Events, dict[str, int]]:
    """The clips that a table of verdicts can hold, and how many are left out, by why."""
    scored = np.isfinite(events.scores)
    if len(events) and not scored.any():
        raise UserError("the table has no scores; review needs the score of each detection")
    files, names = events.files.tolist(), events.labels.tolist()
    safe = np.array([name == name.strip() and not _UNSAFE & set(name) for name in files], bool)
    labelled = np.array([bool(label) and not _UNSAFE & set(label) for label in names], bool)
    first, seen = np.zeros(len(events), bool), set()
    for row, place in enumerate(zip(files, events.starts.tolist(), events.ends.tolist(), names, strict=True)):
        first[row] = place not in seen
        seen.add(place)
    reasons = {"without a score": scored, "of files with such a name": safe, "without a label": labelled, "given twice": first}
    kept = np.ones(len(events), bool)
    left_out = {}
    for why, good in reasons.items():
        left_out[why] = int((kept & ~good).sum())
        kept &= good
    return events.take(kept), {why: count for why, count in left_out.items() if count}
