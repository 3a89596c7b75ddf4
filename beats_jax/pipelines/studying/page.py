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
from beats_jax.pipelines.studying.gate import sentence, size_words
from beats_jax.pipelines.studying.networks import CNN, MLP, TRANSFORMER
from beats_jax.pipelines.studying.results import SYNTHETIC, ArmResult, Comparison, Measured
from beats_jax.pipelines.studying.settings import CONTROLS, LEAST_SEEDS
from beats_jax.pipelines.studying.store import ALL

if TYPE_CHECKING:
    from beats_jax.pipelines.studying.study import Runner

LEVEL = "gradient_boosting_level"
SHOWN = 8  # pictures in a row
CONFOUND = 0.7  # AUROC of level alone from which the page warns


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


def findings(
    found: Sequence[BaselineResult], runner: Runner, measured: Measured, comparisons: Sequence[Comparison], gate: dict[str, Any]
) -> list[str]:
    """The answer in words, then what limits it."""
    settings = runner.settings
    lines = [_answer(gate, comparisons)]
    lines += [sentence(one, settings.margin) for one in comparisons if one.word in ("gain", "loss")]
    same = [one for one in comparisons if one.word == "equivalent"]
    undecided = [one for one in comparisons if one.word == "open"]
    for words, group in ((f"No difference beyond ±{100 * settings.margin:g} points", same), ("Undecided", undecided)):
        if group:
            lines.append(f"{words}: {_listed(group)}.")
    level = next((one for one in found if one.name == LEVEL and one.result is not None), None)
    if level is not None and level.result is not None:
        value = level.result.metrics["auroc"].value
        if value is not None and value >= CONFOUND:
            lines.append(
                f"Level and peaks alone, without any frequency, reach an AUROC of {value:.3f}: the classes were not recorded "
                "alike, and part of what a detector learns here need not hold elsewhere."
            )
    lines += _cautions(runner, measured)
    return lines


def _answer(gate: dict[str, Any], comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return "No arm was compared with real examples alone: name more --arms, or see the notes for those that failed."
    used = [one for one in gate["decisions"] if one["use"]]
    if not used:
        return (
            "No reason to use synthetic data here: at no number of real examples does it beat both real examples alone and what "
            "needs no synthesis (oversampling, class weights, jitter, classic augmentation)."
        )
    parts = [f"{one['arm'].replace('_', ' ')} x{one['ratio']:g} at {one['examples']} real examples" for one in used]
    return f"Synthetic data helps here with {'; '.join(parts)}; elsewhere do not use it."


def _listed(group: Sequence[Comparison]) -> str:
    sizes = dict.fromkeys(one.result.size for one in group)
    return "; ".join(
        f"with {size_words(size)} {', '.join(one.result.title.replace('_', ' ') for one in group if one.result.size == size)}"
        for size in sizes
    )


def _cautions(runner: Runner, measured: Measured) -> list[str]:
    rows, lines = runner.arms.rows, []
    absent = [rows.vocabulary.names[c] for c in rows.wanted if c not in measured.wanted]
    if absent:
        lines.append(f"The test part has no clip of {', '.join(absent)}, so that nothing is known of them.")
    tested = measured.fewest
    if tested < 20:
        lines.append(f"Some class has {tested} test clips: differences of several points cannot be seen with so few.")
    if runner.settings.seeds < LEAST_SEEDS:
        lines.append(f"Seeds: {runner.settings.seeds}, fewer than {LEAST_SEEDS}, so that the gate stays closed.")
    if runner.left_out:
        lines.append(
            f"The budget left out {len(runner.left_out)} blocks of arms; the same command with a larger --budget adds them."
        )
    hours = float(measured.seconds[~np.isin(measured.labels, measured.wanted)].sum()) / 3600
    if rows.background is not None and hours < 1:
        lines.append(
            f"The test part has {hours:.2f} h of background: recall at one false alarm an hour is here recall above every "
            "background clip, and one more clip could change it."
        )
    return lines


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
    header = ("examples", "arm", "AUROC", "difference (points)", "corrected p", "result", "beyond the best control", "gate keeps")
    blocks.append(Table(header, [_row(one) for one in comparisons], numbers_from=2))
    return [
        Section("Stage 4: arms", blocks),
        *_pictures(runner, [one.size for one in results]),
        _all_arms(results),
        *_by_class(comparisons, counts),
    ]


def _pictures(runner: Runner, sizes: Sequence[int]) -> list[Section]:
    """Real pictures of the classes of interest above synthetic ones of each arm, at the largest size."""
    arms, grid = runner.arms, {}
    real = arms.real(ALL, 0)
    real = real[np.isin(arms.rows.labels[real], arms.rows.wanted)]
    grid["real"] = arms.pictures.images[np.random.default_rng(0).permutation(real)[:SHOWN]]
    for arm in (*CONTROLS, *SYNTHETIC):
        for size in sorted(set(sizes), key=lambda size: -(size or 10**9)):
            found = runner.store.samples(size, arm)
            if found is not None and len(found):
                grid[f"{arm.replace('_', ' ')}, {size or 'all'}"] = found[:SHOWN]
                break
    if len(grid) < 2:
        return []
    figure = Figure(
        partial(figures.sample_grid, grid), "real and synthetic pictures", "Of the first seed; the number: real examples."
    )
    return [Section("Stage 4: synthetic examples", [figure])]


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
        "" if one.beyond is None else f"{_points(one.beyond)} {one.against.replace('_', ' ')}",
        "" if np.isnan(one.result.kept) else f"{100 * one.result.kept:.0f} %",
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
