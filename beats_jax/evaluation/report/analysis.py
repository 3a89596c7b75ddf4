"""Sections of a report on calibration, thresholds and groups of classes, and on how the weights were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beats_jax.evaluation.metrics.analysis import Analysis
from beats_jax.evaluation.metrics.class_groups import OTHER, GroupEvaluation
from beats_jax.evaluation.metrics.result import METRIC_TITLES, Estimate
from beats_jax.evaluation.report import figures
from beats_jax.evaluation.report.page import cell, figure, paragraph, section, table, text


def number(value: float | None, digits: int = 3) -> str:
    """The value, or "-" where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def sections(analysis: Analysis) -> list[str]:
    """All sections that apply."""
    return [*(_group(name, found) for name, found in analysis.groups.items()), _calibration(analysis), _thresholds(analysis)]


def chosen_weights(metrics: Mapping[str, Any]) -> str:
    """The last weights beside those that validation chose, where metrics.json holds both."""
    if "selected_step" not in metrics:
        return ""

    def row(title: str, way: str) -> tuple[str, ...]:
        def shown(name: str) -> str:
            return cell(Estimate(*(metrics.get(f"{way}_{name}{suffix}") for suffix in ("", "_low", "_high"))))

        names = ("accuracy", "f1_macro", "mAP", "auroc")
        return title, str(metrics[f"{way}_step"]), *(shown(name) for name in names)

    header = ("weights", "step", *(METRIC_TITLES[name] for name in ("accuracy", "f1_macro", "mAP", "auroc")))
    rows = [row("last epoch", "last_epoch"), row("best on validation", "selected")]
    note = "Both on the test rows, which chose neither."
    return section("Which weights", table(header, rows), paragraph(note, "soft small"))


def _group(name: str, found: GroupEvaluation) -> str:
    """One grouping of the classes."""
    rows = [
        (
            text(group.name),
            text(", ".join(group.classes)) if group.name != OTHER else f"{len(group.classes)} classes",
            str(group.n),
            cell(group.accuracy),
            cell(group.recall),
            cell(group.precision),
            cell(group.f1),
        )
        for group in found.groups
    ]
    header = ("group", "classes", "n", "right class", "recall", "precision", "F1")
    note = (
        "Recall, precision and F1 count any class of the group as right; “right class” asks for the class itself. "
        f"Accuracy over groups: {number(found.metrics['accuracy'].value)}."
    )
    return section(f"Groups of classes: {name}", table(header, rows, numbers_from=2), paragraph(note, "soft small"))


def _calibration(analysis: Analysis) -> str:
    """Reliability before and after the temperature."""
    scores = {"as it is": analysis.plain}
    if analysis.calibrated is not None and analysis.point is not None:
        scores[f"temperature {analysis.point.temperature:.2f}"] = analysis.calibrated
    if analysis.plain.ece is None:
        return ""
    rows = [(text(name), number(found.ece), number(found.nll), number(found.brier)) for name, found in scores.items()]
    picture = figures.reliability({name: found.reliability for name, found in scores.items()})
    notes = ["ECE: mean gap between confidence and share that is right, in 15 bins; all three: smaller is better."]
    if analysis.point is None:
        notes.append("No temperature: there were no validation rows to fit one.")
    else:
        notes.append(f"The temperature was fitted on {analysis.point.n} validation rows and divides all logits.")
        if analysis.point.at_limit:
            notes.append("It lies at the limit of what is allowed: the validation rows are all right, or all wrong.")
    return section(
        "Calibration",
        figure(picture, "share that is right against confidence", "Bars: share of the examples in each bin."),
        table(("probabilities", "ECE", "NLL", "Brier"), rows),
        paragraph(" ".join(notes), "soft small"),
    )


def _thresholds(analysis: Analysis) -> str:
    """The threshold of every class, chosen on validation, and what it gives here."""
    point = analysis.point
    if point is None:
        return ""
    wanted = "the best F1" if point.wanted is None else f"a {point.goal} of {point.wanted:g}"
    rows = [
        (
            text(name),
            number(found.threshold) if found.threshold is not None else text(why or "not reached"),
            str(found.n),
            str(found.found),
            number(found.precision),
            number(found.recall),
            number(found.f1),
        )
        for name, found, why in zip(point.class_names, analysis.thresholds, point.reasons, strict=True)
    ]
    note = f"Chosen for {wanted} on {point.n} validation rows, class by class; what they give on the rows of this report."
    header = ("class", "threshold", "n", "found", "precision", "recall", "F1")
    return section("Thresholds", paragraph(note, "soft small"), table(header, rows))
