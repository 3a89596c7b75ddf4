"""One training run on prepared recordings: train (or go on training), export the model, measure it, write the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.loader import Batch, evaluation_batches, steps_per_epoch, training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics import compute_metrics
from beats_jax.models.registry import constants, depth_of, min_frames
from beats_jax.objectives import registry
from beats_jax.objectives.state import with_parameters
from beats_jax.pipelines.prediction import LogitsFunction, RowPredictions, cross_entropy, encoded_labels, predict_rows
from beats_jax.pipelines.preparation import DATA_REPORT_FILE, LABELS_FILE, PreparedData, require_splits
from beats_jax.pipelines.results import Measured, measure, read_history, write_results
from beats_jax.pipelines.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.workdir import write_text
from beats_jax.training import optimizer as optimizers
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitResult, Hooks, fit, fit_settings
from beats_jax.training.mesh import check_batch_size, make_mesh, put_batch, replicated
from beats_jax.training.writers import for_run
from beats_jax.weights.bundle import Bundle, save_bundle

VALIDATION_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")  # what the loop evaluates; training.monitor may name any, or loss


def train_and_measure(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> Measured:
    """One training run on prepared data and its measurement on the test rows (on the validation rows where there is no test)."""
    require_splits(data.manifest, experiment.training)
    write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n")
    write_text(workdir / LABELS_FILE, data.vocabulary.to_json() + "\n")
    start = starting_point(experiment.model, experiment.audio, data.vocabulary.names)
    print(start.note, flush=True)
    run = _Run(replace(experiment, model=start.model), workdir, data)
    weights, fitted = run.train(start)
    step = fitted.steps if experiment.training.select == "last" else fitted.best_step
    trained = Bundle(
        jax.device_get(weights),
        start.model,
        experiment.audio,
        data.vocabulary.names,
        experiment.data.multi_label,
        f"beats_jax experiment {experiment.name}, step {step}",
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


class _Run:
    """The parts of one run, put together once: mesh, optimizer, objective, prediction."""

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        training = experiment.training
        self.experiment, self.workdir, self.data = experiment, workdir, data
        require_a_patch(experiment)
        self.mesh = make_mesh(training.mesh_data, training.mesh_fsdp)
        check_batch_size(self.mesh, experiment.data.batch_size, training.accumulation_steps)
        self.train_rows = data.manifest.split("train")
        self.settings = fit_settings(training, steps_per_epoch(self.train_rows, experiment.data), to_mapping(experiment))
        learnt = replace(training, freeze=(*training.freeze, *constants(experiment.model)))
        self.optimizer = optimizers.build(learnt, self.settings.total_steps, depth_of(experiment.model))
        counts = data_counts(self.train_rows, data.vocabulary)
        self.objective = registry.build(experiment, data.vocabulary, self.optimizer, counts)
        self._predict = jax.jit(self.objective.predict, out_shardings=replicated(self.mesh))

    def train(self, start: StartingPoint) -> tuple[Any, FitResult]:
        """Trains to the end; returns the weights to report (see `training.select`) and how it went."""
        training = self.experiment.training
        schedule = optimizers.learning_rate(training, self.settings.total_steps)
        hooks = Hooks(
            start=lambda state: state if start.params is None else with_parameters(state, start.params),
            on_errors=self.note_errors,
            describe_rows=self.describe_rows,
            schedules={"learning_rate": schedule},
        )
        validation = self.data.manifest.split("val")
        with (
            Checkpoints(self.workdir / "checkpoints") as checkpoints,
            for_run(self.workdir, self.settings.total_steps) as writers,
        ):
            fitted = fit(
                self.objective,
                self.mesh,
                self.batches,
                self.evaluation_of(validation) if len(validation) else None,
                checkpoints,
                writers,
                self.settings,
                hooks,
            )
            if training.select == "best" and fitted.best_step not in (None, fitted.steps):
                return checkpoints.restore(fitted.best_step, fitted.state).state.weights, fitted
            return fitted.state.weights, fitted

    def batches(self, start_step: int) -> Iterator[Batch]:
        """The training batches from `start_step` on."""
        experiment = self.experiment
        return training_batches(
            self.train_rows,
            self.data.vocabulary,
            experiment.data,
            experiment.audio,
            seed=experiment.training.seed,
            start_step=start_step,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
        )

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

    def note_errors(self, errors: tuple[Any, ...]) -> None:
        """Lists unusable files in the run's errors.csv (or stops, when the run is strict)."""
        for error in errors:
            self.data.errors.add(error.path, error.reason)

    def describe_rows(self, rows: np.ndarray) -> str:
        """The first files of a batch, by name."""
        names = [str(self.train_rows.files[row]) for row in rows[:8].tolist()]
        return ", ".join(names) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")


def require_a_patch(experiment: Experiment) -> None:
    """Raises `UserError` when a training window is shorter than the encoder's first patch."""
    settings = experiment.audio.filterbank
    samples = settings.frame_samples + (min_frames(experiment.model) - 1) * settings.hop_samples
    if round(experiment.data.window_seconds * settings.sample_rate) < samples:
        raise UserError(
            f"data.window_seconds is {experiment.data.window_seconds:g}; the model needs {samples / settings.sample_rate:g} s "
            f"at least (one patch of {min_frames(experiment.model)} frames)"
        )


def data_counts(manifest: Manifest, vocabulary: LabelVocabulary) -> np.ndarray:
    """int64 [C]: rows that have each class."""
    counts = manifest.labels.counts()
    return np.array([counts.get(name, 0) for name in vocabulary.names], np.int64)
