"""The page on few-shot classification over episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from beats_jax.evaluation.episodes.result import EpisodeResult, episodes_interval
from beats_jax.evaluation.metrics.result import Estimate, format_estimate
from beats_jax.evaluation.report.figures import metrics as figures
from beats_jax.evaluation.report.page import Cell, Figure, Page, Paragraph, Section, Table, pairs_table

PAIRS = 10  # confusions in the table that stands for the matrices


@dataclass(frozen=True)
class EpisodeFindings:
    """One method on one embedding of one encoder."""

    encoder: str
    layer: str
    pooling: str
    method: str
    result: EpisodeResult

    @property
    def name(self) -> str:
        """For readers."""
        return f"{self.encoder}, {self.method}"


def episodes_page(
    found: Sequence[EpisodeFindings],
    class_names: Sequence[str],
    what: str,
    notes: Sequence[str],
    data_summary: Mapping[str, object],
    **fields: Any,
) -> Page:
    """The page.

    Args:
      found: the first is the headline; then others on the same episodes. what: the episodes in a sentence.
      notes: further findings. fields: title, settings, errors, command and versions of `Page`.
    """
    first = found[0]
    return Page(
        subtitle=what,
        tiles=[(one.name, one.result.episodes) for one in found[:4]],
        note="Intervals: 95 % over episodes, for these classes; those for other classes are in the table.",
        findings=[*sentences(found), *notes],
        sections=[_methods(found), _draws(first), _classes(first, class_names), Section("Data", [pairs_table(data_summary)])],
        **fields,
    )


def sentences(found: Sequence[EpisodeFindings]) -> list[str]:
    """The figures in plain sentences."""
    first = found[0]
    classes = int((first.result.confusion.sum(axis=1) > 0).sum())
    value, over_episodes = format_estimate(first.result.episodes)
    over_draws = format_estimate(first.result.draws)[1]
    number = len(first.result.accuracies)
    lines = [f"{first.name}: accuracy {value} {over_episodes} over {number} episodes of these {classes} classes."]
    if over_draws:
        lines.append(f"For other classes like these expect {over_draws}, by {len(first.result.draw_means)} draws of classes.")
    else:
        lines.append("Every draw holds all classes, so nothing is known of how much the figure depends on them.")
    for other in found[1:]:
        same = other.layer == first.layer and other.pooling == first.pooling
        place = "" if same or other.encoder != first.encoder else f" (layer {other.layer}, {other.pooling})"
        value, interval = format_estimate(other.result.episodes)
        gain = difference(other.result, first.result)
        by, span = format_estimate(gain)
        word = "like the first" if gain.low is None or gain.low <= 0 <= (gain.high or 0) else f"{by} {span} from the first"
        lines.append(f"{other.name}{place}: {value} {interval}, {word}.")
    return lines


def difference(result: EpisodeResult, other: EpisodeResult) -> Estimate:
    """Mean difference of the accuracies in the same episodes, with its interval over episodes."""
    return episodes_interval(result.accuracies - other.accuracies)


def _methods(found: Sequence[EpisodeFindings]) -> Section:
    rows = [
        (one.encoder, one.method, one.layer, one.pooling, one.result.episodes, format_estimate(one.result.draws)[1] or "-")
        for one in found
    ]
    header = ("encoder", "method", "layer", "pooling", "accuracy, over episodes", "for other classes")
    note = "All rows are of the same episodes. Figures of several layers or methods beside each other flatter the best of them."
    return Section("Methods", [Table(header, rows, numbers_from=4), Paragraph(note, "note")])


def _draws(first: EpisodeFindings) -> Section | None:
    if len(first.result.draw_means) < 2:
        return None
    rows = [(number, mean) for number, mean in enumerate(first.result.draw_means.tolist(), start=1)]
    return Section("Draws of classes", [Table(("draw", f"accuracy of {first.name}"), rows)])


def _classes(first: EpisodeFindings, names: Sequence[str]) -> Section:
    confusion, shares = first.result.confusion, first.result.class_accuracies
    drawn = np.flatnonzero(confusion.sum(axis=1))
    order = drawn[np.argsort(-shares[drawn], kind="stable")].tolist()
    rows: list[tuple[Cell, ...]] = [(str(names[label]), int(confusion[label].sum()), float(shares[label])) for label in order]
    seen, seen_names = confusion[np.ix_(drawn, drawn)], [names[label] for label in drawn.tolist()]
    draw = partial(figures.confusion_pictures, seen, seen_names)
    caption = "Rows: true class; columns: named class, summed over episodes. A share is of its row."
    picture = Figure(draw, "confusion matrices: counts, and shares of the true class", caption, instead=_pairs(seen, seen_names))
    return Section("Classes", [Table(("class", "queries", f"named rightly by {first.name}"), rows), picture])


def _pairs(confusion: np.ndarray, names: Sequence[str]) -> Table | None:
    wrong = confusion - np.diag(np.diag(confusion))
    largest = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    rows = [(names[int(a)], names[int(b)], int(wrong[a, b]), int(confusion[a].sum())) for a, b in largest if wrong[a, b]]
    return Table(("class", "taken for", "times", "of"), rows, numbers_from=2) if rows else None
