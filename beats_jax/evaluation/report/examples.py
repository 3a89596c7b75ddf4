"""Sections of a report that show and play clips: one of each class, the most frequent confusions, the most confident errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from beats_jax.evaluation.metrics.result import EvaluationResult
from beats_jax.evaluation.report import figures
from beats_jax.evaluation.report.page import audio_uri, paragraph, section, text

PICTURE_BYTES = 6_000_000  # of the gallery: beyond it classes are listed without pictures


class Example(NamedTuple):
    """A clip to be shown. `waveform`: float [samples], or None where the file could not be read again."""

    file: str
    start_seconds: float
    label: str
    prediction: str
    probability: float  # of an error the confidence in it (`result.WorstError`), else that of the prediction
    waveform: np.ndarray | None
    sample_rate: int
    fbank: np.ndarray | None = None  # float [F, M], what the model was given; None = not shown


class ConfusedPair(NamedTuple):
    """Clips of `true` that were taken for `given`: `count` of the `total` of the class."""

    true: str
    given: str
    count: int
    total: int
    examples: tuple[Example, ...]


@dataclass
class Players:
    """Players while their sound fits into `budget` bytes, so that a page stays small enough for a mail."""

    budget: int
    left_out: int = field(default=0, init=False)

    def player(self, example: Example) -> str:
        """An audio element, or nothing where there is no sound or no room."""
        if example.waveform is None:
            return ""
        uri = audio_uri(example.waveform, example.sample_rate)
        if len(uri) > self.budget:
            self.left_out += 1
            return ""
        self.budget -= len(uri)
        return f'<audio controls preload="metadata" src="{uri}"></audio>'

    def note(self) -> str:
        """A sentence on what was left out since the last note, or nothing."""
        number, self.left_out = self.left_out, 0
        return f" {number} of them without sound, to keep this file small." if number else ""


def worst_errors(examples: Sequence[Example], result: EvaluationResult, players: Players) -> str:
    """Cards of the most confident errors."""
    if not examples:
        return ""
    cards = [_card(example, _story(example, result), players) for example in examples]
    note = f"The {len(cards)} most confident of {len(result.worst_errors)} errors. Listen first: some may be wrong labels."
    return section("Worst errors", paragraph(note + players.note(), "soft small"), _cards(cards))


def confused_pairs(pairs: Sequence[ConfusedPair], result: EvaluationResult, players: Players) -> str:
    """For each of the most frequent confusions some of its clips."""
    if not pairs:
        return ""
    parts = []
    for pair in pairs:
        title = f"{pair.true} taken for {pair.given}: {pair.count} of {pair.total}"
        cards = [_card(example, _story(example, result), players) for example in pair.examples]
        parts.append(f"<h3>{text(title)}</h3>{_cards(cards)}")
    return section("Most confused", paragraph("The most frequent confusions." + players.note(), "soft small"), *parts)


def gallery(examples: Sequence[Example], players: Players) -> str:
    """One clip of every class: for the eye, and as the model was given it."""
    if not examples:
        return ""
    cards, spent, bare = [], 0, 0
    for example in examples:
        pictures = _pictures(example)
        if spent + len(pictures) > PICTURE_BYTES:
            pictures, bare = "", bare + 1
        spent += len(pictures)
        cards.append(_card(example, f"<b>{text(example.label)}</b>", players, lambda _, shown=pictures: shown))
    note = "One clip of every class. Above: mel spectrogram in dB below its peak. Below: the model's own input, normalised."
    note += f" {bare} without pictures, to keep this file small." if bare else ""
    return section("Gallery", paragraph(note + players.note(), "soft small"), _cards(cards))


def _pictures(example: Example) -> str:
    if example.waveform is None:
        return ""
    uris = [figures.spectrogram(example.waveform, example.sample_rate)]
    uris += [] if example.fbank is None else [figures.model_input(example.fbank)]
    return "".join(f'<img src="{uri}" alt="spectrogram">' for uri in uris)


def _picture(example: Example) -> str:
    if example.waveform is None:
        return ""
    return f'<img src="{figures.spectrogram(example.waveform, example.sample_rate)}" alt="spectrogram">'


def _card(example: Example, story: str, players: Players, picture: Callable[[Example], str] = _picture) -> str:
    place = f'<div class="file">{text(example.file)} at {example.start_seconds:.2f} s</div>'
    return f'<div class="card">{picture(example)}<div>{story}</div>{place}{players.player(example)}</div>'


def _cards(cards: Sequence[str]) -> str:
    return f'<div class="cards">{"".join(cards)}</div>'


def _story(example: Example, result: EvaluationResult) -> str:
    label, prediction = (f"<b>{text(names or 'none')}</b>" for names in (example.label, example.prediction))
    story = f"true: {label}; predicted: {prediction}" if result.multi_label else f"{label} taken for {prediction}"
    return f"{story}, confidence {example.probability:.2f}"
