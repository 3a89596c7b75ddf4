"""Sections on calibration, thresholds and groups of classes, and on how the weights were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from beats_jax.evaluation.metrics.analysis import Analysis
from beats_jax.evaluation.metrics.class_groups import OTHER, GroupEvaluation
from beats_jax.evaluation.metrics.operating_point import OperatingPoint
from beats_jax.evaluation.metrics.result import METRIC_TITLES, Estimate
from beats_jax.evaluation.report.figures.metrics import reliability
from beats_jax.evaluation.report.page import Cell, Figure, Paragraph, Section, Table
from beats_jax.evaluation.report.result import SHORT_METRICS


def analysis_sections(analysis: Analysis) -> list[Section | None]:
    """Groups of classes, calibration and thresholds, as far as they were computed."""
    return [*(_group(name, found) for name, found in analysis.groups.items()), _calibration(analysis), _thresholds(analysis)]


def chosen_weights(metrics: Mapping[str, Any]) -> Section | None:
    """The last weights beside those that validation chose, where metrics.json holds both."""
    if "selected_step" not in metrics:
        return None

    def row(title: str, way: str) -> tuple[Cell, ...]:
        found = (Estimate(*(metrics.get(f"{way}_{name}{end}") for end in ("", "_low", "_high"))) for name in SHORT_METRICS)
        return title, metrics[f"{way}_step"], *found

    header = ("weights", "step", *(METRIC_TITLES[name] for name in SHORT_METRICS))
    table = Table(header, [row("last epoch", "last_epoch"), row("best on validation", "selected")])
    return Section("Which weights", [table, Paragraph("Both on the test rows, which chose neither.", "note")])


def _group(name: str, found: GroupEvaluation) -> Section:
    rows = [
        (
            group.name,
            ", ".join(group.classes) if group.name != OTHER else f"{len(group.classes)} classes",
            *(group.n, group.accuracy, group.recall, group.precision, group.f1),
        )
        for group in found.groups
    ]
    header = ("group", "classes", "n", "right class", "recall", "precision", "F1")
    accuracy = found.metrics["accuracy"].value
    note = (
        "Recall, precision and F1 count any class of the group as right; “right class” asks for the class itself. "
        f"Accuracy over groups: {'-' if accuracy is None else f'{accuracy:.3f}'}."
    )
    return Section(f"Groups of classes: {name}", [Table(header, rows, numbers_from=2), Paragraph(note, "note")])


def _calibration(analysis: Analysis) -> Section | None:
    """Reliability before and after the temperature."""
    if analysis.plain.ece is None:
        return None
    scores = {"uncalibrated": analysis.plain}
    if analysis.calibrated is not None and analysis.point is not None:
        scores[f"temperature {analysis.point.temperature:.2f}"] = analysis.calibrated
    draw = partial(reliability, {name: found.reliability for name, found in scores.items()})
    caption = "Bars: share of the examples in each bin."
    rows = [(name, found.ece, found.nll, found.brier) for name, found in scores.items()]
    notes = "ECE: mean gap between confidence and share that is right, in 15 bins; all three: smaller is better. "
    return Section(
        "Calibration",
        [
            Figure(draw, "share that is right against confidence", caption),
            Table(("probabilities", "ECE", "NLL", "Brier"), rows),
            Paragraph(notes + _temperature_note(analysis.point, analysis), "note"),
        ],
    )


def _temperature_note(point: OperatingPoint | None, analysis: Analysis) -> str:
    if point is None:
        return "No temperature: no validation rows beside the measured ones could fit one."
    note = f"The temperature was fitted on {point.n} validation rows and divides all logits."
    if point.at_limit:
        note += " It lies at the limit of what is allowed: the validation rows are all right, or all wrong."
    before, after = analysis.plain.ece, None if analysis.calibrated is None else analysis.calibrated.ece
    if before is not None and after is not None and after > before:
        note += " Here it makes ECE worse: the validation rows differ from these, or are too few."
    return note


def _thresholds(analysis: Analysis) -> Section | None:
    """The threshold of every class, chosen on validation, and its figures on the measured rows."""
    point = analysis.point
    if point is None:
        return None
    wanted = "the best F1" if point.wanted is None else f"a {point.goal} of {point.wanted:g}"
    rows = [
        (
            name,
            found.threshold if found.threshold is not None else why or "not reached",
            *(found.n, found.found, found.precision, found.recall, found.f1),
        )
        for name, found, why in zip(point.class_names, analysis.thresholds, point.reasons, strict=True)
    ]
    note = f"Chosen for {wanted} on {point.n} validation rows, class by class; the figures are of the rows of this report."
    header = ("class", "threshold", "n", "found", "precision", "recall", "F1")
    return Section("Thresholds", [Paragraph(note, "note"), Table(header, rows)])
