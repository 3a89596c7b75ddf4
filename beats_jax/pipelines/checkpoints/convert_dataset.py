"""Recordings from one form of data set to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from beats_jax.config import Experiment
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.tfds.writer import write_tfds
from beats_jax.datasets.validation import validate


def write_dataset(source: Path, output: Path, experiment: Experiment) -> list[str]:
    """Writes the usable recordings of a table or folder as the TFDS data set `output`/1.0.0, named as that folder.

    Args:
      source: whatever `sources.source_at` knows.
      experiment: its `data` and `audio` say how to read it; source, root and table are set from `source`.
    Returns:
      lines that say what was found, left out and written.
    Raises:
      UserError: nothing usable there, or as `write_tfds`.
    """
    kind = source_at(source)
    place = {"metadata_file": str(source)} if kind == "csv" else {"root": str(source)}
    data = replace(experiment.data, source=kind, **place)
    report = validate(load_manifest(data, workdir=output), data, experiment.audio, min_classes=1)
    folder = write_tfds(report.manifest, data, experiment.audio, output.parent, output.name)
    rows = (
        ", ".join(f"{split} {number}" for split, number in report.split_rows.items() if number) or f"train {len(report.manifest)}"
    )
    return [report.summary(), f"wrote {folder} (records: {rows}); read it with tfds.builder_from_directory or data.source=tfds"]
