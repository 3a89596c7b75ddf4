"""What MEC embeds and trains: any model over regions of recordings, and few-shot episodes of clusters by the training loop."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import experiment_from_mapping, to_mapping
from beats_jax.config.rules import require
from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.inference.job import answer_rows
from beats_jax.inference.reduce import Pooled
from beats_jax.inference.sources import WITHOUT_WEIGHTS, open_source
from beats_jax.inference.stream import Recordings
from beats_jax.pipelines.discovering.mec import Embed, Learn, Learning
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.weights.pretrained import read_checkpoint

MODEL_FOLDER = "model"  # of a run


@dataclass(frozen=True)
class Regions:
    """N stretches of recordings. files: texts [N]. starts, ends: float64 [N], seconds; NaN = start, end of the file."""

    files: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of_files(cls, files: Sequence[str | Path]) -> Regions:
        """Whole files."""
        return cls(np.array([str(file) for file in files], object), *np.full((2, len(files)), np.nan))


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder learns from clusters.

    Attributes:
      window_seconds: of training windows. steps: of an iteration. learning_rate: at its highest.
      n_way: clusters of an episode, all where there are fewer; 0 = all, as upstream. n_shot, n_query: rows of each.
      model: settings of the encoder that begins where the first model has no weights (`filterbank`, `modulation`).
      audio: front-end of that encoder. augment: of `objective.augment`. changed: any other settings of the experiment, by group.
      batch_size, threads: of embedding.
    """

    window_seconds: float = 1.5
    steps: int = 150
    learning_rate: float = 1e-3
    n_way: int = 8
    n_shot: int = 5
    n_query: int = 1
    seed: int = 0
    model: Mapping[str, Any] = field(default_factory=lambda: {"family": "cnn"})
    audio: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(
        default_factory=lambda: {"gain_db": 6.0, "roll": True, "time_masks": 1, "frequency_masks": 1}
    )
    changed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    batch_size: int | None = None
    threads: int = 2


def embedder(regions: Regions, settings: EncoderSettings | None = None) -> Embed:
    """Embeds the regions with a model (name, file, run): the mean of its last layer, or the vector of a name without weights.

    A region that cannot be read has a vector of NaN.
    """
    chosen = settings or EncoderSettings()

    def embed(model: str) -> np.ndarray:
        options: Mapping[str, Any] = {"logits": False, "dtype": "auto", "window": None, "hop": None}
        source, grid, _ = open_source(model, (-1,), ("mean",), **options)
        rows = Recordings(regions.files, regions.starts, regions.ends)
        place = {"batch_size": chosen.batch_size, "threads": chosen.threads}
        found = answer_rows(source.program, rows, grid, Pooled(source.poolings), **place)
        vectors = np.full((len(regions.files), source.widths["embedding"]), np.nan, np.float32)
        for row in found:
            if row.error is None and row.value is not None:
                vectors[row.row] = row.value[0].reshape(-1)
        return vectors

    return embed


def learner(regions: Regions, settings: EncoderSettings | None = None) -> Learn:
    """Trains by episodes on the regions that are in clusters; the run stands in `run/` of the iteration's folder."""
    chosen = settings or EncoderSettings()

    def learn(given: Learning) -> str:
        table, run = given.folder / "learnt.csv", given.folder / "run"
        rows = np.flatnonzero(given.labels >= 0)
        sizes = np.bincount(given.labels[rows])
        least = chosen.n_shot + chosen.n_query
        few = sizes < least
        enough = int((~few).sum())
        require(
            enough >= 2,
            f"{enough} clusters have {least} rows to learn, the n_shot + n_query of an episode; two are needed",
        )
        rows = rows[~few[given.labels[rows]]]
        _write_table(table, regions, rows, given.labels[rows])
        experiment = experiment_from_mapping(_experiment(chosen, table, given.model, enough))
        status = run_experiment(experiment, run, strict=False, command="discover")
        if status:
            raise UserError(f"training on clusters was stopped (status {status}); the same command goes on in {run}")
        return str(run / MODEL_FOLDER)

    return learn


def _write_table(path: Path, regions: Regions, rows: np.ndarray, labels: np.ndarray) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["filename", "start", "end", "label"])
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        times = ["" if np.isnan(time) else f"{time:.6f}" for time in (regions.starts[row], regions.ends[row])]
        table.writerow([str(Path(str(regions.files[row])).absolute()), *times, f"c{label + 1:03d}"])
    write_text(path, text.getvalue())


def _experiment(settings: EncoderSettings, table: Path, model: str, clusters: int) -> dict[str, Any]:
    """An experiment as nested settings; `settings.changed` has the last word."""
    start = None if model in WITHOUT_WEIGHTS else read_checkpoint(model)
    ways = min(settings.n_way or clusters, clusters)
    clips = ways * (settings.n_shot + settings.n_query)
    groups: dict[str, dict[str, Any]] = {
        "data": {
            "source": "csv",
            "metadata_file": str(table),
            "split_by": "classes",
            "train_split": 1.0,
            "val_split": 0.0,
            "test_split": 0.0,
            "window_seconds": settings.window_seconds,
            "statistics": "training" if start is None else "given",
            "check": "header",  # regions were decoded when they were embedded
        },
        "audio": dict(settings.audio) if start is None else to_mapping(start.audio),
        "model": _model(settings.model, "none") if start is None else _model({"family": start.model.family}, model),
        "objective": {
            "name": "episodic",
            "n_way": ways,
            "episodes_per_step": jax.device_count() // math.gcd(jax.device_count(), clips),  # clips divide over all devices
            "n_shot": settings.n_shot,
            "n_query": settings.n_query,
            "disjoint": False,  # the rows of a cluster may all be of one recording
            "augment": dict(settings.augment),
        },
        "training": {
            "max_steps": settings.steps,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
        },
    }
    for group, values in settings.changed.items():
        groups[group] = {**groups.get(group, {}), **values}
    return {"name": "mec", **groups}


def _model(settings: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    return {**settings, "checkpoint": checkpoint}
