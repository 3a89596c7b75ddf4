"""An experiment from recordings to report: prepare, train (one run, or one per fold), measure, write."""

from __future__ import annotations

import sys
from pathlib import Path

from beats_jax.config import Experiment, GenerativeConfig, to_mapping
from beats_jax.errors import Preempted, UserError
from beats_jax.parallel.exchange import main_first, require_same
from beats_jax.pipelines.generating.run import generate
from beats_jax.pipelines.job import end_errors, require_same_rows
from beats_jax.pipelines.measuring.write import REPORT_FILE
from beats_jax.pipelines.training.cross_validation import cross_validate
from beats_jax.pipelines.training.few_shot import require_fit_for_new_classes, train_few_shot
from beats_jax.pipelines.training.preparation import prepare_data
from beats_jax.pipelines.training.pretraining import pretrain, require_monitor
from beats_jax.pipelines.training.starting_point import require_start
from beats_jax.pipelines.training.supervised import train_and_measure
from beats_jax.pipelines.training.workdir import hold_workdir, is_finished, open_workdir, require_same_run
from beats_jax.weights.pretrained import require_checkpoint


def run_experiment(experiment: Experiment, workdir: Path, *, strict: bool, command: str) -> int:
    """Runs an experiment in `workdir`, or resumes it; returns the exit status (0, or 128 + signal when stopped).

    Leaves metrics.json, predictions.csv, report.html, model/, errors.csv, data_report.json, labels.json, history.jsonl,
    tensorboard/ and checkpoints/; with `data.fold` "all" one such folder per fold, and the figures over all folds above them.
    An objective without labels ends in an encoder and leaves neither predictions.csv nor labels.json; a generative one in
    generator/ and sounds/.

    Raises:
      UserError: another process holds `workdir`; see `starting_point`, `workdir.require_same_run`, `preparation.prepare_data`.
    """
    if experiment.data.fold == "all" and not experiment.objective.NEEDS_LABELS:
        raise UserError(f"data.fold 'all' compares classifiers; objective {experiment.objective.name} takes one fold, or none")
    require_monitor(experiment)
    require_fit_for_new_classes(experiment)
    require_same("settings", to_mapping(experiment))
    if not isinstance(experiment.objective, GenerativeConfig):  # a generator has a network of its own, and no start
        require_start(experiment)
    require_same_run(workdir, experiment)
    if not is_finished(workdir):
        with hold_workdir(workdir):
            open_workdir(workdir, experiment)
            if not is_finished(workdir):  # another process may have finished it in between
                return _train(experiment, workdir, strict=strict, command=command)
    print(f"{workdir} holds this experiment, finished: {workdir / REPORT_FILE}")
    return 0


def _train(experiment: Experiment, workdir: Path, *, strict: bool, command: str) -> int:
    if not experiment.model.starts_at_random:  # a missing checkpoint ends the run before the recordings are read
        main_first(lambda: require_checkpoint(experiment.model.checkpoint))
    data = main_first(lambda: prepare_data(experiment, workdir, strict=strict))
    require_same("usable recordings", data.found)
    require_same_rows(data.manifest)
    print(data.report.summary(), flush=True)
    try:
        if isinstance(experiment.objective, GenerativeConfig):
            generate(experiment, workdir, data, command=command)
        elif not experiment.objective.NEEDS_LABELS:
            pretrain(experiment, workdir, data, command=command)
        elif experiment.data.split_by == "classes":
            train_few_shot(experiment, workdir, data, command=command)
        elif experiment.data.fold == "all":
            cross_validate(experiment, workdir, data, command=command)
        else:
            train_and_measure(experiment, workdir, data, command=command)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    end_errors(data.errors)
    return 0
