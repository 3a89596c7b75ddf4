"""The page that compares two runs on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from beats_jax.evaluation.metrics.comparison import Comparison, Difference, holm
from beats_jax.evaluation.metrics.result import metric_title
from beats_jax.evaluation.report.figures.metrics import differences
from beats_jax.evaluation.report.page import Bullets, Cell, Figure, Page, Paragraph, Section, Table

CLASS_METRIC = "f1"
SURE = 0.05  # a corrected p below this counts as a difference


def comparison_findings(found: Comparison, names: tuple[str, str], class_names: Sequence[str], *, multi_label: bool) -> list[str]:
    """The numbers in sentences."""
    headline = "mAP" if multi_label else "accuracy"
    change = found.metrics[headline]
    sentences = []
    if change.difference is None or change.low is None or change.high is None or change.p is None:
        sentences.append(f"The difference in {headline} has no interval: too few recordings, or the bootstrap was switched off.")
    else:
        better = names[1] if change.difference > 0 else names[0]
        sure = f"{better} is better" if change.low * change.high > 0 else "the data do not show which is better"
        sentences.append(
            f"{headline}: {change.first:.3f} in {names[0]}, {change.second:.3f} in {names[1]}, a difference of "
            f"{change.difference:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f}, p = {change.p:.2g}): {sure}."
        )
    if found.mcnemar is not None:
        only = found.mcnemar
        sentences.append(
            f"{names[0]} alone is right on {only.only_first} examples, {names[1]} alone on {only.only_second} "
            f"(McNemar, p = {only.p:.2g})."
        )
    sure_classes = [name for name, p in zip(class_names, _corrected(found.classes[CLASS_METRIC]), strict=True) if p < SURE]
    listed = f"for {', '.join(sure_classes)}" if sure_classes else "for none of the classes"
    sentences.append(f"Corrected for {len(class_names)} classes (Holm), F1 differs {listed}.")
    return sentences


def comparison_page(
    found: Comparison,
    names: tuple[str, str],
    class_names: Sequence[str],
    *,
    multi_label: bool,
    differing: Sequence[str],
    command: str,
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Page:
    """The page. names: of the two runs. differing: lines on the settings in which they differ."""
    shown = {name: change for name, change in found.metrics.items() if multi_label or not name.endswith("_micro")}
    metrics = {metric_title(name, multi_label): change for name, change in shown.items()}
    classes = dict(zip(class_names, found.classes[CLASS_METRIC], strict=True))
    unit = "recordings" if found.num_groups < found.n else "examples"
    return Page(
        title=f"{names[0]} against {names[1]}",
        subtitle=f"{found.n} examples, intervals by a paired bootstrap over {found.num_groups} {unit}",
        findings=comparison_findings(found, names, class_names, multi_label=multi_label),
        sections=[
            Section("Metrics", [_table("metric", names, _rows(metrics))]),
            Section(
                "Classes",
                [
                    Figure(partial(differences, classes), "difference in F1"),
                    # The largest difference first.
                    _table("F1 of class", names, _rows(dict(sorted(classes.items(), key=_size)))),
                ],
            ),
            Section("Settings that differ", [Bullets(differing) if differing else Paragraph("None.")]),
        ],
        command=command,
        versions=versions,
        provenance=provenance,
    )


def _table(of: str, names: tuple[str, str], rows: Sequence[tuple[Cell, ...]]) -> Table:
    return Table((of, *names, f"{names[1]} - {names[0]}, 95 % interval", "p", "p, corrected"), rows)


def _rows(changes: Mapping[str, Difference]) -> list[tuple[str, *tuple[Cell, ...]]]:
    """Name, first, second, difference with interval, p, and p corrected for the number of rows."""
    corrected = _corrected(list(changes.values()))
    return [
        (name, change.first, change.second, _difference(change), _p(change.p), _p(p))
        for (name, change), p in zip(changes.items(), corrected, strict=True)
    ]


def _size(change: tuple[str, Difference]) -> float:
    return -abs(change[1].difference or 0.0)


def _corrected(changes: Sequence[Difference]) -> list[float]:
    """p values after Holm's correction; NaN where there is none."""
    return holm([float("nan") if change.p is None else change.p for change in changes]).tolist()


def _difference(change: Difference) -> str | None:
    if change.difference is None or change.low is None or change.high is None:
        return None if change.difference is None else f"{change.difference:+.3f}"
    return f"{change.difference:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def _p(value: float | None) -> str | None:
    if value is None or value != value:
        return None
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
