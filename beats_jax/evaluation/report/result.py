"""The parts of a page that show an `EvaluationResult`: headline figures, classes and confusions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.result import EvaluationResult, interval_note, metric_title
from beats_jax.evaluation.report.figures import metrics as figures
from beats_jax.evaluation.report.page import Figure, Page, Section, Table

SHORT_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")
HEADLINES = {False: SHORT_METRICS, True: ("mAP", "auroc", "f1_macro", "f1_micro")}
PAIRS = 10  # confusions in the table that stands for the matrices


def result_page(result: EvaluationResult, *, groups: str = "recordings", **fields: Any) -> Page:
    """A page under the headline figures of a result. fields: the other ones of `Page`."""
    origin = f" from {result.num_groups} {groups}" if result.num_groups < result.n else ""
    kind = "multi-label" if result.multi_label else "single-label"
    return Page(
        subtitle=f"{result.n} examples{origin}, {len(result.class_names)} classes, {kind}",
        tiles=[(metric_title(name, result.multi_label), result.metrics[name]) for name in HEADLINES[result.multi_label]],
        note=interval_note(result),
        **fields,
    )


def classes_section(result: EvaluationResult) -> Section:
    """Picture and table of the classes, best F1 first."""
    order = sorted(result.classes, key=lambda found: -1.0 if found.f1.value is None else -found.f1.value)
    rows = [(one.name, one.n, one.predicted, one.precision, one.recall, one.f1, one.ap, one.auroc) for one in order]
    caption = "Points with 95 % intervals; number of examples in brackets; best F1 on top."
    picture = Figure(partial(figures.class_bars, result.classes), "F1 and recall per class", caption)
    return Section("Classes", [picture, Table(("class", "n", "predicted", "precision", "recall", "F1", "AP", "AUROC"), rows)])


def confusions_section(result: EvaluationResult) -> Section | None:
    """Matrices, or for multi-label data the counts per class."""
    if result.n == 0:
        return None
    if result.multi_label:
        header = ("class", "hits", "missed", "false alarms", "rightly absent")
        cells = ((1, 1), (1, 0), (0, 1), (0, 0))
        rows = [
            (name, *(int(counts[cell]) for cell in cells))
            for name, counts in zip(result.class_names, result.confusion, strict=True)
        ]
        return Section("Hits, misses and false alarms", [Table(header, rows)])
    draw = partial(figures.confusion_pictures, result.confusion, result.class_names)
    caption = "Rows: true class; columns: predicted class. A share is of its row."
    description = "confusion matrices: counts, and shares of the true class"
    return Section("Confusions", [Figure(draw, description, caption, instead=_pairs(result))])


def _pairs(result: EvaluationResult) -> Table | None:
    """The most frequent confusions of single-label data."""
    wrong = result.confusion - np.diag(np.diag(result.confusion))
    largest = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    names, totals = result.class_names, result.confusion.sum(axis=1)
    rows = [(names[int(a)], names[int(b)], int(wrong[a, b]), int(totals[a])) for a, b in largest if wrong[a, b]]
    return Table(("class", "taken for", "times", "of"), rows, numbers_from=2) if rows else None
