"""Sections that show and play clips: one of each class, the most frequent confusions, the most confident errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from beats_jax.evaluation.metrics.result import EvaluationResult
from beats_jax.evaluation.report.page import Bold, Card, Cards, Example, Section


class ConfusedPair(NamedTuple):
    """Clips of `true` that were taken for `given`: `count` of the `total` of the class."""

    true: str
    given: str
    count: int
    total: int
    examples: tuple[Example, ...]


def worst_errors(examples: Sequence[Example], result: EvaluationResult) -> Section | None:
    """The most confident errors."""
    if not examples:
        return None
    note = f"The {len(examples)} most confident of {len(result.worst_errors)} errors. Listen first: some may be wrong labels."
    return Section("Worst errors", [Cards(note, [("", [_error_card(example, result) for example in examples])])])


def confused_pairs(pairs: Sequence[ConfusedPair], result: EvaluationResult) -> Section | None:
    """Some clips of each of the most frequent confusions."""
    if not pairs:
        return None
    groups = [
        (
            f"{pair.true} taken for {pair.given}: {pair.count} of {pair.total}",
            [_error_card(example, result) for example in pair.examples],
        )
        for pair in pairs
    ]
    return Section("Most confused", [Cards("The most frequent confusions.", groups)])


def gallery(examples: Sequence[Example]) -> Section | None:
    """One clip of every class, with the model's own input."""
    if not examples:
        return None
    note = "One clip of every class. Above: mel spectrogram in dB below its peak. Below: the model's own input, normalised."
    return Section("Gallery", [Cards(note, [("", [Card([Bold(example.label)], example) for example in examples])])])


def _error_card(example: Example, result: EvaluationResult) -> Card:
    label, prediction = Bold(example.label or "none"), Bold(example.prediction or "none")
    parts = ("true: ", label, "; predicted: ", prediction) if result.multi_label else (label, " taken for ", prediction)
    return Card((*parts, f", confidence {example.probability:.2f}"), example)
