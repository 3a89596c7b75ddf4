"""Reviewed detections as rows to train on: alone (`data.source` review), or beside other data (`data.reviewed`).

yes                 the clip has its label
no, other_label     it has the other one
no                  it is background (`data.background`), unless it overlaps a clip with a label, or an unsure one
unsure              left out
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from beats_jax.audio.files import some
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import LabelColumn, Manifest
from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.splits import REVIEWED
from beats_jax.datasets.tables.reviews import NO, REVIEW_FILE, UNSURE, YES, Review, read_reviews, standing
from beats_jax.errors import UserError

EPSILON = 1e-6  # seconds; less than a sample


@dataclass
class _Clip:
    """What is known of a stretch of a recording."""

    start: float
    end: float
    labels: set[str] = field(default_factory=set)
    unsure: bool = False


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """The clips of the review.csv that `data.metadata_file` names, or of all below a folder; a row each, groups are recordings.

    Raises:
      UserError: no table, one that cannot be read, or no clip with a verdict that can be used.
    """
    if not data.metadata_file:
        raise UserError(f"data.metadata_file is empty; data.source 'review' needs a {REVIEW_FILE}, or a folder with some")
    return reviewed_clips([data.metadata_file], data)


def add_reviewed(manifest: Manifest, data: DataConfig) -> Manifest:
    """The rows with those of `data.reviewed` behind them, which have `REVIEWED` in their metadata and only train.

    A clip in a stretch of which the data has a row already is left out, because the data knows it.

    Raises:
      UserError: as `load`.
    """
    if not data.reviewed:
        return manifest
    extra = reviewed_clips(data.reviewed, data)
    real = {os.path.realpath(file): file for file in set(manifest.files.tolist())}
    files = [real.get(os.path.realpath(file), file) for file in extra.files.tolist()]
    known = _stretches(manifest)
    new = [
        not any(start < end and begin < stop for begin, end in known.get(file, ()))
        for file, start, stop in zip(files, extra.starts.tolist(), extra.ends.tolist(), strict=True)
    ]
    notes = [f"{new.count(False)} reviewed clips are left out, because the data has rows there"] if not all(new) else []
    extra = replace(extra, files=np.array(files, np.dtypes.StringDType())).take(np.array(new, bool))
    extra, dropped = _of_classes(extra, data.classes)
    notes += [f"{dropped} reviewed clips are left out, because their labels are not in data.classes"] if dropped else []
    if others := sorted(extra.labels.counts().keys() - manifest.labels.counts().keys() - {data.background}):
        notes.append(f"labels that only reviewed clips have: {some(others)}")
    return _concatenate(manifest, extra).with_notes(*extra.notes, *notes, f"{len(extra)} reviewed clips are added for training")


def _of_classes(extra: Manifest, classes: Sequence[str]) -> tuple[Manifest, int]:
    """The rows whose labels are all in `classes` (all rows without classes), and how many others there are."""
    if not classes:
        return extra, 0
    kept = np.array([set(extra.labels[row]) <= set(classes) for row in range(len(extra))], bool)
    return extra.take(kept), int((~kept).sum())


def _stretches(manifest: Manifest) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    starts, ends = np.nan_to_num(manifest.starts), np.nan_to_num(manifest.ends, nan=np.inf)
    for file, start, end in zip(manifest.files.tolist(), starts.tolist(), ends.tolist(), strict=True):
        found.setdefault(file, []).append((start + EPSILON, end - EPSILON))
    return found


def _concatenate(manifest: Manifest, extra: Manifest) -> Manifest:
    """Both; a metadata column of the first is blank in the rows of the second."""
    both = [manifest, extra]
    marks = np.array([""] * len(manifest) + ["yes"] * len(extra), np.dtypes.StringDType())
    blank = np.array([""] * len(extra), np.dtypes.StringDType())
    return replace(
        manifest,
        **{
            name: np.concatenate([getattr(one, name) for one in both]) for name in ("files", "starts", "ends", "splits", "groups")
        },
        labels=LabelColumn.from_lists([one.labels[row] for one in both for row in range(len(one))]),
        metadata={**{name: np.concatenate([column, blank]) for name, column in manifest.metadata.items()}, REVIEWED: marks},
    )


def reviewed_clips(places: Sequence[str], data: DataConfig) -> Manifest:
    """Clips of several tables, later tables after earlier ones. Raises `UserError` as `load`."""
    reviews: list[Review] = []
    for table in (table for place in places for table in _tables(Path(place).expanduser())):
        root = Path(data.root).expanduser() if data.root else table.parent
        read = read_reviews(table)
        paths = locate_recordings(list(dict.fromkeys(review.file for review in read)), root)
        reviews += [review._replace(file=paths[review.file]) for review in read]
    files, clips, notes = _rows(standing(reviews).values(), data)
    if not clips:
        raise UserError(f"{some(list(places))} has no verdict to train on; review some clips first")
    labels = [sorted(clip.labels) for clip in clips]
    starts, ends = [clip.start for clip in clips], [clip.end for clip in clips]
    return Manifest.from_columns(files, labels, starts=starts, ends=ends, notes=notes)


def _tables(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = sorted(place.rglob(REVIEW_FILE)) if place.is_dir() else []
    if not found:
        raise UserError(f"{place} {f'holds no {REVIEW_FILE}' if place.is_dir() else 'does not exist'}; give a {REVIEW_FILE}")
    return found


def _rows(reviews: Iterable[Review], data: DataConfig) -> tuple[list[str], list[_Clip], list[str]]:
    """(files, clips, notes) of the rows."""
    clips: dict[tuple[str, float, float], _Clip] = {}
    for review in reviews:
        clip = clips.setdefault((review.file, review.start, review.end), _Clip(review.start, review.end))
        clip.unsure |= review.verdict == UNSURE
        if review.verdict == YES:
            clip.labels.add(review.label)
        elif review.verdict == NO and review.other_label:
            clip.labels.add(review.other_label)
    taken: dict[str, list[_Clip]] = {}  # what no rejected clip may touch
    for (file, _, _), clip in clips.items():
        if clip.labels or clip.unsure:
            taken.setdefault(file, []).append(clip)
    reasons = {place: _reason(clip, taken.get(place[0], ()), data) for place, clip in clips.items()}
    counts = Counter(reason for reason in reasons.values() if reason)
    kept = [place for place, reason in reasons.items() if not reason]
    for place in kept:
        if not clips[place].labels and data.background:
            clips[place].labels.add(data.background)
    notes = [f"{count} reviewed clips are left out: {why}" for why, count in counts.items()]
    return [file for file, _, _ in kept], [clips[place] for place in kept], notes


def _reason(clip: _Clip, taken: Iterable[_Clip], data: DataConfig) -> str:
    """Why a clip is no row; "" = it is one."""
    if clip.unsure and (data.multi_label or not clip.labels):
        return "unsure"
    if len(clip.labels) > 1 and not data.multi_label:
        return "several labels, and data.multi_label is off"
    if clip.labels:
        return ""
    if any(one.start < clip.end - EPSILON and clip.start < one.end - EPSILON for one in taken):
        return "rejected, beside a sound that is confirmed or unsure"
    return "" if data.background or data.multi_label else "rejected, and data.background is empty"
