"""The files of a study: study.json, gate.json, the recommended pictures and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import beats_jax
from beats_jax.config import to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.evaluation.report.page import write_page
from beats_jax.pipelines.measuring.write import REPORT_FILE
from beats_jax.pipelines.studying.baseline_figures import BaselineResult, measure_baselines
from beats_jax.pipelines.studying.baselines import Baselines
from beats_jax.pipelines.studying.gate import gate_record, recommended, sentence, write_synthetic
from beats_jax.pipelines.studying.page import study_page
from beats_jax.pipelines.studying.results import ArmResult, Comparison, Measured, compare_arms, measure_arms
from beats_jax.pipelines.training.workdir import write_json

if TYPE_CHECKING:
    from beats_jax.pipelines.studying.study import Runner

GATE = "gate.json"


def write_study(
    output: Path, identity: dict[str, Any], baselines: Baselines, runner: Runner, errors: ErrorLog, command: str
) -> None:
    """Measures all outcomes, decides, and writes the files, study.json last; prints the verdict."""
    settings, arms = runner.settings, runner.arms
    measured = measured_rows(runner)
    print("measuring ...", flush=True)
    found = measure_baselines(baselines, measured, settings.resamples)
    wanted = {one for block in runner.blocks for one in block.fits}
    results = measure_arms(runner.store, [one for one in runner.store.fits() if one in wanted], measured, settings.resamples)
    counts = {size: np.bincount(arms.rows.labels[arms.real(size, 0)], minlength=measured.classes) for size in runner.sizes}
    comparisons = compare_arms(results, arms.rows.vocabulary.names, counts, measured.wanted, settings.margin, measured.fewest)
    for size in runner.sizes:
        one = recommended(comparisons, size)
        if one is not None:  # as the arm of the first seed had them
            made = arms.made(one.result.arm, size, 0)
            write_synthetic(output / f"synthetic/{size or 'all'}.npz", made.images, made.labels)
    gate = gate_record(comparisons, {size: counts[size] for size in runner.sizes}, measured.wanted, _facts(runner))
    write_json(output / GATE, gate)
    lines = [sentence(one, settings.margin) for one in comparisons]
    page = study_page(baselines, found, runner, measured, results, comparisons, gate, counts, errors.rows(), command)
    write_page(output / REPORT_FILE, page)
    record = {
        "identity": identity,
        "beats_jax": beats_jax.__version__,
        "complete": not runner.left_out,
        **runner.record(),
        "baselines": {one.name: one.flat for one in found},
        "arms": [_arm(one) for one in results],
        "comparisons": [_comparison(one) for one in comparisons],
        "verdict": lines,
    }
    write_json(output / "study.json", record)
    print("\n".join(page.findings))
    print(f"report: {output / REPORT_FILE}", flush=True)


def measured_rows(runner: Runner) -> Measured:
    """What the fits predict."""
    arms, rows = runner.arms, runner.arms.rows
    val, test = arms.usable("val"), arms.usable("test")
    present = [c for c in rows.wanted if (rows.labels[test] == c).any()]
    return Measured(
        rows.labels[val],
        rows.labels[test],
        rows.groups[test],
        arms.pictures.facts[test, -1].astype(np.float64),
        tuple(present),
        len(rows.vocabulary),
    )


def _facts(runner: Runner) -> dict[str, Any]:
    """What `train` must know of the pictures: classes, front-end, and the recordings that they were made of."""
    rows, train = runner.arms.rows, runner.arms.usable("train")
    background = None if rows.background is None else rows.vocabulary.names[rows.background]
    return {
        "classes": list(rows.vocabulary.names),
        "background": background,
        "filterbank": to_mapping(rows.audio.filterbank),
        "seconds": rows.seconds,
        "sources": sorted(
            {str(name) for key in ("content", "file_hash") for name in rows.manifest.metadata[key][train].tolist()}
        ),
    }


def _finite(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values.tolist()]


def _arm(one: ArmResult) -> dict[str, Any]:
    values = {name: _finite(column) for name, column in one.values.items()}
    kept = None if np.isnan(one.kept) else one.kept
    head = {"examples": one.size or "all", "arm": one.arm, "ratio": one.ratio, "seeds": list(one.seeds), "kept": kept}
    return {**head, "failures": list(one.failures), **values}


def _comparison(one: Comparison) -> dict[str, Any]:
    head = {"examples": one.result.size or "all", "arm": one.result.arm, "ratio": one.result.ratio, "word": one.word}
    classes = [{"class": name, "examples": n, **(asdict(found) if found else {})} for name, n, found in one.classes]
    p = None if np.isnan(one.p) else one.p
    difference = asdict(one.difference) if one.difference else None
    beyond = asdict(one.beyond) if one.beyond else None
    return {
        **head,
        "difference": difference,
        "corrected_p": p,
        "best_other": one.against,
        "beyond_it": beyond,
        "classes": classes,
    }


def named(found: Sequence[BaselineResult], name: str) -> BaselineResult | None:
    """The baseline of a name."""
    return next((one for one in found if one.name == name), None)
