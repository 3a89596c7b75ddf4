"""Monitors a run without labels: every evaluation embeds the same clips and, where they have labels, fits a linear probe.

The clips are held-out recordings, or the labelled ones of `evaluation.probe_data`, which also show when an encoder forgets what
it could do. WORKDIR/watch/ keeps the embeddings before the first step and a two-dimensional picture of every evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment, TokenizerConfig
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.health import Points, drift, effective_rank, principal_points, spread
from beats_jax.evaluation.metrics.classification import compute_metrics
from beats_jax.evaluation.probes.kinds import usable_settings
from beats_jax.evaluation.probes.nested import EmbeddingProbe, study
from beats_jax.files import whole_file
from beats_jax.inference.files import probabilities
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.program import Architecture, ModelProgram, Outputs
from beats_jax.inference.reduce import Pooled
from beats_jax.models import registry
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.measuring.evaluate import data_of
from beats_jax.pipelines.probing.folds import plan_folds, targets_of
from beats_jax.pipelines.training.preparation import PreparedData
from beats_jax.pipelines.training.workdir import read_json, write_json

FOLDER = "watch"
START_FIGURES, START_EMBEDDINGS = "start.json", "start.npy"
SHOWN = 4  # pictures in the report
LEAST_CLIPS = 8  # rank and drift of fewer are noise
KIND = "logistic"


class EncoderWatch:
    """Figures of an encoder on fixed clips; `folder` keeps its embeddings, `probe` holds the labelled clips, if any."""

    def __init__(self, experiment: Experiment, mesh: jax.sharding.Mesh, data: PreparedData, workdir: Path) -> None:
        self.folder = workdir / FOLDER
        self._experiment, self._mesh = experiment, mesh
        self._errors = data.errors
        self.probe = _Probe(experiment, data) if experiment.evaluation.probe_data else None
        held_out = _some(data.manifest.split("val"), experiment.evaluation.watch_clips)
        self._rows, self._data = (self.probe.rows, self.probe.data) if self.probe else (held_out, experiment.data)
        model = replace(experiment.model, predictor_class=0, checkpoint="")
        precision, attention = experiment.training.precision, experiment.training.attention
        self._architecture = Architecture(model, experiment.audio, precision, registry.form_for(model, attention, precision))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the figures."""
        return ("feature_rank", "feature_spread", "drift", *((self.probe.figure,) if self.probe else ()))

    def begin(self, weights: Any) -> None:
        """Measures the encoder before the first step; later figures are compared with it."""
        embeddings = self._embed(weights)

        def keep_start() -> None:
            self.folder.mkdir(exist_ok=True)
            with whole_file(self.folder / START_EMBEDDINGS) as file:
                np.save(file, embeddings)

        call_on_main(keep_start)
        figures = {name: value for name, value in self._figures(embeddings, 0).items() if name != "drift"}
        call_on_main(lambda: write_json(self.folder / START_FIGURES, figures))

    def __call__(self, weights: Any, step: int) -> dict[str, float]:
        """`feature_rank`, `feature_spread`, `drift` (see `embedding_health`) and `probe_accuracy` or `probe_mAP`."""
        return self._figures(self._embed(weights), step)

    def _figures(self, embeddings: np.ndarray, step: int) -> dict[str, float]:
        start = np.load(self.folder / START_EMBEDDINGS)
        if start.shape != embeddings.shape:
            raise UserError(
                f"{self.folder / START_EMBEDDINGS} holds {len(start)} clips, {len(embeddings)} can be read now: the recordings "
                "have changed since the run began; start anew in another --workdir"
            )
        points = principal_points(embeddings)
        call_on_main(lambda: self._keep_points(points, step))
        figures = {
            "feature_rank": effective_rank(embeddings),
            "feature_spread": spread(embeddings),
            "drift": drift(start, embeddings),
        }
        return figures if self.probe is None else {**figures, self.probe.figure: self.probe.measure(embeddings)}

    def _keep_points(self, points: Points, step: int) -> None:
        with whole_file(self.folder / f"{step:08d}.npz") as file:
            np.savez(file, **points._asdict(), groups=self._groups())

    def _groups(self) -> np.ndarray:
        """The colours of the picture: the label of a clip, else its folder."""
        rows = self._rows
        if self.probe:
            return np.array([" ".join(rows.labels[row]) for row in range(len(rows))], dtype=np.str_)
        return np.array([Path(str(file)).parent.name for file in rows.files.tolist()], dtype=np.str_)

    def _embed(self, weights: Any) -> np.ndarray:
        """float32 [N, D]; a row that cannot be read is zeros and listed in errors.csv."""
        program = ModelProgram(self._architecture, weights["model"], Outputs(("mean",)))
        data, audio = self._data, self._experiment.audio
        reading = {"batch_size": self._experiment.data.batch_size, "threads": max(1, data.num_workers), "mesh": self._mesh}
        found = answer_rows(program, self._rows, evaluation_grid(data, audio), Pooled(("mean",)), shared=True, **reading)
        embeddings = np.zeros((len(self._rows), registry.family(self._architecture.config).num_features), np.float32)
        for row in found:
            if row.error is not None:
                self._errors.add(row.error.path, row.error.reason)
            if row.value is not None:
                embeddings[row.row] = row.value[0, 0]
        return embeddings


def watch_of(experiment: Experiment, mesh: jax.sharding.Mesh, data: PreparedData, workdir: Path) -> EncoderWatch | None:
    """The watch of a run; None for a tokenizer, and where fewer than `LEAST_CLIPS` are held out.

    Raises:
      UserError: `evaluation.probe_data` cannot be used.
    """
    labelled = bool(experiment.evaluation.probe_data)
    if isinstance(experiment.model, TokenizerConfig):
        if labelled:
            raise UserError("evaluation.probe_data is for encoders; a tokenizer has no embedding to probe")
        return None
    few = min(len(data.manifest.split("val")), experiment.evaluation.watch_clips) < LEAST_CLIPS
    return None if few and not labelled else EncoderWatch(experiment, mesh, data, workdir)


def start_row(workdir: Path) -> list[dict[str, Any]]:
    """The figures before the first step, as a row of `measuring.write.read_history`; none where nothing was watched."""
    path = workdir / FOLDER / START_FIGURES
    found: Mapping[str, float] = read_json(path) if path.is_file() else {}
    return [{"step": 0, **{f"val/{name}": value for name, value in found.items()}}] if found else []


def read_points(workdir: Path) -> list[tuple[int, Points, np.ndarray]]:
    """(step, places, groups) of at most `SHOWN` evaluations, with the first and the last."""
    files = sorted((workdir / FOLDER).glob("*.npz"))
    chosen = sorted({round(i * (len(files) - 1) / (SHOWN - 1)) for i in range(SHOWN)}) if files else []
    found = []
    for place in chosen:
        with np.load(files[place]) as kept:
            found.append((int(files[place].stem), Points(kept["places"], kept["explained"]), kept["groups"]))
    return found


class _Probe:
    """Labelled clips, their folds, and a linear probe of their embeddings."""

    def __init__(self, experiment: Experiment, data: PreparedData) -> None:
        place = Path(experiment.evaluation.probe_data).expanduser()
        settings = replace(data_of(place, experiment.data), draw="rows", classes=(), fold="")
        manifest = load_manifest(settings, workdir=Path())
        counts = {len(manifest.labels[row]) for row in range(len(manifest))}
        self.multi_label = counts != {1}
        settings = replace(settings, multi_label=self.multi_label)
        self.rows = validate(manifest, settings, experiment.audio, error_log=data.errors, min_classes=2).manifest
        self.data = settings
        self._plan = plan_folds(self.rows, 5, experiment.training.seed)
        self._names = LabelVocabulary.from_manifest(self.rows)
        self._targets = targets_of(self.rows, self._names, self.multi_label)
        self.figure = "probe_mAP" if self.multi_label else "probe_accuracy"

    def measure(self, embeddings: np.ndarray) -> float:
        """Accuracy or mAP of a logistic probe over all tested rows; the other folds choose its regularisation."""
        settings = usable_settings(KIND, len(embeddings))
        probe = EmbeddingProbe(KIND, settings, embeddings[None], self._targets, self.multi_label)
        logits = study({KIND: probe}, self._plan.codes, len(self._names)).logits
        tested = np.isfinite(logits).all(axis=1)
        labels = self._targets[tested] if self.multi_label else self._targets[tested].argmax(axis=1)
        found = compute_metrics(labels, probabilities(logits[tested], self.multi_label), multi_label=self.multi_label)
        return float(found[self.figure.removeprefix("probe_")])


def _some(rows: Manifest, count: int) -> Manifest:
    """`count` rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))
