"""The report of a run, or of an evaluation of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.analysis import Analysis
from beats_jax.evaluation.metrics.result import METRIC_TITLES, EvaluationResult, format_estimate, shown_metrics
from beats_jax.evaluation.report import examples
from beats_jax.evaluation.report.analysis import analysis_sections, chosen_weights
from beats_jax.evaluation.report.figures.curves import History, curve_panels, learning_panels
from beats_jax.evaluation.report.figures.metrics import class_balance
from beats_jax.evaluation.report.findings import findings
from beats_jax.evaluation.report.page import Bullets, Cell, Example, Figure, Page, Paragraph, Section, Table, pairs_table
from beats_jax.evaluation.report.result import SHORT_METRICS, classes_section, confusions_section, result_page


def run_page(
    *,
    result: EvaluationResult,
    history: History = (),
    data_summary: Mapping[str, object] | Sequence[str] = (),
    errors: Sequence[tuple[str, str]] = (),
    worst_examples: Sequence[Example] = (),
    folds: Sequence[Mapping[str, float | int | None]] = (),
    class_counts: Mapping[str, Mapping[str, int]] | None = None,
    confused: Sequence[examples.ConfusedPair] = (),
    gallery: Sequence[Example] = (),
    analysis: Analysis | None = None,
    metrics: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Page:
    """The page.

    Args:
      result: of the test data; in a cross-validation of all folds together.
      history: empty for an evaluation alone.
      data_summary: names and values (a mapping as value is listed in one line), or lines.
      worst_examples: clips to show, worst first. confused: the most frequent confusions. gallery: a clip of every class.
      folds: `metrics.json` of each fold, with an optional key "fold".
      class_counts: split -> class -> examples.
      analysis: calibration, thresholds and groups of classes. metrics: the contents of metrics.json.
      fields: title, settings, command, versions and provenance of `Page`.
    """
    sections = [
        _metrics(result),
        chosen_weights(metrics or {}),
        _folds(folds),
        _training(history),
        classes_section(result),
        confusions_section(result),
        *(analysis_sections(analysis) if analysis else ()),
        examples.confused_pairs(confused, result),
        examples.worst_errors(worst_examples, result),
        examples.gallery(gallery),
        _data(data_summary, class_counts),
    ]
    return result_page(result, findings=findings(result, history, errors, folds), sections=sections, errors=errors, **fields)


def _metrics(result: EvaluationResult) -> Section:
    """All metrics, and the definitions that readers ask for."""
    total = len(result.class_names)
    notes = [
        "Macro averages weigh every class alike, over the classes that occur in truth or prediction.",
        f"mAP (area under precision and recall) averages over the {result.num_ap_classes} of {total} classes with examples;"
        f" AUROC, each class against the rest, over {result.num_auroc_classes}.",
    ]
    if result.multi_label:
        notes.append(
            f"A class counts as predicted from a probability of {result.threshold:g} on; exact match asks for every class right."
        )
    rows = [(name, *format_estimate(estimate)) for name, estimate in shown_metrics(result)]
    return Section("Metrics", [Table(("metric", "value", "95 % interval"), rows), Paragraph(" ".join(notes), "note")])


def _folds(folds: Sequence[Mapping[str, float | int | None]]) -> Section | None:
    """Metrics of each fold, their mean and standard deviation."""
    if not folds:
        return None
    rows: list[tuple[Cell, ...]] = [
        (fold.get("fold", number), fold.get("n", ""), *(fold.get(name) for name in SHORT_METRICS))
        for number, fold in enumerate(folds, start=1)
    ]
    spread = []
    for name in SHORT_METRICS:
        values = np.array([fold[name] for fold in folds if fold.get(name) is not None], float)
        deviation = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
        spread.append(f"{values.mean():.3f}{deviation}" if len(values) else None)
    rows.append(("mean ± standard deviation", "", *spread))
    header = ("fold", "n", *(METRIC_TITLES[name] for name in SHORT_METRICS))
    return Section("Cross-validation", [Table(header, rows, last_is_total=True)])


def _training(history: History) -> Section | None:
    panels = learning_panels(history)
    if not panels:
        return None
    description = "loss and validation metrics against the training step"
    return Section("Training", [Figure(partial(curve_panels, panels), description)])


def _data(summary: Mapping[str, object] | Sequence[str], counts: Mapping[str, Mapping[str, int]] | None) -> Section:
    """The recordings, and how their classes are spread over the splits."""
    facts = pairs_table(summary) if isinstance(summary, Mapping) else Bullets(summary)
    if not counts:
        return Section("Data", [facts])
    names = dict.fromkeys(name for split in counts.values() for name in split)
    table = Table(("class", *counts), [(name, *(split.get(name, 0) for split in counts.values())) for name in names])
    return Section("Data", [facts, Figure(partial(class_balance, counts), "examples per class and split", instead=table)])
