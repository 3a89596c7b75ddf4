"""The page on detections measured against annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from beats_jax.evaluation.metrics.event_results import EventResult
from beats_jax.evaluation.metrics.events import MatchRule, PrecisionRecall
from beats_jax.evaluation.metrics.result import format_estimate
from beats_jax.evaluation.report.figures.events import precision_recall_curves
from beats_jax.evaluation.report.page import Figure, Page, Section, Table

TILES = {"f1": "F1 of events", "precision": "precision", "recall": "recall", "average_precision": "average precision"}
TITLES = {
    **{"precision": "precision", "recall": "recall", "f1": "F1", "f1_macro": "F1 (mean of labels)"},
    **{"average_precision": "average precision", "mAP": "mAP (mean of labels)"},
    **{"segment_precision": "precision of segments", "segment_recall": "recall of segments", "segment_f1": "F1 of segments"},
}


def rule_sentence(rule: MatchRule) -> str:
    """When a detection counts as found."""
    if rule.criterion == "iou":
        return f"A detection is right where it shares at least {rule.iou:g} of the time of both (IoU) with an event of its label."
    return (
        f"A detection is right where it starts within {rule.tolerance_seconds:g} s of an event of its label and ends within the "
        f"larger of {rule.tolerance_seconds:g} s and {rule.offset_share:g} of the event's length."
    )


def event_findings(result: EventResult) -> list[str]:
    """The numbers in sentences."""
    hits, figures = int((result.hits >= 0).sum()), {name: " ".join(format_estimate(e)) for name, e in result.figures.items()}
    sentences = [
        f"{hits} of {result.n} events are found; {result.detections - hits} of {result.detections} detections are wrong.",
        f"F1 {figures['f1']}, precision {figures['precision']}, recall {figures['recall']}.",
        f"In segments of {result.segment_seconds:g} s: F1 {figures['segment_f1']}, precision {figures['segment_precision']}, "
        f"recall {figures['segment_recall']}.",
        rule_sentence(result.rule),
    ]
    if result.curve is None:
        sentences.append("Some detections have no score, so there is no curve over thresholds and no average precision.")
    without = [label.name for label in result.labels if not label.n]
    if without:
        number = sum(label.detections for label in result.labels if not label.n)
        sentences.append(
            f"{number} detections have labels that no annotation has ({', '.join(without[:5])}): all count as wrong."
        )
    if len(result.recordings) < 2:
        sentences.append("No intervals: they need at least two recordings.")
    return sentences


def events_page(
    result: EventResult,
    curves: Mapping[str, PrecisionRecall],
    notes: Sequence[str],
    *,
    command: str,
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Page:
    """The page. curves: over all labels first, then those of labels. notes: on how recordings were matched."""
    rows = [
        (
            *(one.name, one.n, one.detections, one.matched),
            *(one.figures.get(name) for name in ("precision", "recall", "f1", "average_precision", "segment_f1")),
        )
        for one in sorted(result.labels, key=lambda one: -one.n)
    ]
    header = ("label", "events", "detections", "right", "precision", "recall", "F1", "average precision", "F1 of segments")
    caption = "One point for each threshold; the dot is all detections of the table."
    picture = Figure(partial(precision_recall_curves, curves), "precision against recall", caption)
    figures = [(TITLES[name], estimate) for name, estimate in result.figures.items()]
    return Page(
        title="Detections against annotations",
        subtitle=f"{result.n} events and {result.detections} detections of {len(result.recordings)} recordings",
        tiles=[(title, result.figures[name]) for name, title in TILES.items() if name in result.figures],
        note=f"Intervals: 95 %, bootstrap over {len(result.recordings)} recordings." if len(result.recordings) > 1 else "",
        findings=[*event_findings(result), *notes],
        sections=[
            Section("All labels", [*([picture] if curves else []), Table(("figure", "value"), figures)]),
            Section("Labels", [Table(header, rows)]),
        ],
        command=command,
        versions=versions,
        provenance=provenance,
    )
