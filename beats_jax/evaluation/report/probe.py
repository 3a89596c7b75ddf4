"""The page of a probe: the best layers and poolings, their figures, and how they were chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from beats_jax.evaluation.metrics.result import EvaluationResult, format_estimate, metric_title
from beats_jax.evaluation.probes.kinds import Setting
from beats_jax.evaluation.probes.nested import Choice
from beats_jax.evaluation.report.figures.metrics import score_map
from beats_jax.evaluation.report.page import Cell, Figure, Page, Paragraph, Section, Table, pairs_table
from beats_jax.evaluation.report.result import HEADLINES, classes_section, confusions_section, result_page


@dataclass(frozen=True)
class KindFindings:
    """One kind of probe. T test folds."""

    setting: str  # the name of its settings
    settings: tuple[Setting, ...]  # R
    scores: np.ndarray  # float64 [L, P, R], mean over validation folds (and repeats)
    final: Choice
    choices: tuple[Choice, ...]  # [T]
    result: EvaluationResult


@dataclass(frozen=True)
class EncoderFindings:
    """One encoder. Its layers and poolings name the rows and columns of the heat maps."""

    name: str
    layers: tuple[str, ...]
    poolings: tuple[str, ...]
    kinds: dict[str, KindFindings]
    final: Choice
    choices: tuple[Choice, ...]
    result: EvaluationResult
    repeats: tuple[float, ...]  # the headline metric under each drawing of the folds

    def words(self, choice: Choice) -> str:
        """A choice for readers: "logistic, layer 3, mean, C 0.01"."""
        kind = self.kinds[choice.kind]
        layer, pooling = self.place(choice)
        return f"{choice.kind}, layer {layer}, {pooling}, {kind.setting} {kind.settings[choice.setting]:{_format(kind)}}"

    def place(self, choice: Choice) -> tuple[str, str]:
        """(layer, pooling)."""
        if choice.kind not in self.kinds or self.kinds[choice.kind].scores.shape[:2] != (len(self.layers), len(self.poolings)):
            return "of its tokens", "attention"
        return self.layers[choice.embedding // len(self.poolings)], self.poolings[choice.embedding % len(self.poolings)]


def _format(kind: KindFindings) -> str:
    return "" if isinstance(kind.settings[0], str) else "g"


def probe_page(
    *,
    encoders: Sequence[EncoderFindings],
    folds: Sequence[str],
    folds_sentence: str,
    notes: Sequence[str],
    data_summary: Mapping[str, object],
    **fields: Any,
) -> Page:
    """The page.

    Args:
      encoders: the probed one first, then baselines.
      folds: names of the test folds. notes: further findings, which come first.
      fields: title, settings, errors, command and versions of `Page`.
    """
    first = encoders[0]
    sections = [
        _probes(encoders),
        *(_maps(encoder, _limits(encoders)) for encoder in encoders),
        _choices(first, folds, folds_sentence),
        classes_section(first.result),
        confusions_section(first.result),
        Section("Data", [pairs_table(data_summary)]),
    ]
    found = [*notes, *findings(encoders)]
    return result_page(first.result, groups="recordings or groups", findings=found, sections=sections, **fields)


def headline(result: EvaluationResult) -> str:
    """The metric by which probes are chosen: accuracy, or mAP for several labels an example."""
    return "mAP" if result.multi_label else "accuracy"


def findings(encoders: Sequence[EncoderFindings]) -> list[str]:
    """The figures in sentences."""
    first = encoders[0]
    name = headline(first.result)
    value, interval = format_estimate(first.result.metrics[name])
    lines = [
        f"{name.capitalize() if name == 'accuracy' else name} {value} {interval} on examples that had no part in the choice."
    ]
    lines.append(f"To use: {first.words(first.final)} (validation {first.final.score:.3f}).")
    places = Counter(first.place(choice) for choice in first.choices)
    (layer, pooling), often = places.most_common(1)[0]
    if len(first.choices) > 1:
        lines.append(f"Layer {layer} with {pooling} pooling was chosen in {often} of {len(first.choices)} test folds.")
    lines += _last_layer(first)
    for other in encoders[1:]:
        value, interval = format_estimate(other.result.metrics[name])
        lines.append(f"Baseline {other.name}: {name} {value} {interval}.")
    if len(first.repeats) > 1:
        spread = f"{np.mean(first.repeats):.3f} ± {np.std(first.repeats, ddof=1):.3f}"
        lines.append(f"Over {len(first.repeats)} drawings of the folds: {name} {spread} (standard deviation).")
    return lines


def _last_layer(found: EncoderFindings) -> list[str]:
    """The usual embedding, the mean of the last layer, beside the choice."""
    kind = found.kinds[found.final.kind]
    if "mean" not in found.poolings or kind.scores.shape[0] != len(found.layers) or len(found.layers) < 2:
        return []
    usual = float(kind.scores[-1, found.poolings.index("mean")].max())
    return [f"The mean of the last layer has {usual:.3f} in validation, {found.final.score - usual:.3f} less than the choice."]


def _probes(encoders: Sequence[EncoderFindings]) -> Section:
    multi_label = encoders[0].result.multi_label
    names = HEADLINES[multi_label][:3]
    rows: list[tuple[Cell, ...]] = []
    for encoder in encoders:
        several = [(kind, one.result, one.final) for kind, one in encoder.kinds.items()]
        if len(several) > 1:
            several.append(("best by validation", encoder.result, encoder.final))
        rows += [
            (encoder.name, kind, encoder.words(final), *(result.metrics[name] for name in names))
            for kind, result, final in several
        ]
    header = ("encoder", "probe", "to use", *(metric_title(name, multi_label) for name in names))
    note = "Figures are of the test folds, where every fold made its own choice; “to use” is the choice by all validation folds."
    return Section("Probes", [Table(header, rows, numbers_from=3), Paragraph(note, "note")])


def _limits(encoders: Sequence[EncoderFindings]) -> tuple[float, float]:
    """The same colours for all maps of the page, so that they compare."""
    best = [one.scores.max(axis=2) for encoder in encoders for one in encoder.kinds.values()]
    return float(min(scores.min() for scores in best)), float(max(scores.max() for scores in best))


def _maps(found: EncoderFindings, limits: tuple[float, float]) -> Section | None:
    """Heat maps of the kinds that have more than one place."""
    label = f"validation {headline(found.result)}"
    maps = []
    for kind, one in found.kinds.items():
        layers, poolings, _ = one.scores.shape
        if layers * poolings < 2:
            continue
        best = one.scores.max(axis=2)
        draw = partial(score_map, best, found.layers, found.poolings, divmod(one.final.embedding, poolings), label, limits)
        caption = f"{kind}: the best {one.setting} of each layer and pooling; framed: {found.words(one.final)}."
        rows = [(layer, *scores) for layer, scores in zip(found.layers, best.tolist(), strict=True)]
        table = Table((f"{kind}, layer", *found.poolings), rows)
        maps.append(Figure(draw, f"{label} of {kind} by layer and pooling", caption, instead=table, size="half"))
    note = "Layer 0 is the input of the first block. The best of so many cells flatters: believe the test figures above."
    return Section(f"Layers and poolings: {found.name}", [*maps, Paragraph(note, "note")]) if maps else None


def _choices(found: EncoderFindings, folds: Sequence[str], sentence: str) -> Section:
    rows = [(fold, found.words(choice), choice.score) for fold, choice in zip(folds, found.choices, strict=True)]
    header = ("test fold", "chosen by the other folds", "their validation")
    return Section("Choices", [Paragraph(sentence), Table(header, rows, numbers_from=2)])
