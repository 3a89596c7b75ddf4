"""A run without labels on prepared recordings: train or resume, export the encoder, write the report."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.loader import Batch
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.roles import LABELED
from beats_jax.errors import UserError
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.page import write_page
from beats_jax.evaluation.report.pretraining import History, last_figures, pretraining_page
from beats_jax.inference.job import window_values
from beats_jax.inference.program import ObjectiveProgram
from beats_jax.parallel.exchange import call_on_main, gather_values, main_first
from beats_jax.parallel.mesh import put_batch
from beats_jax.pipelines.job import merge_errors
from beats_jax.pipelines.measuring.write import REPORT_FILE, data_facts, read_history, versions
from beats_jax.pipelines.training.preparation import DATA_REPORT_FILE, PreparedData
from beats_jax.pipelines.training.run import VALIDATION_METRICS, Run, without_codebook
from beats_jax.pipelines.training.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.training.watch import read_points, start_row, watch_of
from beats_jax.pipelines.training.workdir import METRICS_FILE, write_text
from beats_jax.training.loop import Evaluate, FitResult
from beats_jax.training.writers import read_rows

SILENT_BATCHES = 20  # in a row without a usable window: there is nothing to learn from


def require_monitor(experiment: Experiment) -> None:
    """Raises `UserError`, before anything is read or written, where a run without labels monitors a figure of labels.

    What else an evaluation gives depends on the objective and on the recordings: `EncoderRun.begin` checks it.
    """
    objective, data, monitor = experiment.objective, experiment.data, experiment.training.monitor
    labels = objective.NEEDS_LABELS or LABELED in objective.roles
    share = data.fold_val_split if data.fold else data.val_split
    evaluated = share > 0 or experiment.evaluation.probe_data
    if monitor in VALIDATION_METRICS and evaluated and not labels:
        raise UserError(f"training.monitor is {monitor!r}, which needs labels; objective {objective.name} has none: use 'loss'")


def pretrain(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> dict[str, Any]:
    """Trains without labels; leaves model/ (`beats_jax.load` opens it, fine-tuning starts from it), metrics.json and report.html.

    Returns:
      what metrics.json holds: `steps`, `train_<name>` and `validation_<name>` for every figure, `clips_per_second`.
    """
    call_on_main(lambda: write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n"))
    labels = data.vocabulary.names if LABELED in experiment.objective.roles else ()
    start = main_first(lambda: starting_point(experiment.model, experiment.audio, labels))
    run = EncoderRun(replace(experiment, model=start.model), workdir, data)
    validation = data.manifest.split("val")
    weights, fitted = run.train(start, run.evaluation_of(validation) if len(validation) or run.watches else None)
    run.save_model(weights[experiment.training.select]["model"], labels, start, fitted)
    merge_errors(data.errors)
    return call_on_main(lambda: _write_results(workdir, experiment, data, fitted, command=command))


class EncoderRun(Run):
    """A run that ends in an encoder."""

    group = "model"

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        super().__init__(experiment, workdir, data)
        self._evaluate = jax.jit(self.objective.evaluate)
        self._watch = watch_of(experiment, self.mesh, data, workdir)
        if self.vocabulary is not None:
            self._predict = jax.jit(self.objective.predict)

    @property
    def watches(self) -> bool:
        """Whether evaluations have clips to embed besides held-out recordings."""
        return self._watch is not None

    def constants(self) -> tuple[str, ...]:
        """See `without_codebook`."""
        return without_codebook(super().constants())

    def begin(self, state: Any, start: StartingPoint) -> Any:
        """As the objective begins, from a checkpoint and the first batches.

        Raises:
          UserError: `training.monitor` is not among the figures of an evaluation; before the first step.
        """
        with closing(self._device_batches()) as stream, jax.set_mesh(self.mesh):
            first = next(stream)
            evaluated = self.watches or len(self.data.manifest.split("val"))
            if evaluated and self.vocabulary is None:  # labels add figures, which the loop checks
                figures = jax.eval_shape(self.objective.evaluate, state.weights, first)
                _require_figure(self.experiment.training.monitor, (*figures, *(self._watch.names if self._watch else ())))
            state = self.objective.begin(state, start.params, lambda: itertools.chain([first], stream))
        if self._watch is not None:
            self._watch.begin(state.weights)
        return state

    def batches(self, start_step: int) -> Generator[Batch, None, None]:
        """The training batches; raises `UserError` when there is nothing but silence in them."""
        silent = 0
        with closing(super().batches(start_step)) as stream:
            for batch in stream:
                silent = 0 if batch.arrays["example_mask"].any() else silent + 1
                if silent == SILENT_BATCHES:
                    level = self.experiment.data.reject_below_dbfs
                    raise UserError(
                        f"{SILENT_BATCHES} batches in a row hold no usable window: the {len(self.train_rows)} recordings seem "
                        f"unreadable or quieter than data.reject_below_dbfs {level:g}; lower it"
                    )
                yield batch

    def evaluation_of(self, rows: Manifest) -> Evaluate:
        """The loop's evaluation on recordings that are held out, and of a joint run's labels among them."""

        def evaluate(weights: Any, step: int) -> dict[str, float]:
            sums: dict[str, np.ndarray] = {}
            program = ObjectiveProgram(self._evaluate, weights, self.experiment.audio)
            window = self.grid.window_samples(self.experiment.audio.sample_rate)
            for found in window_values(program, rows, self.grid, samples=window, shared=True, **self.reading):
                self.note_errors(tuple(error for _, error in found.errors))
                for name, pair in found.values.items():
                    sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, np.float64)
            totals: dict[str, np.ndarray] = {}
            for own in gather_values(sums):
                totals |= {name: totals.get(name, np.zeros(2)) + pair for name, pair in own.items()}
            values: dict[str, float] = {name: float(total / count) for name, (total, count) in totals.items() if count > 0}
            watched = {} if self._watch is None else self._watch(weights, step)
            return values | self._label_figures(weights, rows) | watched

        return evaluate

    def _label_figures(self, weights: Any, rows: Manifest) -> dict[str, float]:
        """`VALIDATION_METRICS` on the rows with labels; none where the objective learns no labels, or none is held out."""
        labelled = rows.take(np.flatnonzero(rows.labels.per_row > 0))
        if self.vocabulary is None or not len(labelled):
            return {}
        _, found = self.score(self.predict_rows(self._predict, weights, labelled), labelled)
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _device_batches(self) -> Generator[Any, None, None]:
        with closing(self.batches(0)) as stream:
            for batch in stream:
                yield put_batch(self.mesh, batch.arrays)


def _require_figure(monitor: str, figures: Iterable[str]) -> None:
    figures = sorted(figures)
    if monitor not in figures:
        raise UserError(f"training.monitor is {monitor!r}; without labels it can be: {', '.join(figures)}")


def _write_results(
    workdir: Path, experiment: Experiment, data: PreparedData, fitted: FitResult, *, command: str
) -> dict[str, Any]:
    history, speed = start_row(workdir) + read_history(workdir), _clips_per_second(workdir)
    metrics: dict[str, Any] = {"steps": fitted.steps, "clips_per_second": speed, **last_figures(history)}
    facts = {
        "objective": experiment.objective.name,
        "steps": fitted.steps,
        "exported model": str(workdir / "model"),
        "clips per second": "not measured" if speed is None else f"{speed:.1f} (median)",
    }
    title = f"{experiment.name}: {experiment.objective.name}"
    write_encoder_results(workdir, experiment, data, title, facts, history, metrics, points=read_points(workdir), command=command)
    return metrics


def write_encoder_results(
    workdir: Path,
    experiment: Experiment,
    data: PreparedData,
    title: str,
    facts: Mapping[str, Any],
    history: History,
    metrics: Mapping[str, Any],
    *,
    findings: Sequence[str] = (),
    points: Any = (),
    command: str,
) -> None:
    """report.html and metrics.json of a run that ends in an encoder; prints what they begin with.

    Args:
      findings: sentences before those of the page. points: of the watched clips, `watch.read_points`.
    """
    errors = data.errors.rows()
    page = pretraining_page(
        title=title,
        history=history,
        facts=facts,
        data_summary=data_facts(data),
        settings=to_mapping(experiment),
        errors=errors,
        points=points,
        versions=versions(),
        command=command,
    )
    page = replace(page, findings=[*findings, *page.findings])
    write_page(workdir / REPORT_FILE, page)
    write_metrics(workdir / METRICS_FILE, metrics)
    print("\n".join(page.findings))
    if errors:
        print(f"{len(errors)} unusable files: {data.errors.path}")
    print(f"encoder: {workdir / 'model'}\nreport: {workdir / REPORT_FILE}", flush=True)


def _clips_per_second(workdir: Path) -> float | None:
    """Median over the training rows of the log; the first one, which holds the compilation, counts only where it is alone."""
    rows = [row for row in read_rows(workdir / "history.jsonl") if row["split"] == "train"]
    rates = [row["timing"]["clips_per_second"] for row in rows if "clips_per_second" in row.get("timing", {})]
    return statistics.median(rates[1:] or rates) if rates else None
