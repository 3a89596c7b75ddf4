"""The page that compares two runs on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beats_jax.evaluation.metrics.comparison import Comparison, Difference, holm
from beats_jax.evaluation.metrics.result import metric_title
from beats_jax.evaluation.report import figures
from beats_jax.evaluation.report.page import bullets, figure, page, paragraph, section, table, text
from beats_jax.files import write_text

CLASS_METRIC = "f1"
SURE = 0.05


def comparison_findings(found: Comparison, names: tuple[str, str], class_names: Sequence[str], *, multi_label: bool) -> list[str]:
    """What the numbers say, in sentences."""
    headline = "mAP" if multi_label else "accuracy"
    change = found.metrics[headline]
    sentences = []
    if change.difference is None or change.low is None or change.high is None or change.p is None:
        sentences.append(f"The difference in {headline} has no interval: too few recordings, or the bootstrap was switched off.")
    else:
        better = names[1] if change.difference > 0 else names[0]
        sure = f"{better} is better" if change.low * change.high > 0 else "the data do not tell which is better"
        sentences.append(
            f"{headline}: {_number(change.first)} in {names[0]}, {_number(change.second)} in {names[1]}, a difference of "
            f"{change.difference:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f}, p = {change.p:.2g}): {sure}."
        )
    if found.mcnemar is not None:
        only = found.mcnemar
        sentences.append(
            f"{names[0]} alone is right on {only.only_first} examples, {names[1]} alone on {only.only_second} "
            f"(McNemar, p = {only.p:.2g})."
        )
    corrected = class_p_values(found)
    sure_classes = [name for name, p in zip(class_names, corrected, strict=True) if p < SURE]
    listed = f"for {', '.join(sure_classes)}" if sure_classes else "for none of the classes"
    sentences.append(f"Corrected for {len(class_names)} classes (Holm), F1 differs {listed}.")
    return sentences


def class_p_values(found: Comparison) -> list[float]:
    """Corrected p of each class's difference in F1; NaN where it has none."""
    return holm([float("nan") if change.p is None else change.p for change in found.classes[CLASS_METRIC]]).tolist()


def comparison_table(found: Comparison, *, multi_label: bool) -> list[tuple[str, ...]]:
    """Rows of metric, first, second, difference with interval, p, and p corrected for the number of metrics; as text."""
    shown = [name for name in found.metrics if multi_label or not name.endswith("_micro")]
    corrected = holm([float("nan") if found.metrics[name].p is None else found.metrics[name].p or 0.0 for name in shown])
    return [
        (metric_title(name, multi_label), *_cells(found.metrics[name]), _number(None if p != p else p))
        for name, p in zip(shown, corrected.tolist(), strict=True)
    ]


def class_table(found: Comparison, class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """The same for the F1 of every class, the largest difference first; p corrected for the number of classes."""
    rows = [
        (name, *_cells(change), _number(None if p != p else p))
        for name, change, p in zip(class_names, found.classes[CLASS_METRIC], class_p_values(found), strict=True)
    ]
    size = {name: abs(change.difference or 0.0) for name, change in zip(class_names, found.classes[CLASS_METRIC], strict=True)}
    return sorted(rows, key=lambda row: -size[row[0]])


def write_comparison(
    path: Path,
    found: Comparison,
    names: tuple[str, str],
    class_names: Sequence[str],
    *,
    multi_label: bool,
    settings: Sequence[str],
    command: str,
) -> None:
    """Writes the page at once or not at all.

    Args:
      names: what the two runs are called. settings: lines that say in what they differ.
    """
    header = ("", *names, "difference and 95 % interval", "p", "p, corrected")
    changes = dict(zip(class_names, found.classes[CLASS_METRIC], strict=True))
    unit = "recordings" if found.num_groups < found.n else "examples"
    facts = f"{found.n} examples, intervals by a paired bootstrap over {found.num_groups} {unit}"
    picture = figures.differences(changes)
    body = [
        f"<header><h1>{text(f'{names[0]} against {names[1]}')}</h1>{paragraph(facts, 'soft')}</header>",
        section("Findings", bullets(comparison_findings(found, names, class_names, multi_label=multi_label), "findings")),
        section("Metrics", table(header, _escape(comparison_table(found, multi_label=multi_label)))),
        section("Classes", figure(picture, "difference in F1"), table(header, _escape(class_table(found, class_names)))),
        section("Settings that differ", bullets(settings) if settings else paragraph("None.")),
        section("How this was made", paragraph(command, "code")),
    ]
    write_text(path, page(f"{names[0]} against {names[1]}", "\n".join(body)))


def _escape(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(text(value) for value in row) for row in rows]


def _cells(change: Difference) -> tuple[str, ...]:
    span = "" if change.low is None or change.high is None else f" [{change.low:+.3f}, {change.high:+.3f}]"
    difference = "-" if change.difference is None else f"{change.difference:+.3f}{span}"
    return _number(change.first), _number(change.second), difference, _number(change.p)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
