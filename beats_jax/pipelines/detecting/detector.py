"""What finds sounds in recordings: a program that gives logits, its labels, and thresholds where some are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config.rules import require
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.inference.files import probabilities
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs, Program
from beats_jax.pipelines.measuring.measure import OPERATING_POINT_FILE, read_operating_point
from beats_jax.pipelines.probing.saved import load, probe_folder
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, read_experiment
from beats_jax.weights.audioset import readable_names

ANNOTATION_SOURCES = ("raven", "audacity", "annotations")  # of `datasets.sources`: windows without an event have a class


@dataclass(frozen=True, eq=False)
class Detector:
    """A program over windows, and what its logits mean.

    Attributes:
      program: its values hold `logits`, float32 [B, C].
      labels: C names, each once, as they stand in tables.
      multi_label: scores are the sigmoid of each logit, else the softmax of all: the model's own rule, as in `Model.predict`.
      grid: windows of a recording.
      thresholds: score from which a label counts as found; None = its goal cannot be reached, so it is never found; a label that
        is missing has no known threshold.
      thresholds_from: where they are from, for messages and records.
      background: label of time without a sound, of which there are no events unless it is asked for; "" = none.
      seconds: label → length of its events around the middle of a window, where windows are longer than calls; {} = windows.
      origin: `source` and `licence`.

    Raises:
      UserError: a label that is blank, or that stands there twice.
    """

    program: Program
    labels: tuple[str, ...]
    multi_label: bool
    grid: Grid
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    thresholds_from: str = ""
    background: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [label.strip() for label in self.labels]  # events have none of the blanks around a label
        bad = next((label for label, count in Counter(names).items() if not label or count > 1), None)
        require(
            bad is None, f"the model has a label {bad!r} {'twice' if bad else 'without a letter'}; give each a name of its own"
        )

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities float64 [..., C].

        The temperature of an operating point does not divide the logits: its thresholds were chosen without it, and so a window
        has the same score here as by `Model.predict_files`.
        """
        return probabilities(logits, self.multi_label)

    def identity(self) -> dict[str, Any]:
        """All that scores depend on, fit for JSON."""
        return {**self.program.identity(), "labels": list(self.labels), "multi_label": self.multi_label}


def open_detector(source: str, *, dtype: str, window: float | None, hop: float | None) -> Detector:
    """The detector of a run, of a probe that `evaluate --probe` saved, or of any model with a head.

    Args:
      source, dtype: as in `probing.saved.load`. window, hop: seconds; None = as in `Model.grid`.
    Raises:
      UserError: there is no such model, it has no head, or the operating point of the run is damaged.
    """
    model = load(source, dtype)
    model.require_head()
    labels, run = display_labels(model), probe_folder(source) or Path(source).expanduser()
    point = read_operating_point(run, LabelVocabulary(model.labels)) if run.is_dir() else None
    return Detector(
        program=model.program(Outputs(logits=True)),
        labels=labels,
        multi_label=model.multi_label,
        grid=model.grid(window, hop),
        thresholds={} if point is None else dict(zip(labels, point.thresholds, strict=True)),
        thresholds_from="" if point is None else str(run / OPERATING_POINT_FILE),
        background=_background(run, labels),
        origin={"source": model.source, "licence": model.licence},
    )


def display_labels(model: Model) -> tuple[str, ...]:
    """The labels of a model, with names in place of AudioSet's identifiers where that leaves each label unique."""
    names = readable_names(model.labels)
    return names if len(set(names)) == len(names) else model.labels


def _background(run: Path, labels: tuple[str, ...]) -> str:
    """The class of a run that learnt from tables of events, for windows without any."""
    if not (run / EXPERIMENT_FILE).is_file():
        return ""
    data = read_experiment(run).data
    return data.background if data.source in ANNOTATION_SOURCES and data.background in labels else ""
