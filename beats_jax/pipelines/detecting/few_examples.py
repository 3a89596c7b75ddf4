"""A detector from a few examples: no encoder is trained; seconds of work on top of the scores of the recordings.

With the filterbank each class is the mean of its examples' spectrograms, aligned, in units of the background
(`template`). With a model it is the direction that tells the examples' embeddings from those of the background: linear
discriminant analysis with the shrinkage of Ledoit and Wolf (2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank, frames_inside
from beats_jax.config import AudioConfig, FilterbankConfig, from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.pipelines.detecting.background import FalseAlarms, background_stretches, false_alarms
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.examples import Example, lowest_rate, read_example
from beats_jax.pipelines.detecting.mel_templates import aligned, band_levels, loud_bands, template_of, unit_patches
from beats_jax.pipelines.detecting.template import TemplateProgram, correlations, fisher_z

LEAST_FRAMES = 4  # of a template
FRAME_SHARE = 0.1  # of the shortest class's length: longest shift of a frame, so that short calls have some frames
HOP_SHARE = 0.25  # of the shortest class's length, from one window to the next
AROUND_SHARE = 0.25  # of a class's length: how far an example may be moved to agree with the others
OWN_SHARE = (
    0.6  # of the way from the background to the examples' own scores: a lower score is no event (benchmarks/few_examples.py)
)
FBANKS = 8  # waveforms whose filterbanks are computed at once
HEADERS = 32  # recordings whose rates are looked at
TYPICAL_LOGIT = 3.0  # a score of 0.95


@dataclass(frozen=True)
class ClassFit:
    """What is known of a class besides its template.

    Attributes:
      own: score of each example by the others; none of a single one. alarms: of the background. threshold: of the score.
    """

    label: str
    own: tuple[float, ...]
    alarms: FalseAlarms
    threshold: float

    @property
    def slope(self) -> float:
        """Logits a unit of the score: 0 at the threshold, `TYPICAL_LOGIT` where the examples themselves are."""
        typical = float(np.median(self.own)) if self.own else 1.0
        return TYPICAL_LOGIT / max(typical - self.threshold, self.alarms.deviation)

    def line(self) -> str:
        """For the user."""
        rate = self.alarms.rate_at(self.threshold)
        often = f"{rate:.2g}" if rate >= 0.01 else "less than 0.01"
        background = f"the background reaches 0.5 {often} times an hour, if its tail is normal"
        if not self.own:
            return f"{self.label}: 1 example; {background}"
        found = sum(score >= self.threshold for score in self.own)
        return f"{self.label}: {found} of {len(self.own)} examples reach 0.5 by what the others show; {background}"


@dataclass(frozen=True, eq=False)
class FewExamples:
    """A fitted detector: arrays of its program, and facts fit for JSON, of which the detector is built again."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def template_detector(fitted: FewExamples) -> Detector:
    """The detector of a fit with the filterbank. Raises `UserError` for facts of another version."""
    facts = fitted.facts
    audio = from_mapping(AudioConfig, facts["audio"], "audio")
    program = TemplateProgram(audio, {name: jnp.asarray(array) for name, array in fitted.arrays.items()}, facts["shifts"])
    seconds, grid = dict(facts["seconds"]), Grid(**facts["grid"])
    return Detector(
        program,
        tuple(seconds),
        True,
        grid,
        **known_thresholds(seconds),
        seconds=seconds,
        origin={"source": "filterbank", "licence": ""},
    )


def known_thresholds(labels: Iterable[str]) -> dict[str, Any]:
    """The fields of a `Detector` whose logits are 0 at the thresholds of the fit."""
    return {"thresholds": dict.fromkeys(labels, 0.5), "thresholds_from": "the examples and the recordings' background"}


def front_end(examples: Sequence[Example], recordings: Sequence[str], window: float | None) -> AudioConfig:
    """A filterbank of all frequencies that both examples and recordings hold, with frames that are short enough for the calls."""
    files = [*dict.fromkeys(str(example.file) for example in examples), *recordings[:: max(1, len(recordings) // HEADERS)]]
    rate = lowest_rate(files)
    shortest = window or min(lengths_of(examples).values())
    usual = FilterbankConfig()
    shift = min(usual.frame_shift_ms, 1000 * shortest * FRAME_SHARE)
    length = usual.frame_length_ms * shift / usual.frame_shift_ms
    return AudioConfig(filterbank=replace(usual, sample_rate=rate, frame_shift_ms=shift, frame_length_ms=length))


def lengths_of(examples: Sequence[Example]) -> dict[str, float]:
    """label → median seconds of its examples."""
    labels = sorted({example.label for example in examples})
    return {label: float(np.median([example.seconds for example in examples if example.label == label])) for label in labels}


def fit_templates(
    examples: Sequence[Example],
    recordings: Sequence[str],
    *,
    per_hour: float,
    window: float | None = None,
    hop: float | None = None,
    negatives: Sequence[Example] = (),
) -> FewExamples:
    """Fits a template for each class.

    Args:
      recordings: those to search, of which the background is. per_hour: background windows that may reach a score of 0.5.
      window: length of every template in seconds; None = the median length of the class's examples. hop: None = a quarter of the
        shortest class's length.
      negatives: sounds that are like the examples and shall not be found.
    Raises:
      UserError: an example or all recordings cannot be read, or an example without sound.
    """
    audio = front_end(examples, recordings, window)
    lengths = lengths_of(examples)
    labels = tuple(lengths)
    settings = audio.filterbank
    frames = {label: _frames(window or lengths[label], settings) for label in labels}
    shifts = max(1, round((hop or HOP_SHARE * min(frames.values()) * _shift(settings)) / _shift(settings)))
    fbanks = _fbanks(background_stretches(recordings, audio), audio)
    level, spread = band_levels(np.concatenate(fbanks))
    background = [(fbank - level) / spread for fbank in fbanks]
    stretches = _stretches(examples, frames, audio, level, spread)
    bands = {label: loud_bands(stretches[label]) for label in labels}
    patches = {label: aligned([one[:, bands[label]] for one in stretches[label]], frames[label]) for label in labels}
    longest = max(frames.values())
    templates = np.zeros((len(labels), longest, len(level)), np.float32)
    cells = np.zeros_like(templates)
    for place, label in enumerate(labels):
        rows = np.arange(frames[label]) + (longest - frames[label]) // 2
        here = np.ix_(np.array([place]), rows, bands[label])
        templates[here], cells[here] = template_of(patches[label])[None], 1.0
    hours = shifts * _shift(settings) / 3600
    answers = [_window_maxima(stretch, templates, cells, shifts) for stretch in background]
    fits = [
        fit_class(label, _left_out(patches[label]), np.concatenate(answers)[:, place], 1 / hours, per_hour)
        for place, label in enumerate(labels)
    ]
    if negatives:
        against = [(fbank - level) / spread for fbank in _fbanks([read_example(one, audio) for one in negatives], audio)]
        fits = above_negatives(fits, [_window_maxima(stretch, templates, cells, shifts) for stretch in against])
    arrays = {"level": level, "spread": spread, "templates": templates, "cells": cells}
    arrays["slope"] = np.array([fit.slope for fit in fits], np.float32)
    arrays["offset"] = np.array([fit.threshold for fit in fits], np.float32)
    facts = {
        "audio": to_mapping(audio),
        "shifts": shifts,
        "grid": {"window_seconds": _seconds(longest + shifts - 1, settings), "hop_seconds": shifts * _shift(settings)},
        "seconds": {label: _seconds(frames[label], settings) for label in labels},
        "lines": [fit.line() for fit in fits],
    }
    return FewExamples(arrays, facts)


def _stretches(
    examples: Sequence[Example], frames: dict[str, int], audio: AudioConfig, level: np.ndarray, spread: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """label → its examples [F_e, M] in units of the background, with room for alignment; what no file holds is background."""
    room = {label: max(1, round(AROUND_SHARE * number)) for label, number in frames.items()}
    sounds = [read_example(example, audio, room[example.label] * _shift(audio.filterbank)) for example in examples]
    require_sound(examples, sounds)
    found: dict[str, list[np.ndarray]] = {label: [] for label in frames}
    for example, fbank in zip(examples, _fbanks(sounds, audio), strict=True):
        least = frames[example.label] + 2 * room[example.label]
        found[example.label].append(_padded((fbank - level) / spread, least))
    return found


def _left_out(patches: np.ndarray) -> tuple[float, ...]:
    """Score of each example by the template of the others; none of a single one."""
    if len(patches) == 1:
        return ()
    rest = [np.delete(patches, place, axis=0) for place in range(len(patches))]
    found = [(unit_patches(one[None])[0] * template_of(others)).sum() for one, others in zip(patches, rest, strict=True)]
    return tuple(np.asarray(fisher_z(jnp.asarray(found))).tolist())


def fit_class(label: str, own: tuple[float, ...], background: np.ndarray, windows_per_hour: float, per_hour: float) -> ClassFit:
    """The threshold of a class, by the background's tail and by what the examples score without themselves (`own`)."""
    alarms = false_alarms(background, windows_per_hour)
    threshold = alarms.score_at(per_hour)
    if own:
        # Other animals are no part of a normal background, so that a score far below the examples' is not enough; and where the
        # call itself fills the recordings, their tail would put the threshold above the examples.
        typical = float(np.median(own))
        threshold = max(alarms.mean + OWN_SHARE * (typical - alarms.mean), min(threshold, typical))
    return ClassFit(label, own, alarms, threshold)


def above_negatives(fits: list[ClassFit], scores: Sequence[np.ndarray]) -> list[ClassFit]:
    """Thresholds halfway between the best negative and the examples, where the negative would be found."""
    best = np.max([score.max(axis=0) for score in scores], axis=0).tolist()
    found = []
    for fit, top in zip(fits, best, strict=True):
        typical = float(np.median(fit.own)) if fit.own else top
        found.append(replace(fit, threshold=max(fit.threshold, (top + max(top, typical)) / 2)) if top >= fit.threshold else fit)
    return found


def _window_maxima(stretch: np.ndarray, templates: np.ndarray, cells: np.ndarray, shifts: int) -> np.ndarray:
    """The scores of the windows of a stretch, float32 [W, C]; a stretch shorter than a template has one."""
    stretch = _padded(stretch, templates.shape[1])
    found = np.asarray(fisher_z(correlations(jnp.asarray(stretch)[None], jnp.asarray(templates), jnp.asarray(cells))))[0]
    return np.stack([found[first : first + shifts].max(axis=0) for first in range(0, len(found), shifts)])


def require_sound(examples: Sequence[Example], sounds: Sequence[np.ndarray]) -> None:
    """Raises `UserError` for an example of digital silence."""
    for example, sound in zip(examples, sounds, strict=True):
        if not np.any(sound):
            raise UserError(f"{example.file} holds digital silence at {example.start:g} s; remove it from the examples")


def _padded(values: np.ndarray, frames: int) -> np.ndarray:
    missing = max(0, frames - len(values))
    return np.pad(values, ((missing // 2, missing - missing // 2), (0, 0)))


def _fbanks(sounds: Sequence[np.ndarray], audio: AudioConfig) -> list[np.ndarray]:
    """float32 [F, M] of each waveform, one frame at least; all in batches of one shape, so that one program is compiled."""
    settings = audio.filterbank
    samples = max(settings.frame_samples, *(len(sound) for sound in sounds))
    found = []
    for first in range(0, len(sounds), FBANKS):
        few = sounds[first : first + FBANKS]
        lengths = np.array([max(settings.frame_samples, len(sound)) for sound in few] + [samples] * (FBANKS - len(few)))
        waves = np.stack([np.pad(sound, (0, samples - len(sound))) for sound in few])
        fbank = np.asarray(filterbank(np.pad(waves, ((0, FBANKS - len(few)), (0, 0))), lengths, settings)[0])
        found += [one[: frames_inside(int(length), settings)] for one, length in zip(fbank[: len(few)], lengths, strict=False)]
    return found


def _frames(seconds: float, settings: FilterbankConfig) -> int:
    return max(LEAST_FRAMES, frames_inside(round(seconds * settings.sample_rate), settings))


def _shift(settings: FilterbankConfig) -> float:
    return settings.hop_samples / settings.sample_rate


def _seconds(frames: int, settings: FilterbankConfig) -> float:
    """From the start of the first frame to the end of the last."""
    return (settings.frame_samples + (frames - 1) * settings.hop_samples) / settings.sample_rate
