"""One training run on prepared recordings: train (or go on training), export the model, measure it, write the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from beats_jax.config import Experiment
from beats_jax.datasets.manifest import Manifest
from beats_jax.evaluation.metrics.classification import compute_metrics
from beats_jax.evaluation.metrics.operating_point import OperatingPoint
from beats_jax.objectives.state.state import with_parameters
from beats_jax.parallel.exchange import call_on_main, fetch, main_first
from beats_jax.pipelines.measuring.measure import Measured, groupings, measure, operating_point, write_operating_point
from beats_jax.pipelines.measuring.prediction import RowPredictions, cross_entropy, encode_labels
from beats_jax.pipelines.measuring.write import read_history, write_results
from beats_jax.pipelines.training.preparation import DATA_REPORT_FILE, LABELS_FILE, PreparedData, require_splits
from beats_jax.pipelines.training.run import Run, reported_step
from beats_jax.pipelines.training.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.training.statistics import with_statistics
from beats_jax.pipelines.training.workdir import write_text
from beats_jax.training.loop import FitResult
from beats_jax.weights.bundle import Bundle, Reading, save_bundle

WAYS = ("last_epoch", "selected")  # of choosing the weights: keys of metrics.json begin with these where both were measured
VALIDATION_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")  # what the loop evaluates; training.monitor may name any, or loss


def train_and_measure(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> Measured:
    """One training run on prepared data and its measurement on the test rows (on the validation rows where there is no test)."""
    require_splits(data.manifest, experiment.training)
    call_on_main(lambda: write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n"))
    call_on_main(lambda: write_text(workdir / LABELS_FILE, data.vocabulary.to_json() + "\n"))
    groupings(experiment.evaluation.class_groups, data.vocabulary.names)  # a mistake in them is told before hours of training
    experiment = with_statistics(experiment, data, workdir)
    start = main_first(lambda: starting_point(experiment.model, experiment.audio, data.vocabulary.names))
    run = _Run(replace(experiment, model=start.model), workdir, data)
    validation = data.manifest.split("val")
    weights, fitted = run.train(start, run.evaluation_of(validation) if len(validation) else None)
    chosen, data_config = weights[experiment.training.select], experiment.data
    trained = Bundle(
        fetch(run.objective.export_params(chosen)),
        start.model,
        experiment.audio,
        data.vocabulary.names,
        experiment.data.multi_label,
        f"beats_jax experiment {experiment.name}, step {reported_step(experiment, fitted)}",
        licence=start.licence,
        reading=Reading(data_config.heard_seconds, data_config.hop_seconds, data_config.trim_below_dbfs),
        seen=data.seen,
    )
    call_on_main(lambda: save_bundle(workdir / "model", trained))
    measured = run.measure_weights(weights, fitted)
    write_results(workdir, experiment, data, measured, command=command, history=read_history(workdir))
    return measured


def _both_figures(measured: Mapping[str, Measured], fitted: FitResult) -> dict[str, Any]:
    """The figures of the last weights and of those that validation chose, side by side; never chosen by test rows."""
    figures: dict[str, Any] = {"last_epoch_step": fitted.steps, "selected_step": fitted.best_step}
    for select, way in (("last", "last epoch"), ("best", f"chosen on validation (step {fitted.best_step})")):
        print(f"{way}: test accuracy {measured[select].metrics['accuracy']:.3f}", flush=True)
    for select, way in zip(("last", "best"), WAYS, strict=True):
        for name in VALIDATION_METRICS:
            keys = (name, f"{name}_low", f"{name}_high")
            figures |= {f"{way}_{key}": measured[select].metrics[key] for key in keys}
    return figures


class _Run(Run):
    """A run that ends in a classifier: with prediction."""

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        super().__init__(experiment, workdir, data)
        self._predict = jax.jit(self.objective.predict)

    def begin(self, state: Any, start: StartingPoint) -> Any:
        """With the parameters of the checkpoint, if there is one."""
        return state if start.params is None else with_parameters(state, start.params)

    def predict(self, weights: Any, rows: Manifest) -> RowPredictions:
        """What the model with these weights predicts for every row."""
        return self.predict_rows(self._predict, weights, rows, len(self.data.vocabulary))

    def measure_weights(self, weights: Mapping[str, Any], fitted: FitResult) -> Measured:
        """What the chosen weights do on the test rows, or on the validation rows where there is no test.

        With both, validation rows decide temperature and thresholds, and the figures of the other weights stand beside.
        """
        select, test, val = self.experiment.training.select, self.data.manifest.split("test"), self.data.manifest.split("val")
        name = self.experiment.name
        if not len(test):
            return self._measure(weights[select], val, f"{name}: validation recordings", None)
        title = f"{name}: test recordings"
        if not len(val):
            return self._measure(weights[select], test, title, None)
        heard = self.predict(weights[select], val)
        probabilities = heard.probabilities(self.experiment.data.multi_label)
        point = operating_point(self.experiment, val.take(heard.rows), self.data.vocabulary, probabilities)
        call_on_main(lambda: write_operating_point(self.workdir, point))
        measured = self._measure(weights[select], test, title, point)
        other = "best" if select == "last" else "last"
        same = fitted.best_step == fitted.steps
        both = {select: measured, other: measured if same else self._measure(weights[other], test, title, None)}
        return replace(measured, metrics={**measured.metrics, **_both_figures(both, fitted)})

    def _measure(self, weights: Any, rows: Manifest, title: str, point: OperatingPoint | None) -> Measured:
        """The predictions of `rows` with what they are worth."""
        found = self.predict(weights, rows)
        self.note_errors(found.errors)
        probabilities = found.probabilities(self.experiment.data.multi_label)
        return measure(self.experiment, rows.take(found.rows), self.data.vocabulary, probabilities, title, point, found.peaks)

    def evaluation_of(self, rows: Manifest) -> Callable[[Any, int], dict[str, float]]:
        """The loop's evaluation on validation rows: loss and `VALIDATION_METRICS`, without intervals."""
        experiment, multi_label = self.experiment, self.experiment.data.multi_label

        def evaluate(weights: Any, step: int) -> dict[str, float]:
            predictions = self.predict(weights, rows)
            self.note_errors(predictions.errors)
            labels = encode_labels(rows, self.data.vocabulary, predictions.rows, multi_label)
            probabilities = predictions.probabilities(multi_label)
            metrics = compute_metrics(labels, probabilities, multi_label=multi_label, threshold=experiment.evaluation.threshold)
            shown = {name: metrics[name] for name in VALIDATION_METRICS}
            return {"loss": cross_entropy(labels, predictions.logits, multi_label), **shown}

        return evaluate
