"""The page of suspect labels: what they are, how the figures change without them, and the surest to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beats_jax.evaluation.metrics.label_audit import Suspects
from beats_jax.evaluation.metrics.result import EvaluationResult, metric_title
from beats_jax.evaluation.predictions import PredictionTable
from beats_jax.evaluation.report.page import Bold, Card, Cards, Example, Page, Paragraph, Section, Table

SHOWN = 24  # clips with picture and player
FIGURES = ("accuracy", "f1_macro", "mAP", "auroc")
CONFOUND = 0.75  # AUROC of level and background from which a report must speak of it


@dataclass(frozen=True)
class Audit:
    """Suspect labels of N rows.

    Attributes:
      whole, without: figures with and without the suspects. level, background: AUROC of level alone, and of level and background;
        None = not measured. models: whose probabilities were averaged.
    """

    table: PredictionTable
    suspects: Suspects
    whole: EvaluationResult
    without: EvaluationResult
    level: float | None
    background: float | None
    models: int

    def suspects_of(self, name: str) -> int:
        """Suspects among the rows with this label."""
        return sum(self.table.labels[row] == name for row in self.suspects.rows.tolist())


def audit_findings(audit: Audit) -> list[str]:
    """The numbers in sentences."""
    count, number = len(audit.suspects.rows), audit.whole.n
    parts = [
        f"{audit.suspects_of(name)} of {result.n} {name}"
        for name, result in zip(audit.table.class_names, audit.whole.classes, strict=True)
    ]
    sentences = [f"{count} of {number} labels are suspect ({count / number:.1%}): {', '.join(parts)}."]
    before, after = audit.whole.metrics["auroc"].value, audit.without.metrics["auroc"].value
    if before is not None and after is not None:
        sentences.append(
            f"AUROC is {before:.4f}, and {after:.4f} without them. That is an upper bound, no proof of wrong labels: leaving out "
            "the worst errors of any model raises its figures. Listen to the clips before you believe it."
        )
    if audit.level is not None and audit.background is not None:
        note = "a confound: part of any figure here may be the recording conditions" if audit.background >= CONFOUND else "little"
        sentences.append(
            f"Level alone reaches AUROC {audit.level:.3f}, level and background {audit.background:.3f} without any call: {note}."
        )
    else:
        sentences.append(
            "What level and background alone tell was not measured: a class has fewer than two readable rows, or lies in too "
            "few recordings. So nobody knows whether the models heard the calls or the recording conditions."
        )
    if audit.models == 1:
        sentences.append("One model was asked; the mistakes of several differ, so that their mean is a better witness.")
    return sentences


def audit_page(
    audit: Audit,
    examples: Sequence[Example],
    *,
    command: str,
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Page:
    """The page; `examples` are the surest suspects in order."""
    metrics = [
        (metric_title(name, False), audit.whole.metrics[name], audit.without.metrics[name])
        for name in FIGURES
        if name in audit.whole.metrics
    ]
    cards = [Card((Bold(one.label), " or ", Bold(one.prediction), f"? p {one.probability:.2f}"), one) for one in examples]
    note = (
        f"The {len(examples)} surest of {len(audit.suspects.rows)}; all are in suspects.csv, which `review --detections` opens."
    )
    return Page(
        title="Suspect labels",
        subtitle=f"{audit.whole.n} rows, out-of-fold predictions of {audit.models} models, confident learning",
        findings=audit_findings(audit),
        sections=[
            Section("Figures", [
                Table(("metric", "all rows", "without suspects (upper bound)"), metrics),
                Paragraph("Both with 95 % intervals by a bootstrap over recordings.", "note"),
            ]),
            Section("Suspects", [Cards(note, [("", cards)])]) if cards else None,
        ],
        command=command,
        versions=versions,
        provenance=provenance,
    )  # fmt: skip
