"""Known labels of regions, and how well clusters and regions agree with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.datasets.tables.events import Events
from beats_jax.evaluation.metrics.events import Counts, MatchRule, match_events
from beats_jax.pipelines.exploring.known_labels import LabelledStretch, Labels, read_labels

if TYPE_CHECKING:
    import pandas as pd

IOU = 0.3  # of time, from which a region counts as an annotated sound


def labels_of_items(labels: Labels, frame: pd.DataFrame) -> list[str]:
    """The label of each row: of the stretch that shares most of it, by time and, where both have bounds, by frequency.

    What is shared is divided by what both cover together: a short call within a long song of another kind has its own label.
    "" = none.
    """
    real = {file: os.path.realpath(file) for file in set(frame["file"])}
    columns = (frame[name].tolist() for name in ("file", "start", "end", "low_hz", "high_hz"))
    return [_nearest(labels.get(real[file], ()), *bounds) for file, *bounds in zip(*columns, strict=True)]


def _nearest(stretches: Sequence[LabelledStretch], start: float, end: float, low: float, high: float) -> str:
    best, found = 0.0, ""
    for one in stretches:
        share = _overlap(start, end, one.start, min(one.end, max(end, one.start)) if one.end == np.inf else one.end)
        if share > 0 and np.isfinite([low, high, one.low_hz, one.high_hz]).all():
            share *= _overlap(low, high, one.low_hz, one.high_hz)
        if share > best:
            best, found = share, one.label
    return found


def _overlap(low: float, high: float, other_low: float, other_high: float) -> float:
    """Intersection over union of two stretches; a point within the other one counts a little."""
    shared = min(high, other_high) - max(low, other_low)
    if shared < 0:
        return 0.0
    return max(shared, 1e-9) / max(max(high, other_high) - min(low, other_low), 1e-9)


def region_figures(labels: Labels, frame: pd.DataFrame, recordings: Sequence[str]) -> dict[str, float | int | None]:
    """Precision, recall and F1 of regions against annotated sounds of any label, matched one to one at an IoU in time of 0.3.

    {} where no annotated recording has sounds with times.
    """
    real = {os.path.realpath(file): file for file in recordings}
    rows = [
        (real[file], one.start, one.end)
        for file, stretches in labels.items()
        if file in real
        for one in stretches
        if np.isfinite(one.end)
    ]
    if not rows:
        return {}
    files, starts, ends = zip(*rows, strict=True)
    truth = Events.from_columns(files, starts, ends, ["sound"] * len(rows))
    annotated = {real[file] for file in labels if file in real}
    own = frame[frame["file"].isin(sorted(annotated))]
    found = Events.from_columns(own["file"].tolist(), own["start"].tolist(), own["end"].tolist(), ["sound"] * len(own))
    hits = int((match_events(truth, found, MatchRule(iou=IOU)) >= 0).sum())
    counts = Counts(hits, len(found) - hits, len(truth) - hits)
    figures = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return {
        "annotated": len(truth),
        "regions_in_annotated": len(found),
        **{f"region_{name}": None if np.isnan(value) else float(value) for name, value in figures.items()},
    }


def read_known(table: str, inputs: Sequence[str]) -> Labels:
    """Labels of a table; recordings are sought below the first input that is a folder. Raises `UserError` as `read_labels`."""
    return read_labels(table, next((given for given in inputs if os.path.isdir(given)), ""))
