"""The rows that a model was trained on: the record of a run's own rows, and the rows that a model knows already."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.report import some
from beats_jax.datasets.validation import content_hash
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE
from beats_jax.weights.seen import Seen, codes, seen_from_codes

TRAINED_KEY = "rows_seen_in_training"  # of metrics.json


def remember_run(manifest: Manifest, before: Seen | None) -> Seen:
    """The memory of a model that is trained on the `train` rows, chosen by the `val` rows, and began with the memory `before`.

    It holds a code of a recording's bytes and of the sound that it is a copy of. With `data.check` "header" rows have no hashes.
    """
    found = row_codes(manifest)
    return seen_from_codes(found[:, manifest.splits == "train"], found[:, manifest.splits == "val"]) | before


def row_codes(manifest: Manifest) -> np.ndarray:
    """uint64 [2, N] of `seen.codes`: of each row's bytes, and of the first copy of its sound; 0 = not known."""
    blank = text_column([""] * len(manifest))
    columns = [distinct(manifest.metadata.get(name, blank)) for name in ("file_hash", "content")]
    return np.stack([codes(hashes.tolist())[place] for hashes, place in columns])


def with_hashes(manifest: Manifest) -> Manifest:
    """The rows with their `file_hash`, "" where a file cannot be read; reads the bytes of every file."""
    files, place = np.unique(manifest.files, return_inverse=True)
    return manifest.with_metadata(file_hash=text_column([_hash(str(file)) for file in files])[place])


def _hash(file: str) -> str:
    try:
        return content_hash(file)
    except (AudioError, OSError):  # validation lists it
        return ""


def trained_on(seen: Seen, manifest: Manifest) -> np.ndarray:
    """bool [N]: rows that the weights were fitted to."""
    return np.asarray(np.isin(row_codes(manifest), seen.trained).any(axis=0))


def known_to(seen: Seen, manifest: Manifest) -> np.ndarray:
    """bool [N]: rows that the model was trained on or chosen by."""
    return trained_on(seen, manifest) | np.isin(row_codes(manifest), seen.chosen).any(axis=0)


def seen_figures(seen: Seen | None, manifest: Manifest) -> dict[str, int]:
    """`rows_seen_in_training` of the measured rows, for metrics.json; empty where it is not known."""
    if seen is None or not row_codes(manifest).any(axis=0).all():
        return {}
    return {TRAINED_KEY: int(trained_on(seen, manifest).sum())}


def seen_notes(model: str | Path, seen: Seen | None, rows: Manifest, what: str) -> list[str]:
    """A sentence on the rows that a model was trained on, or on a run without a record of them. what: such as "test rows"."""
    if seen is None:
        is_run = (Path(model) / EXPERIMENT_FILE).is_file()
        return [f"{model} has no record of what it was trained on, so {what} among it are not counted"] if is_run else []
    found = np.flatnonzero(trained_on(seen, rows))
    if not len(found):
        return []
    files = list(dict.fromkeys(rows.files[found].tolist()))
    return [
        f"{model} was trained on {len(found)} of the {len(rows)} {what}, so figures are better than they would be on new "
        f"recordings: {some(files)}"
    ]
