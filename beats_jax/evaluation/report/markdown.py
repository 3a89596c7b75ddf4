"""The report of a run as Markdown: the same findings and tables, no pictures; for a repository or a README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.analysis import Analysis
from beats_jax.evaluation.metrics.result import Estimate, EvaluationResult, format_estimate, interval_note, shown_metrics
from beats_jax.evaluation.report.findings import findings

FOLD_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")
PAIRS = 10


def markdown_report(
    *,
    title: str,
    result: EvaluationResult,
    analysis: Analysis,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    errors: Sequence[tuple[str, str]],
    folds: Sequence[Mapping[str, Any]] | None,
    facts: Mapping[str, str],
    command: str,
) -> str:
    """The page; arguments as of `report.write_report`, `facts`: versions and provenance."""
    parts = [
        f"# {_text(title)}",
        f"{result.n} examples, {len(result.class_names)} classes. {interval_note(result)}",
        "## Findings\n\n" + "\n".join(f"- {_text(line)}" for line in findings(result, history, errors, folds)),
        _metrics(result),
        _weights(metrics),
        _folds(folds),
        _classes(result),
        _confusions(result),
        *_groups(analysis),
        _calibration(analysis),
        _bad_files(errors),
        "## How this was made\n\n" + f"```\n{command}\n```\n\n" + "; ".join(f"{name} {fact}" for name, fact in facts.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _text(value: object) -> str:
    """On one line, with the marks of a table or of HTML made harmless."""
    line = " ".join(str(value).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows)])


def _format_interval(estimate: Estimate) -> str:
    return " ".join(format_estimate(estimate)).strip()


def _metrics(result: EvaluationResult) -> str:
    rows = ((name, *format_estimate(estimate)) for name, estimate in shown_metrics(result))
    return "## Metrics\n\n" + _table(("metric", "value", "95 % interval"), rows)


def _weights(metrics: Mapping[str, Any]) -> str:
    if "selected_step" not in metrics:
        return ""
    rows = []
    for name, way in (("last epoch", "last_epoch"), ("best on validation", "selected")):
        found = (Estimate(*(metrics.get(f"{way}_{key}{end}") for end in ("", "_low", "_high"))) for key in FOLD_METRICS)
        rows.append((name, metrics[f"{way}_step"], *(_format_interval(estimate) for estimate in found)))
    return "## Which weights\n\n" + _table(("weights", "step", *FOLD_METRICS), rows)


def _folds(folds: Sequence[Mapping[str, Any]] | None) -> str:
    if not folds:
        return ""
    rows: list[tuple[object, ...]] = []
    for fold in folds:
        rows.append((fold.get("fold", ""), fold.get("n", ""), *(_number(fold.get(name)) for name in FOLD_METRICS)))
    values = [[fold[name] for fold in folds if fold.get(name) is not None] for name in FOLD_METRICS]
    rows.append(("mean", "", *(_number(float(np.mean(column)) if column else None) for column in values)))
    return "## Cross-validation\n\n" + _table(("fold", "n", *FOLD_METRICS), rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _classes(result: EvaluationResult) -> str:
    order = sorted(result.classes, key=lambda found: -1.0 if found.f1.value is None else -found.f1.value)
    rows = (
        (
            found.name,
            found.n,
            found.predicted,
            *(_format_interval(value) for value in (found.precision, found.recall, found.f1, found.ap)),
        )
        for found in order
    )
    return "## Classes, best F1 first\n\n" + _table(("class", "n", "predicted", "precision", "recall", "F1", "AP"), rows)


def _confusions(result: EvaluationResult) -> str:
    if result.multi_label or not result.n:
        return ""
    wrong = result.confusion - np.diag(np.diag(result.confusion))
    largest = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    names, totals = result.class_names, result.confusion.sum(axis=1)
    rows = [(names[int(a)], names[int(b)], int(wrong[a, b]), int(totals[a])) for a, b in largest if wrong[a, b]]
    return "## Most confused\n\n" + _table(("class", "taken for", "times", "of"), rows) if rows else ""


def _groups(analysis: Analysis) -> Iterable[str]:
    for name, found in analysis.groups.items():
        rows = (
            (
                group.name,
                group.n,
                *(_format_interval(value) for value in (group.accuracy, group.precision, group.recall, group.f1)),
            )
            for group in found.groups
        )
        header = ("group", "n", "right class", "precision", "recall", "F1")
        yield f"## Groups of classes: {_text(name)}\n\n" + _table(header, rows)


def _calibration(analysis: Analysis) -> str:
    rows = [("as it is", analysis.plain)]
    if analysis.calibrated is not None and analysis.point is not None:
        rows.append((f"temperature {analysis.point.temperature:.3f}", analysis.calibrated))
    cells = ((name, *(_number(value) for value in (found.ece, found.nll, found.brier))) for name, found in rows)
    return "## Calibration\n\n" + _table(("probabilities", "ECE", "NLL", "Brier"), cells)


def _bad_files(errors: Sequence[tuple[str, str]]) -> str:
    return "## Bad files\n\n" + _table(("file", "reason"), errors) if errors else ""
