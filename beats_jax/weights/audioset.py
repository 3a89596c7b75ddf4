"""Names of the AudioSet classes, whose published tags are identifiers such as `/m/09x0r` (Speech).

`class_labels_indices.csv` is the list that Google publishes with AudioSet (research.google.com/audioset, CC BY 4.0), unchanged.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from types import MappingProxyType


def readable_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The display name of every label that is an identifier of AudioSet; any other label unchanged. The order is kept."""
    return tuple(audioset_names().get(label, label) for label in labels)


@cache
def audioset_names() -> MappingProxyType[str, str]:
    """Identifier (MID) → display name of the 527 classes, in the order of AudioSet's own class indices."""
    text = (files("beats_jax.weights") / "class_labels_indices.csv").read_text(encoding="utf-8")
    return MappingProxyType({row["mid"]: row["display_name"] for row in csv.DictReader(text.splitlines())})
