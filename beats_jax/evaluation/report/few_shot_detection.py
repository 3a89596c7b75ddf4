"""The page on few-shot detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beats_jax.evaluation.metrics.events import Counts, total
from beats_jax.evaluation.metrics.few_shot_detection import LEAST
from beats_jax.evaluation.metrics.result import Estimate, format_estimate
from beats_jax.evaluation.report.page import Cell, Page, Paragraph, Section, Table

TITLES = {"f1": "F1", "precision": "precision", "recall": "recall"}
HEADER = ("right", "false", "missed", "precision", "recall", "F1")


def few_shot_sentences(
    estimates: Mapping[str, Estimate],
    by_subset: Mapping[str, Counts],
    counts: Mapping[tuple[str, str], Counts],
    n_shot: int,
) -> list[str]:
    """The figures in plain sentences."""
    whole = total({str(key): one for key, one in counts.items()})
    figures = {name: " ".join(format_estimate(estimates[name])).rstrip() for name in TITLES}
    lines = [
        f"Of {whole.true_positives + whole.false_negatives} events after the first {n_shot} of each class, "
        f"{whole.true_positives} are found; {whole.false_positives} detections are wrong.",
        f"F1 {figures['f1']}, precision {figures['precision']}, recall {figures['recall']}.",
    ]
    if len(by_subset) > 1:
        lines.append(
            f"These are harmonic means over {len(by_subset)} subsets: one that fails ({LEAST:g}) makes all of them small."
        )
    if estimates["f1"].low is None:
        lines.append("No intervals: they need at least two recordings in a subset.")
    return lines


def few_shot_page(
    estimates: Mapping[str, Estimate],
    by_subset: Mapping[str, Counts],
    counts: Mapping[tuple[str, str], Counts],
    notes: Sequence[str],
    n_shot: int,
    **fields: Any,
) -> Page:
    """The page. counts: of each (file, label). fields: title, errors, command, versions and provenance of `Page`."""
    subsets: list[tuple[Cell, ...]] = [(name or "all", *_cells(one)) for name, one in by_subset.items()]
    tasks: list[tuple[Cell, ...]] = [(file, label, *_cells(one)) for (file, label), one in counts.items()]
    rule = (
        f"The first {n_shot} events of each class in a recording are known; the rest is searched. Events are matched one to one; "
        "detections that match undecided (UNK) events count as nothing (DCASE task 5)."
    )
    return Page(
        subtitle=f"{len(counts)} classes in {len({file for file, _ in counts})} recordings",
        tiles=[(title, estimates[name]) for name, title in TITLES.items()],
        note="Intervals: 95 %, bootstrap over the recordings of each subset." if estimates["f1"].low is not None else "",
        findings=[*few_shot_sentences(estimates, by_subset, counts, n_shot), *notes],
        sections=[
            Section("Subsets", [Table(("subset", *HEADER), subsets), Paragraph(rule, "note")]),
            Section("Classes", [Table(("file", "label", *HEADER), tasks, numbers_from=2)]),
        ],
        **fields,
    )


def _cells(one: Counts) -> tuple[Cell, ...]:
    figures = (None if value != value else value for value in (one.precision, one.recall, one.f1))  # NaN: nothing to count
    return one.true_positives, one.false_positives, one.false_negatives, *figures
