"""A run with labels on prepared recordings: train or resume, export the classifier, measure it, write the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from beats_jax.config import Experiment
from beats_jax.datasets.manifest import Manifest
from beats_jax.evaluation.metrics.operating_point import OperatingPoint
from beats_jax.objectives.state.state import with_parameters
from beats_jax.parallel.exchange import call_on_main, main_first
from beats_jax.pipelines.measuring.measure import Measured, groupings, measure, operating_point, write_operating_point
from beats_jax.pipelines.measuring.prediction import RowPredictions, cross_entropy
from beats_jax.pipelines.measuring.write import read_history, write_results
from beats_jax.pipelines.training.preparation import DATA_REPORT_FILE, LABELS_FILE, PreparedData, require_splits
from beats_jax.pipelines.training.run import VALIDATION_METRICS, Run
from beats_jax.pipelines.training.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.training.statistics import with_statistics
from beats_jax.pipelines.training.synthetic import synthetic_of
from beats_jax.pipelines.training.workdir import write_text
from beats_jax.training.loop import FitResult

PREFIXES = {"last": "last_epoch", "best": "selected"}  # value of training.select → prefix of its figures in metrics.json


def train_and_measure(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> Measured:
    """One training run on prepared data and its measurement on the test rows (on the validation rows where there is no test)."""
    require_splits(data.manifest, experiment.training)
    call_on_main(lambda: write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n"))
    call_on_main(lambda: write_text(workdir / LABELS_FILE, data.vocabulary.to_json() + "\n"))
    groupings(
        experiment.evaluation.class_groups, data.vocabulary.names
    )  # a mistake in them ends the run before hours of training
    experiment = with_statistics(experiment, data, workdir)
    start = main_first(lambda: starting_point(experiment.model, experiment.audio, data.vocabulary.names))
    run = ClassifierRun(replace(experiment, model=start.model), workdir, data)
    run.add_synthetic()
    validation = data.manifest.split("val")
    weights, fitted = run.train(start, run.evaluation_of(validation) if len(validation) else None)
    selected = run.objective.export_params(weights[experiment.training.select])
    run.save_model(selected, data.vocabulary.names, start, fitted)
    measured = run.measure_weights(weights, fitted)
    write_results(workdir, experiment, data, measured, command=command, history=read_history(workdir))
    return measured


class ClassifierRun(Run):
    """A run that ends in a classifier."""

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        super().__init__(experiment, workdir, data)
        self._predict = jax.jit(self.objective.predict)

    def add_synthetic(self) -> None:
        """Adds the synthetic examples of a study to training, where the settings ask for them and its gate allows them."""
        found, why = synthetic_of(self.experiment, self.data, self.workdir)
        if why:
            print(why, flush=True)
        if found is not None:
            frontend = replace(self.objective.frontend, synthetic=found)
            self.objective = replace(self.objective, frontend=frontend)

    def begin(self, state: Any, start: StartingPoint) -> Any:
        """The random state with the parameters of the checkpoint, if there is one."""
        return state if start.params is None else with_parameters(state, start.params)

    def predict(self, weights: Any, rows: Manifest) -> RowPredictions:
        """The predictions of these weights for every row."""
        return self.predict_rows(self._predict, weights, rows)

    def measure_weights(self, weights: Mapping[str, Any], fitted: FitResult) -> Measured:
        """Measures the selected weights on the test rows, or on the validation rows where there is no test.

        With both, validation rows decide temperature and thresholds, and metrics.json has the figures of the last weights and of
        those that validation chose, so that nobody chooses by test rows.
        """
        select, test, val = self.experiment.training.select, self.data.manifest.split("test"), self.data.manifest.split("val")
        name = self.experiment.name
        if not len(test):
            return self._measure(weights[select], val, f"{name}: validation recordings", None)
        title = f"{name}: test recordings"
        if not len(val):
            return self._measure(weights[select], test, title, None)
        found = self.predict(weights[select], val)
        probabilities = found.probabilities(self.experiment.data.multi_label)
        point = operating_point(self.experiment, val.take(found.rows), self.data.vocabulary, probabilities)
        call_on_main(lambda: write_operating_point(self.workdir, point))
        measured = self._measure(weights[select], test, title, point)
        other = "best" if select == "last" else "last"
        same = fitted.best_step == fitted.steps
        both = {select: measured, other: measured if same else self._measure(weights[other], test, title, None)}
        return replace(measured, metrics={**measured.metrics, **_figures_of_both(both, fitted)})

    def _measure(self, weights: Any, rows: Manifest, title: str, point: OperatingPoint | None) -> Measured:
        found = self.predict(weights, rows)
        self.note_errors(found.errors)
        probabilities = found.probabilities(self.experiment.data.multi_label)
        return measure(self.experiment, rows.take(found.rows), self.data.vocabulary, probabilities, title, point, found.peaks)

    def evaluation_of(self, rows: Manifest) -> Callable[[Any, int], dict[str, float]]:
        """The loop's evaluation on validation rows: loss and `VALIDATION_METRICS`, without intervals."""

        def evaluate(weights: Any, step: int) -> dict[str, float]:
            predictions = self.predict(weights, rows)
            self.note_errors(predictions.errors)
            labels, metrics = self.score(predictions, rows)
            return {"loss": cross_entropy(labels, predictions.logits, self.experiment.data.multi_label), **metrics}

        return evaluate


def _figures_of_both(measured: Mapping[str, Measured], fitted: FitResult) -> dict[str, Any]:
    """The figures of the last weights and of the best ones, side by side."""
    figures: dict[str, Any] = {"last_epoch_step": fitted.steps, "selected_step": fitted.best_step}
    names = {"last": "last epoch", "best": f"chosen on validation (step {fitted.best_step})"}
    for select, prefix in PREFIXES.items():
        metrics = measured[select].metrics
        print(f"{names[select]}: test accuracy {metrics['accuracy']:.3f}", flush=True)
        keys = [f"{name}{end}" for name in VALIDATION_METRICS for end in ("", "_low", "_high")]
        figures |= {f"{prefix}_{key}": metrics[key] for key in keys}
    return figures
