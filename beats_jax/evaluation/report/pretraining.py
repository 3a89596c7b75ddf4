"""The report of a run without labels: what it learnt, how the loss fell, and whether it looks sound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from beats_jax.evaluation.embeddings.health import Points
from beats_jax.evaluation.report.figures.curves import (
    History,
    Panel,
    block_curves,
    curve_panels,
    embedding_pictures,
    has_block_curves,
    history_series,
    with_lines,
)
from beats_jax.evaluation.report.page import Figure, Page, Section, Table, pairs_table

POINTS_CAPTION = (
    "the same clips at several steps, each time on the two directions in which they differ most then; signs and axes may turn"
)
BLOCKS_CAPTION = "Where in the encoder the gradient is; a block that stays apart does not learn."
SPLITS = (("train", "training"), ("val", "validation"))
COLLAPSED = 0.05  # least share of the occurring codes that a model must predict
LEAST_SPREAD, LEAST_RANK = 0.1, 2.0  # of embeddings: below, nearly all clips are one point, or lie on a line
FORGETTING = 0.02  # a larger loss of a probe's figure since the start is an alarm
TAIL = 0.1  # share of the training rows, at the end, whose mean is shown


def pretraining_page(
    *,
    history: History,
    facts: Mapping[str, object],
    data_summary: Mapping[str, object],
    points: Sequence[tuple[int, Points, np.ndarray]],
    **fields: Any,
) -> Page:
    """The page.

    Args:
      facts: the outcome, name and value.
      points: (step, places, group of each clip) of watched embeddings; empty = no picture.
      fields: title, settings, errors, command and versions of `Page`.
    """
    panels = _panels(history)
    curves = Figure(partial(curve_panels, panels), "loss and monitors against the training step")
    blocks = Figure(partial(block_curves, history, "gradient_norm"), "gradient norm of each block", BLOCKS_CAPTION)
    watched = Figure(partial(embedding_pictures, points), "embeddings of the watched clips", POINTS_CAPTION)
    sections = [
        Section("Outcome", [pairs_table(facts)]),
        Section("Figures", [Table(("figure", "training", "validation"), _figures(history))]),
        Section("Training", [curves]) if panels else None,
        Section("Blocks", [blocks]) if has_block_curves(history, "gradient_norm") else None,
        Section("Embeddings of the watched clips", [watched]) if points else None,
        Section("Data", [pairs_table(data_summary)]),
    ]
    return Page(findings=findings(history), sections=sections, **fields)


def last_figures(history: History) -> dict[str, float]:
    """`train_<name>`: mean over the last tenth of the training rows; `validation_<name>`: of the last evaluation."""
    result = {}
    for split, word in (("train", "train"), ("val", "validation")):
        for name in _names(history, split):
            values = history_series(history, f"{split}/{name}")[1]
            last = values[-max(1, round(TAIL * len(values))) :] if split == "train" else values[-1:]
            result[f"{word}_{name}"] = float(last.mean())
    return result


def findings(history: History) -> list[str]:
    """The most important facts in sentences; alarms are marked."""
    steps, losses = history_series(history, "train/loss")
    if not len(losses):
        return ["Nothing was logged: the run is shorter than training.log_every_steps."]
    found, last = [], last_figures(history)
    found.append(f"Training loss: {losses[0]:.3f} at step {steps[0]}, {last['train_loss']:.3f} in the last rows.")
    if "validation_loss" in last:
        found.append(f"Loss on recordings that were held out: {last['validation_loss']:.3f}.")
    if len(losses) > 1 and last["train_loss"] >= losses[0]:
        found.append("Alarm: the loss did not fall; try another learning rate, or look at the data.")
    found += _code_findings(last)
    found += _embedding_findings(last)
    found += _watch_findings(history)
    return found


def _code_findings(last: Mapping[str, float]) -> list[str]:
    found = []
    entropy = last.get("train_target_entropy")
    if entropy is not None:
        floor = entropy * math.log(2)
        word = "below" if last["train_loss"] < floor else "not yet below"
        found.append(
            f"Codes occur with an entropy of {entropy:.2f} bits: knowing only how often each occurs gives a loss of {floor:.3f} "
            f"(more with smoothing). The training loss is {word} that."
        )
    predicted, wanted = last.get("train_predicted_codes"), last.get("train_target_codes")
    if predicted is not None and wanted is not None:
        alarm = "Alarm: predictions have collapsed: " if predicted < max(2.0, COLLAPSED * wanted) else ""
        found.append(f"{alarm}{predicted:.0f} different codes are predicted in a batch, {wanted:.0f} occur.")
    used, dead = last.get("train_used_codes"), last.get("train_dead_codes")
    if used is not None and dead is not None:
        alarm = "Alarm: the codebook has collapsed: " if used < 2 else ""
        found.append(f"{alarm}{used:.0f} different codes are used in a batch, {dead:.0f} are dead.")
    return found


def _embedding_findings(last: Mapping[str, float]) -> list[str]:
    spread, rank = last.get("train_embedding_spread"), last.get("train_embedding_rank")
    if spread is None or rank is None:
        return []
    begin = "Alarm: embeddings have collapsed: the" if spread < LEAST_SPREAD or rank < LEAST_RANK else "The"
    return [f"{begin} clips of a batch differ in {rank:.1f} directions, with a spread of {spread:.2f} (0 = all alike, 1 = even)."]


def _watch_findings(history: History) -> list[str]:
    """The watched clips since the start: directions, geometry, and the figures of a linear probe."""
    found = []
    ranks = history_series(history, "val/feature_rank")[1]
    if len(ranks) > 1:
        begin = "Alarm: features have collapsed: the" if ranks[-1] < LEAST_RANK else "The"
        found.append(
            f"{begin} watched clips differ in {ranks[-1]:.1f} directions, at the start in {ranks[0]:.1f} (effective rank)."
        )
    moved = history_series(history, "val/drift")[1]
    if len(moved):
        found.append(
            f"Their geometry has moved by {moved[-1]:.2f} from the start (1 - linear CKA: 0 = not at all, 1 = unrelated)."
        )
    for name in ("probe_accuracy", "probe_mAP"):
        steps, values = history_series(history, f"val/{name}")
        if len(values) < 2:
            continue
        word, best = name.removeprefix("probe_"), int(np.argmax(values))
        text_ = f"{word} of a linear probe: {values[0]:.3f} at the start, {values[-1]:.3f} now"
        if values[-1] < values[0] - FORGETTING:
            text_ = f"Alarm: the encoder has become worse on the labelled clips. {text_}"
        found.append(
            f"{text_}, best {values[best]:.3f} at step {steps[best]} (training.monitor={name} training.select=best keeps it)."
        )
    return found


def _names(history: History, split: str) -> list[str]:
    names = {key.removeprefix(f"{split}/") for row in history for key in row if key.startswith(f"{split}/")}
    names = {name for name in names if not name.startswith("block_")}  # they have a picture of their own
    return sorted(names, key=lambda name: (name != "loss", name))


def _panels(history: History) -> list[Panel]:
    """A panel for each kind of figure: names that end alike ("masked_accuracy", "visible_accuracy") share one."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for split, word in SPLITS:
        for name in _names(history, split):
            kinds.setdefault(name.rpartition("_")[2], []).append((split, word, name))
    kinds.pop("share", None)
    panels = []
    for kind, figures in kinds.items():
        # A figure alone in its panel gives it its whole name: "Learning rate", not "Rate".
        alone = len({name for _, _, name in figures}) == 1
        title = (figures[0][2].replace("_", " ") if alone else kind).capitalize()
        lines = []
        for split, word, name in figures:
            before = "" if alone else name.rpartition("_")[0].replace("_", " ")
            lines.append((f"{before}, {word}" if before else word, *history_series(history, f"{split}/{name}")))
        panels.append(Panel(title, lines, 1.02 if kind == "accuracy" else None))
    return with_lines(panels)


def _figures(history: History) -> list[tuple[str, str, str]]:
    last = last_figures(history)
    names = dict.fromkeys(name for split, _ in SPLITS for name in _names(history, split))

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    return [(name, number(last.get(f"train_{name}")), number(last.get(f"validation_{name}"))) for name in names]
