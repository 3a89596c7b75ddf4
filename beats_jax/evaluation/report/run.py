"""The report of a run: one HTML file that needs nothing else, to read, print and attach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.analysis import Analysis
from beats_jax.evaluation.metrics.result import METRIC_TITLES, EvaluationResult, interval_note, metric_title, shown_metrics
from beats_jax.evaluation.report import analysis as report_analysis
from beats_jax.evaluation.report import examples as report_examples
from beats_jax.evaluation.report import figures, figures_training
from beats_jax.evaluation.report.examples import ConfusedPair, Example, Players
from beats_jax.evaluation.report.findings import findings
from beats_jax.evaluation.report.page import (
    bullets,
    cell,
    figure,
    page,
    paragraph,
    section,
    settings_columns,
    table,
    text,
    tile,
)
from beats_jax.files import write_text

AUDIO_BYTES = 3_500_000  # all players together: with the pictures the file stays under 5 MB, small enough for a mail
HEADLINES = {False: ("accuracy", "f1_macro", "mAP", "auroc"), True: ("mAP", "auroc", "f1_macro", "f1_micro")}
FOLD_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")


def write_report(
    path: str | Path,
    *,
    title: str,
    result: EvaluationResult,
    history: Sequence[Mapping[str, Any]],
    data_summary: Mapping[str, object] | Sequence[str],
    settings: Mapping[str, object],
    errors: Sequence[tuple[str, str]],
    worst_examples: Sequence[Example],
    versions: Mapping[str, str],
    command: str,
    folds: Sequence[Mapping[str, float | int | None]] | None = None,
    class_counts: Mapping[str, Mapping[str, int]] | None = None,
    confused: Sequence[ConfusedPair] = (),
    gallery: Sequence[Example] = (),
    provenance: Mapping[str, str] | None = None,
    analysis: Analysis | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Writes report.html at once or not at all. All text may be hostile: it is escaped, and the page forbids scripts and
    fetching.

    Args:
      path: the file; its folder must exist.
      result: of the test data; in a cross-validation of all folds together.
      history: rows of the training log ("step", "train/loss", "val/loss", "val/<metric>"); empty for an evaluation alone.
      data_summary: what the data is: names and values (a mapping as value is listed in one line), or lines.
      settings: the experiment as nested mappings.
      errors: (file, reason) of the files that could not be used.
      worst_examples: clips to show, worst first.
      versions: package -> version.
      command: the command line that made this.
      folds: `metrics.json` of each fold, with an optional key "fold".
      class_counts: split -> class -> examples.
      confused: the most frequent confusions, with clips. gallery: a clip of every class.
      analysis: calibration, thresholds and groups of classes. metrics: what metrics.json holds.
      provenance: further facts of how the page was made, such as the state of the code.
    """
    players = Players(AUDIO_BYTES)
    made = [_versions(versions), *(f"{name}: {fact}" for name, fact in (provenance or {}).items())]
    body = [
        _head(title, result),
        section("Findings", bullets(findings(result, history, errors, folds), "findings")),
        section("Metrics", _metric_table(result), paragraph(_metric_notes(result), "soft small")),
        report_analysis.chosen_weights(metrics or {}),
        _folds(folds),
        _training(history),
        _classes(result),
        _confusions(result),
        *(report_analysis.sections(analysis) if analysis else ()),
        report_examples.confused_pairs(confused, result, players),
        report_examples.worst_errors(worst_examples, result, players),
        report_examples.gallery(gallery, players),
        _data(data_summary, class_counts),
        _bad_files(errors),
        section("Settings", settings_columns(settings)),
        section("How this was made", paragraph(command, "code"), *(paragraph(line, "soft small") for line in made)),
    ]
    write_text(path, page(title, "\n".join(part for part in body if part)))


def _head(title: str, result: EvaluationResult) -> str:
    """Title, headline numbers, and what the intervals are."""
    facts = f"{result.n} examples from {result.num_groups} recordings" if result.num_groups < result.n else f"{result.n} examples"
    kind = "multi-label" if result.multi_label else "single-label"
    tiles = "".join(tile(metric_title(name, result.multi_label), result.metrics[name]) for name in HEADLINES[result.multi_label])
    return (
        f"<header><h1>{text(title)}</h1>{paragraph(f'{facts}, {len(result.class_names)} classes, {kind}', 'soft')}"
        f'<div class="tiles">{tiles}</div>{paragraph(interval_note(result), "soft small")}</header>'
    )


def _metric_table(result: EvaluationResult) -> str:
    return table(
        ("metric", "value and 95 % interval"), [(text(name), cell(estimate)) for name, estimate in shown_metrics(result)]
    )


def _metric_notes(result: EvaluationResult) -> str:
    """The definitions that readers ask for."""
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
    return " ".join(notes)


def _folds(folds: Sequence[Mapping[str, float | int | None]] | None) -> str:
    """Metrics of each fold, their mean and standard deviation; nothing without folds."""
    if not folds:
        return ""

    def shown(value: float | int | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = [
        (text(fold.get("fold", number)), text(fold.get("n", "")), *(shown(fold.get(name)) for name in FOLD_METRICS))
        for number, fold in enumerate(folds, start=1)
    ]
    spread = []
    for name in FOLD_METRICS:
        values = np.array([fold[name] for fold in folds if fold.get(name) is not None], float)
        deviation = f' <span class="soft">± {values.std(ddof=1):.3f}</span>' if len(values) > 1 else ""
        spread.append(f"{values.mean():.3f}{deviation}" if len(values) else "-")
    rows.append(("mean ± standard deviation", "", *spread))
    header = ("fold", "n", *(METRIC_TITLES[name] for name in FOLD_METRICS))
    return section("Cross-validation", table(header, rows, last_is_total=True))


def _training(history: Sequence[Mapping[str, Any]]) -> str:
    curves = figures_training.learning_curves(history)
    return section("Training", figure(curves, "loss and validation metrics against the training step")) if curves else ""


def _classes(result: EvaluationResult) -> str:
    """Picture and table of the classes."""
    rows = [
        (
            text(found.name),
            str(found.n),
            str(found.predicted),
            cell(found.f1),
            cell(found.recall),
            *(cell(type(estimate)(estimate.value)) for estimate in (found.precision, found.ap, found.auroc)),
        )
        for found in result.classes
    ]
    header = ("class", "n", "predicted", "F1", "recall", "precision", "AP", "AUROC")
    caption = "Points with 95 % intervals; number of examples in brackets; best F1 on top."
    return section("Classes", figure(figures.class_bars(result.classes), "F1 and recall per class", caption), table(header, rows))


def _confusions(result: EvaluationResult) -> str:
    """Matrices, or for multi-label data the counts per class."""
    if result.n == 0:
        return ""
    if not result.multi_label:
        picture = figures.confusion_pictures(result.confusion, result.class_names)
        caption = "Rows: true class; columns: predicted class. A share is of its row."
        return section("Confusions", figure(picture, "confusion matrices: counts, and shares of the true class", caption))
    rows = [
        (text(name), *(str(counts[true, given]) for true, given in ((1, 1), (1, 0), (0, 1), (0, 0))))
        for name, counts in zip(result.class_names, result.confusion, strict=True)
    ]
    return section("Hits, misses and false alarms", table(("class", "hits", "missed", "false alarms", "rightly absent"), rows))


def _data(data_summary: Mapping[str, object] | Sequence[str], class_counts: Mapping[str, Mapping[str, int]] | None) -> str:
    """What the data is and how its classes are spread over the splits."""

    def shown(value: object) -> str:
        return ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, Mapping) else str(value)

    if isinstance(data_summary, Mapping):
        summary = table((), [(text(name), text(shown(value))) for name, value in data_summary.items()], numbers_from=2)
    else:
        summary = bullets(data_summary)
    picture = figure(figures.class_balance(class_counts), "examples per class and split") if class_counts else ""
    return section("Data", summary, picture)


def _bad_files(errors: Sequence[tuple[str, str]]) -> str:
    if not errors:
        return section("Bad files", paragraph("None: every file could be used."))
    rows = [(text(file), text(reason)) for file, reason in errors]
    return section("Bad files", table(("file", "reason"), rows, numbers_from=2))


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
