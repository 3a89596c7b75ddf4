"""The page of a probe: which layer and pooling tell the classes apart, how well, and how the choice was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.evaluation.metrics.result import EvaluationResult, format_estimate, interval_note, metric_title
from beats_jax.evaluation.probes.choice import Choice
from beats_jax.evaluation.probes.kinds import Setting
from beats_jax.evaluation.report import figures
from beats_jax.evaluation.report.page import (
    bullets,
    cell,
    figure,
    page,
    paragraph,
    section,
    settings_columns,
    table,
    text,
    tile,
)
from beats_jax.files import write_text

HEADLINES = {False: ("accuracy", "f1_macro", "mAP", "auroc"), True: ("mAP", "auroc", "f1_macro", "f1_micro")}


@dataclass(frozen=True)
class KindFindings:
    """One kind of probe. T test folds."""

    setting: str  # what its settings are called
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


def write_probe_report(
    path: Path,
    *,
    title: str,
    encoders: Sequence[EncoderFindings],
    folds: Sequence[str],
    folds_sentence: str,
    notes: Sequence[str],
    data_summary: Mapping[str, object],
    settings: Mapping[str, object],
    errors: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
    command: str,
) -> None:
    """Writes the page at once or not at all; all text is escaped, and the page forbids scripts and fetching.

    Args:
      encoders: the probed one first, then baselines.
      folds: names of the test folds. notes: sentences that a reader must know.
    """
    first = encoders[0]
    body = [
        _head(title, first),
        section("Findings", bullets([*notes, *findings(encoders)], "findings")),
        _probes(encoders),
        *(_maps(encoder, _limits(encoders)) for encoder in encoders),
        _choices(first, folds, folds_sentence),
        _classes(first.result),
        section("Data", table((), [(text(k), text(v)) for k, v in data_summary.items()], numbers_from=2)),
        _bad_files(errors),
        section("Settings", settings_columns(settings)),
        section(
            "How this was made",
            paragraph(command, "code"),
            paragraph(", ".join(f"{name} {version}" for name, version in versions.items()), "soft small"),
        ),
    ]
    write_text(path, page(title, "\n".join(part for part in body if part)))


def headline(result: EvaluationResult) -> str:
    """The metric by which probes are chosen: accuracy, or mAP for several labels an example."""
    return "mAP" if result.multi_label else "accuracy"


def findings(encoders: Sequence[EncoderFindings]) -> list[str]:
    """What the figures say, in sentences."""
    first = encoders[0]
    name = headline(first.result)
    value, interval = format_estimate(first.result.metrics[name])
    lines = [f"{name.capitalize() if name == 'accuracy' else name} {value} {interval} on examples that no choice has seen."]
    lines.append(f"To use: {first.words(first.final)} (validation {first.final.score:.3f}).")
    places = Counter(first.place(choice) for choice in first.choices)
    (layer, pooling), often = places.most_common(1)[0]
    if len(first.choices) > 1:
        lines.append(f"Layer {layer} with {pooling} was chosen in {often} of {len(first.choices)} test folds.")
    lines += _last_layer(first)
    for other in encoders[1:]:
        value, interval = format_estimate(other.result.metrics[name])
        lines.append(f"{other.name}: {name} {value} {interval}.")
    if len(first.repeats) > 1:
        spread = f"{np.mean(first.repeats):.3f} ± {np.std(first.repeats, ddof=1):.3f}"
        lines.append(f"Over {len(first.repeats)} drawings of the folds: {name} {spread} (standard deviation).")
    return lines


def _last_layer(found: EncoderFindings) -> list[str]:
    """What a user loses who takes the usual embedding, the mean of the last layer."""
    kind = found.kinds[found.final.kind]
    if "mean" not in found.poolings or kind.scores.shape[0] != len(found.layers) or len(found.layers) < 2:
        return []
    usual = float(kind.scores[-1, found.poolings.index("mean")].max())
    return [f"The mean of the last layer has {usual:.3f} in validation, {found.final.score - usual:.3f} less than the choice."]


def _head(title: str, found: EncoderFindings) -> str:
    result = found.result
    facts = f"{result.n} examples from {result.num_groups} recordings or groups, {len(result.class_names)} classes"
    tiles = "".join(tile(metric_title(name, result.multi_label), result.metrics[name]) for name in HEADLINES[result.multi_label])
    return (
        f"<header><h1>{text(title)}</h1>{paragraph(facts, 'soft')}"
        f'<div class="tiles">{tiles}</div>{paragraph(interval_note(result), "soft small")}</header>'
    )


def _probes(encoders: Sequence[EncoderFindings]) -> str:
    rows = []
    for encoder in encoders:
        several = [(kind, one.result, one.final) for kind, one in encoder.kinds.items()]
        if len(several) > 1:
            several.append(("best by validation", encoder.result, encoder.final))
        for kind, result, final in several:
            metrics = (cell(result.metrics[name]) for name in HEADLINES[result.multi_label][:3])
            rows.append((text(encoder.name), text(kind), text(encoder.words(final)), *metrics))
    multi_label = encoders[0].result.multi_label
    header = ("encoder", "probe", "to use", *(metric_title(name, multi_label) for name in HEADLINES[multi_label][:3]))
    note = "Figures are of the test folds, where every fold made its own choice; “to use” is the choice by all validation folds."
    return section("Probes", table(header, rows, numbers_from=3), paragraph(note, "soft small"))


def _limits(encoders: Sequence[EncoderFindings]) -> tuple[float, float]:
    """The same colours for all maps of the page, so that they compare."""
    best = [one.scores.max(axis=2) for encoder in encoders for one in encoder.kinds.values()]
    return float(min(scores.min() for scores in best)), float(max(scores.max() for scores in best))


def _maps(found: EncoderFindings, limits: tuple[float, float]) -> str:
    """Heat maps of the kinds that have more than one place."""
    label = f"validation {headline(found.result)}"
    parts = []
    for kind, one in found.kinds.items():
        layers, poolings, _ = one.scores.shape
        if layers * poolings < 2:
            continue
        best = one.scores.max(axis=2)
        place = divmod(one.final.embedding, poolings)
        picture = figures.score_map(best, found.layers, found.poolings, place, label, limits)
        caption = f"{kind}: the best {one.setting} of each layer and pooling; framed: {found.words(one.final)}."
        parts.append(figure(picture, f"{label} of {kind} by layer and pooling", caption))
    if not parts:
        return ""
    note = "Layer 0 is the input of the first block. The best of so many cells flatters: believe the test figures above."
    grid = (
        '<div class="cards" style="grid-template-columns: repeat(auto-fill, minmax(430px, 1fr))">'
        + "".join(f"<div>{part}</div>" for part in parts)
        + "</div>"
    )
    return section(f"Layers and poolings: {found.name}", grid, paragraph(note, "soft small"))


def _choices(found: EncoderFindings, folds: Sequence[str], sentence: str) -> str:
    rows = [
        (text(fold), text(found.words(choice)), f"{choice.score:.3f}") for fold, choice in zip(folds, found.choices, strict=True)
    ]
    header = ("test fold", "chosen by the other folds", "their validation")
    return section("Choices", paragraph(sentence), table(header, rows, numbers_from=2))


def _classes(result: EvaluationResult) -> str:
    rows = [(text(one.name), str(one.n), str(one.predicted), cell(one.f1), cell(one.recall)) for one in result.classes]
    parts = [figure(figures.class_bars(result.classes), "F1 and recall per class", "Points with 95 % intervals; best F1 on top.")]
    if not result.multi_label:
        picture = figures.confusion_pictures(result.confusion, result.class_names)
        parts.append(figure(picture, "confusion matrices", "Rows: true class; columns: predicted class. A share is of its row."))
    return section("Classes", *parts, table(("class", "n", "predicted", "F1", "recall"), rows))


def _bad_files(errors: Sequence[tuple[str, str]]) -> str:
    if not errors:
        return section("Bad files", paragraph("None: every file could be used."))
    return section("Bad files", table(("file", "reason"), [(text(f), text(r)) for f, r in errors], numbers_from=2))
