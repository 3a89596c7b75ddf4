"""The answer of a study in words, and what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.pipelines.studying.baseline_figures import BaselineResult
from beats_jax.pipelines.studying.gate import sentence, size_words
from beats_jax.pipelines.studying.results import Comparison, Measured
from beats_jax.pipelines.studying.settings import LEAST_SEEDS

if TYPE_CHECKING:
    from beats_jax.pipelines.studying.study import Runner

LEVEL = "gradient_boosting_level"
CONFOUND = 0.7  # AUROC of level alone from which the page warns


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
