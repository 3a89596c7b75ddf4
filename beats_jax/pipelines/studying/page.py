"""The page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate
from beats_jax.evaluation.metrics.seeds import SeedDifference
from beats_jax.evaluation.report.figures import metrics as metric_figures
from beats_jax.evaluation.report.figures import study as figures
from beats_jax.evaluation.report.figures.curves import curve_panels, learning_panels
from beats_jax.evaluation.report.page import Block, Bullets, Cell, Figure, Page, Paragraph, Section, Table
from beats_jax.evaluation.report.result import confusions_section
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.write import versions
from beats_jax.pipelines.studying.baseline_figures import BaselineResult
from beats_jax.pipelines.studying.baselines import Baselines, shown_names
from beats_jax.pipelines.studying.exploration import exploration_sections
from beats_jax.pipelines.studying.gate import size_words
from beats_jax.pipelines.studying.networks import CNN, MLP, TRANSFORMER
from beats_jax.pipelines.studying.results import SYNTHETIC, ArmResult, Comparison, Measured
from beats_jax.pipelines.studying.synthetic import synthetic_sections
from beats_jax.pipelines.studying.verdict import findings

if TYPE_CHECKING:
    from beats_jax.pipelines.studying.study import Runner


def study_page(
    baselines: Baselines,
    found: Sequence[BaselineResult],
    runner: Runner,
    measured: Measured,
    results: Sequence[ArmResult],
    comparisons: Sequence[Comparison],
    gate: dict[str, Any],
    counts: dict[int, np.ndarray],
    errors: Sequence[tuple[str, str]],
    command: str,
) -> Page:
    """The page: verdict, recordings, baselines, arms."""
    rows, settings = runner.arms.rows, runner.settings
    cnn = next((one for one in found if one.name == CNN and one.result is not None), None)
    tiles = (
        []
        if cnn is None or cnn.result is None or cnn.extra is None
        else [
            ("AUROC of the CNN", cnn.result.metrics["auroc"]),
            ("F1", cnn.extra["f1_wanted"]),
            ("accuracy", cnn.result.metrics["accuracy"]),
            ("recall at 1 false alarm/h", cnn.extra["recall_at_1_fa_per_hour"]),
        ]
    )
    return Page(
        title=f"Does synthetic data help? {settings.data}",
        subtitle=f"{len(rows.manifest)} clips, {len(rows.vocabulary)} classes; "
        + ", ".join(f"{name} {number}" for name, number in rows.report.split_rows.items()),
        tiles=tiles,
        note="The CNN on all real training clips with classic augmentation, on test clips; 95 % intervals." if tiles else "",
        findings=findings(found, runner, measured, comparisons, gate),
        sections=[
            *_arm_sections(runner, results, comparisons, counts),
            *_baseline_sections(baselines, found, measured),
            *exploration_sections(rows, runner.arms.pictures),
            _notes(runner),
        ],
        command=command,
        versions=versions(),
        errors=errors,
        settings={"study": asdict(settings)},
        provenance=provenance(),
    )


def _arm_sections(
    runner: Runner, results: Sequence[ArmResult], comparisons: Sequence[Comparison], counts: dict[int, np.ndarray]
) -> list[Section]:
    margin = runner.settings.margin
    if not comparisons:
        return []
    panels = {}
    for size in dict.fromkeys(one.result.size for one in comparisons):
        bars = [
            figures.Bar(one.result.title, one.difference.difference, one.difference.low, one.difference.high, one.word)
            for one in comparisons
            if one.result.size == size and one.difference is not None
        ]
        if bars:
            panels[size_words(size)] = bars
    rule = (
        f"Decided beforehand: the measure is AUROC, and differences within ±{100 * margin:g} points count as none (two one-sided "
        "tests at 5 %); p values are corrected over the arms of a size by Holm's rule. Every arm has the same real examples, "
        "steps and seeds as the real one; how many synthetic examples go with each real one (x) is chosen by validation. "
        "Intervals draw test recordings and seeds."
    )
    blocks: list[Block] = [Paragraph(rule)]
    if panels:
        caption = "Blue: a gain; orange: a loss; black: no difference beyond the margin (shaded); grey: undecided."
        blocks.append(Figure(partial(figures.arm_differences, panels, margin), "differences of the arms", caption))
    header = ("examples", "arm", "AUROC", "difference (points)", "corrected p", "result", "gate keeps", "beyond the best control")
    blocks.append(Table(header, [_row(one) for one in comparisons], numbers_from=2))
    return [
        Section("Stage 4: arms", blocks),
        *synthetic_sections(runner.arms, runner.store, [one.size for one in results]),
        _all_arms(results),
        *_by_class(comparisons, counts),
    ]


def _row(one: Comparison) -> tuple[Cell, ...]:
    values = one.result.values.get("auroc", np.zeros(0))
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    words = {"gain": "helps", "loss": "harms", "equivalent": "no difference", "open": "undecided"}[one.word]
    return (
        one.result.size or "all",
        one.result.title.replace("_", " "),
        f"{values.mean():.3f}{spread}" if len(values) else "-",
        _points(one.difference),
        None if np.isnan(one.p) else one.p,
        words,
        "" if np.isnan(one.result.kept) else f"{100 * one.result.kept:.0f} %",
        "" if one.beyond is None else f"{_points(one.beyond)} {one.against.replace('_', ' ')}",
    )


def _points(found: SeedDifference | None) -> str:
    return "-" if found is None else f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _all_arms(results: Sequence[ArmResult]) -> Section:
    """Every ratio, with all metrics."""
    names = ("auroc", "ap", "f1", "accuracy", "recall_at_1_fa_per_hour", "ece", "val_auroc")
    rows: list[tuple[Cell, ...]] = []
    for one in results:
        means = [
            float(np.nanmean(one.values[name])) if one.values and np.isfinite(one.values[name]).any() else None for name in names
        ]
        rows.append((one.size or "all", one.title.replace("_", " "), len(one.seeds), *means))
    header = (
        "examples a class",
        "arm",
        "seeds",
        "AUROC",
        "PR-AUC",
        "F1",
        "accuracy",
        "recall at 1 FA/h",
        "ECE",
        "validation AUROC",
    )
    note = "Means over seeds. F1 at the threshold that validation chose. Synthetic arms lose no training: steps are equal."
    return Section("Stage 4: all figures", [Table(header, rows, numbers_from=2), Paragraph(note, "note")])


def _by_class(comparisons: Sequence[Comparison], counts: dict[int, np.ndarray]) -> list[Section]:
    """Gains by the number of examples of a class: rare classes are where others found gains."""
    largest = [one for one in comparisons if one.result.arm in SYNTHETIC and len(one.classes) > 1]
    if not largest:
        return []
    edges, rows = (0, 5, 10, 20, 50, 100, 10**9), []
    for one in largest:
        for low, high in pairwise(edges):
            inside = [found for _, n, found in one.classes if found is not None and low < n <= high]
            if inside:
                bounds = f"{low + 1} to {high}" if high < 10**9 else f"over {low}"
                mean = 100 * float(np.mean([found.difference for found in inside]))
                sure = sum(found.low > 0 for found in inside), sum(found.high < 0 for found in inside)
                rows.append(
                    (one.result.size or "all", one.result.title.replace("_", " "), bounds, len(inside), f"{mean:+.2f}", *sure)
                )
    header = ("examples a class", "arm", "classes with examples", "classes", "mean gain (points)", "intervals above 0", "below 0")
    note = "Intervals of single classes are not corrected for their number: one in forty lies above 0 by chance."
    return [Section("Stage 4: gain by how rare a class is", [Table(header, rows, numbers_from=3), Paragraph(note, "note")])]


def _baseline_sections(baselines: Baselines, found: Sequence[BaselineResult], measured: Measured) -> list[Section]:
    whole = [one for one in found if not one.size]
    rows: list[tuple[Cell, ...]] = []
    for one, name in zip(whole, shown_names([one.name for one in whole]), strict=True):
        if one.result is None or one.extra is None:
            rows.append((name, *["failed"] * 7))
            continue
        metrics = one.result.metrics
        rows.append((name, metrics["auroc"], one.extra["ap_wanted"].value, one.extra["f1_wanted"], metrics["accuracy"],
                     metrics["balanced_accuracy"], one.extra["recall_at_1_fa_per_hour"], one.ece))  # fmt: skip
    majority = float(np.bincount(measured.labels).max() / len(measured.labels))
    header = ("model", "AUROC", "PR-AUC", "F1", "accuracy", "balanced accuracy", "recall at 1 FA/h", "ECE")
    note = (
        f"One seed each. Always naming the most frequent class has accuracy {majority:.3f}. F1 at the threshold of validation, "
        "ECE after its temperature."
    )
    blocks: list[Block] = [Table(header, rows), Paragraph(note, "note")]
    tables = {
        name: one.reliability
        for one, name in zip(whole, shown_names([one.name for one in whole]), strict=True)
        if one.reliability is not None and one.name in (CNN, "gradient_boosting_features")
    }
    if tables:
        blocks.append(Figure(partial(metric_figures.reliability, tables), "calibration", "After the temperature.", size="half"))
    curve = [
        (one.size or len(baselines.arms.usable("train")), one.result.metrics["auroc"])
        for one in found
        if one.result is not None and one.name.split(" ")[0] == CNN
    ]
    points = sorted((size, _bounds(estimate)) for size, estimate in curve if estimate.value is not None)
    if len(points) > 1:
        draw = partial(figures.learning_curve, [size for size, _ in points], [value for _, value in points], "AUROC")
        blocks.append(Figure(draw, "learning curve over training size", "The CNN on shares of the training clips.", size="half"))
    for kind in (CNN, MLP, TRANSFORMER):
        history = baselines.curve(kind)
        if len(history) > 1:
            panels = learning_panels(history, ("accuracy", "auroc", "f1_macro"))
            blocks.append(
                Figure(
                    partial(curve_panels, panels), f"learning curves of the {kind}", f"{kind}: loss and validation over steps."
                )
            )
    sections = [Section("Stage 1: baselines", blocks)] if rows else []
    cnn = next((one for one in found if one.name == CNN and one.result is not None), None)
    confusions = None if cnn is None or cnn.result is None else confusions_section(cnn.result)
    return [*sections, *([] if confusions is None else [confusions])]


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    value = float(estimate.value or 0.0)
    return value, value if estimate.low is None else estimate.low, value if estimate.high is None else estimate.high


def _notes(runner: Runner) -> Section | None:
    lines = [*runner.arms.rows.report.warnings, *dict.fromkeys(runner.notes)]
    lines += [f"left out by the budget: {line}" for line in runner.record()["left_out"]]
    return Section("Notes", [Bullets(lines)]) if lines else None
