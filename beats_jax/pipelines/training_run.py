"""One training run on prepared recordings: train (or go on training), export the model, measure it, write the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment
from beats_jax.datasets.loader import evaluation_batches
from beats_jax.datasets.manifest import Manifest
from beats_jax.evaluation.metrics import compute_metrics
from beats_jax.objectives.state import with_parameters
from beats_jax.pipelines.prediction import LogitsFunction, RowPredictions, cross_entropy, encoded_labels, predict_rows
from beats_jax.pipelines.preparation import DATA_REPORT_FILE, LABELS_FILE, PreparedData
from beats_jax.pipelines.results import Measured, measure, read_history, write_results
from beats_jax.pipelines.run import Run, reported_step
from beats_jax.pipelines.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.workdir import write_text
from beats_jax.training.mesh import put_batch, replicated
from beats_jax.weights.bundle import Bundle, save_bundle

VALIDATION_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")  # what the loop evaluates; training.monitor may name any, or loss


def train_and_measure(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> Measured:
    """One training run on prepared data and its measurement on the test rows (on the validation rows where there is no test)."""
    write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n")
    write_text(workdir / LABELS_FILE, data.vocabulary.to_json() + "\n")
    start = starting_point(experiment.model, experiment.audio, data.vocabulary.names)
    print(start.note, flush=True)
    run = _Run(replace(experiment, model=start.model), workdir, data)
    validation = data.manifest.split("val")
    weights, fitted = run.train(start, run.evaluation_of(validation) if len(validation) else None)
    trained = Bundle(
        jax.device_get(run.objective.exported(weights)),
        start.model,
        experiment.audio,
        data.vocabulary.names,
        experiment.data.multi_label,
        f"beats_jax experiment {experiment.name}, step {reported_step(experiment, fitted)}",
        licence=start.licence,
    )
    save_bundle(workdir / "model", trained)
    split = "test" if len(data.manifest.split("test")) else "val"
    rows = data.manifest.split(split)
    predictions = run.predict(weights, rows)
    run.note_errors(predictions.errors)
    measured = measure(
        experiment,
        rows.take(predictions.rows),
        data.vocabulary,
        predictions.probabilities(experiment.data.multi_label),
        f"{experiment.name}: {'test' if split == 'test' else 'validation'} recordings",
    )
    write_results(workdir, experiment, data, measured, command=command, history=read_history(workdir))
    return measured


class _Run(Run):
    """A run that ends in a classifier: with prediction."""

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        super().__init__(experiment, workdir, data)
        self._predict = jax.jit(self.objective.predict, out_shardings=replicated(self.mesh))

    def begin(self, state: Any, start: StartingPoint) -> Any:
        """With the parameters of the checkpoint, if there is one."""
        return state if start.params is None else with_parameters(state, start.params)

    def logits_of(self, weights: Any) -> LogitsFunction:
        """The model with these weights, as a function of a batch's arrays."""

        def logits(arrays: dict[str, np.ndarray]) -> np.ndarray:
            with jax.set_mesh(self.mesh):  # without it every device would compute the whole batch's filterbank
                return np.asarray(self._predict(weights, put_batch(self.mesh, arrays))["logits"])

        return logits

    def predict(self, weights: Any, rows: Manifest) -> RowPredictions:
        """What the model with these weights says of every row."""
        vocabulary = self.data.vocabulary
        batches = evaluation_batches(rows, vocabulary, self.experiment.data, self.experiment.audio)
        return predict_rows(self.logits_of(weights), batches, len(rows), len(vocabulary))

    def evaluation_of(self, rows: Manifest) -> Callable[[Any, int], dict[str, float]]:
        """The loop's evaluation on validation rows: loss and `VALIDATION_METRICS`, without intervals."""
        experiment, multi_label = self.experiment, self.experiment.data.multi_label

        def evaluate(weights: Any, step: int) -> dict[str, float]:
            predictions = self.predict(weights, rows)
            self.note_errors(predictions.errors)
            labels = encoded_labels(rows, self.data.vocabulary, predictions.rows, multi_label)
            probabilities = predictions.probabilities(multi_label)
            metrics = compute_metrics(labels, probabilities, multi_label=multi_label, threshold=experiment.evaluation.threshold)
            shown = {name: metrics[name] for name in VALIDATION_METRICS}
            return {"loss": cross_entropy(labels, predictions.logits, multi_label), **shown}

        return evaluate
