"""From which score on a label counts as found, and where that is from.

The first of these that knows a label decides: `--threshold LABEL=X`, `--threshold X`, the table of precision with `--precision`,
the detector's own thresholds (a run's operating point), and `DEFAULT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from beats_jax.audio.files import some
from beats_jax.config.rules import require
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.precision_table import PrecisionTable, threshold_for
from beats_jax.files import read_text
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.weights.audioset import readable_names

DEFAULT = 0.5


class Threshold(NamedTuple):
    """`value` None: no score is enough, so the label is never found. origin: where it is from, in words."""

    value: float | None
    origin: str


@dataclass(frozen=True)
class WantedThresholds:
    """What the user asks for.

    Attributes:
      given: label → threshold; "" = of all labels.
      precision: share of detections that shall be right, by `table`. sure: ask it of the lower end of its 95 % interval.
    """

    given: Mapping[str, float] = field(default_factory=dict)
    precision: float | None = None
    table: PrecisionTable = field(default_factory=dict)
    sure: bool = False


def parse_thresholds(texts: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Thresholds of `0.5` (all labels, "") and `owl=0.7`.

    Raises:
      UserError: no number in [0, 1], an unknown label (the nearest is named), or one named twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        require(0 <= number <= 1, f"--threshold {text!r} has no number from 0 to 1; give 0.5, or LABEL=0.5")
        label = known_labels([name], labels)[0] if name else ""
        require(label not in found, f"--threshold gives {f'label {label!r}' if label else 'all labels'} twice")
        found[label] = number
    return found


def choose(labels: Sequence[str], wanted: WantedThresholds, detector: Detector) -> dict[str, Threshold]:
    """The threshold of each label.

    Raises:
      UserError: a precision that is no share, one beside a threshold for all labels, or a threshold of another label.
    """
    if strangers := [label for label in wanted.given if label and label not in labels]:
        raise UserError(
            f"--threshold names {one_line(strangers[0])}, which is none of the labels to look for; add it to --labels"
        )
    if wanted.precision is not None and "" in wanted.given:
        raise UserError("--threshold for all labels and --precision are both given; give one, or --threshold LABEL=X for some")
    return {label: _choose(label, wanted, detector) for label in labels}


def _choose(label: str, wanted: WantedThresholds, detector: Detector) -> Threshold:
    for name in (label, ""):
        if name in wanted.given:
            return Threshold(wanted.given[name], "--threshold")
    if wanted.precision is not None and label in wanted.table:
        share = f"{'surely ' if wanted.sure else ''}{wanted.precision:g}"
        return Threshold(threshold_for(wanted.table[label], wanted.precision, sure=wanted.sure), f"precision {share}")
    if label in detector.thresholds:
        return Threshold(detector.thresholds[label], detector.thresholds_from)
    return Threshold(DEFAULT, "default")


def threshold_lines(thresholds: Mapping[str, Threshold], wanted: WantedThresholds) -> list[str]:
    """What is printed: thresholds by origin, labels that are never found, and those of which nothing is known."""
    lines = []

    def names(labels: list[str]) -> str:
        return some([one_line(label) for label in labels])

    for origin in dict.fromkeys(found.origin for found in thresholds.values()):
        own = {label: found.value for label, found in thresholds.items() if found.origin == origin}
        reached = {label: value for label, value in own.items() if value is not None}
        shared = set(reached.values())
        if len(shared) == 1 and len(reached) > 1:
            lines.append(f"threshold of {len(reached)} labels: {shared.pop():.4g} ({origin})")
        elif reached:
            shown = some([f"{one_line(label)}={value:.4g}" for label, value in reached.items()])
            lines.append(f"thresholds: {shown} ({origin})")
        if never := [label for label, value in own.items() if value is None]:
            lines.append(f"warning: no threshold reaches the goal of {names(never)} ({origin}): no detections of these")
    if any(found.origin == "default" for found in thresholds.values()):
        lines.append(f"no threshold is known where it is {DEFAULT} by default; give --threshold or --precision-table")
    if wanted.precision is not None and (missing := [label for label in thresholds if label not in wanted.table]):
        lines.append(f"warning: the table of precision lacks {names(missing)}; their thresholds are those above")
    return lines


def one_line(label: str) -> str:
    """The label without line breaks, for messages."""
    return " ".join(label.split())


def known_labels(given: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels that are meant, each once; identifiers of AudioSet mean their names.

    Raises:
      UserError: one that the detector lacks; the nearest is named.
    """
    vocabulary = LabelVocabulary(tuple(labels))
    meant = [name if name in labels else readable_names([name])[0] for name in given]
    return list(dict.fromkeys(labels[vocabulary.index(name)] for name in meant))


def read_species_list(path: Path) -> list[str]:
    """Labels of a text file, one a line. Raises `UserError` where it cannot be read or is empty."""
    lines = read_text(path, remedy="give a text file with one label a line").split("\n")
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f"{path} names no label; write one a line")
    return found
