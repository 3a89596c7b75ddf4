"""A finished run measured again: on its own test recordings, or on others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from beats_jax.audio.io import is_present
from beats_jax.config import DataConfig, Experiment
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.folds import with_folds
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.manifest_file import read_manifest
from beats_jax.datasets.report import ValidationReport
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.model import Model, load
from beats_jax.inference.program import Outputs
from beats_jax.json_files import read_json
from beats_jax.parallel.exchange import call_on_main, main_first
from beats_jax.pipelines.job import end_errors, open_errors, require_same_rows
from beats_jax.pipelines.measuring.measure import Measured, measure, read_operating_point
from beats_jax.pipelines.measuring.prediction import predict_rows
from beats_jax.pipelines.measuring.seen_rows import seen_notes, with_hashes
from beats_jax.pipelines.measuring.write import write_results
from beats_jax.pipelines.training.preparation import LABELS_FILE, UNRECORDED, PreparedData
from beats_jax.pipelines.training.recorded_rows import compare_rows, list_lost
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, read_experiment
from beats_jax.pipelines.training.workdir_lock import hold, others
from beats_jax.weights.pretrained import read_memory

LABELS_TABLE = "labels.csv"  # of a folder of recordings


def evaluate_run(run: Path, data_path: Path | None, output: Path, *, strict: bool, command: str, page: str = "html") -> Measured:
    """Writes metrics.json, predictions.csv, recordings.csv, the report and errors.csv for a run's model into `output`.

    Args:
      run: folder of a finished run.
      data_path: labelled recordings (see `data_of`); None = the test rows that the run recorded (validation rows where it has no
        test), without those whose recording has changed since.
      output: new or empty folder.
      page: html (report.html) | md (RESULTS.md).
    Raises:
      UserError: no finished run, one without labels, an `output` in use, data with labels that the run does not know.
    """
    experiment, vocabulary, model = main_first(lambda: _open_run(run))
    with new_folder(output):
        errors = main_first(lambda: open_errors(output, strict=strict))
        if data_path is not None:
            experiment = replace(experiment, data=data_of(data_path, experiment.data))
        rows_of = own_rows if data_path is None else _other_rows
        report = main_first(lambda: rows_of(run, experiment, errors))
        require_same_rows(report.manifest)
        for note in report.manifest.notes:
            print(f"warning: {note}", flush=True)
        data = PreparedData(report, vocabulary, errors, seen=read_memory(run))
        rows = report.manifest
        grid, reading = evaluation_grid(experiment.data, model.audio), {"batch_size": experiment.data.batch_size}
        reading["threads"] = max(1, experiment.data.num_workers)
        predictions = predict_rows(model.program(Outputs(logits=True)), rows, grid, len(vocabulary), **reading)
        for error in predictions.errors:
            errors.add(error.path, error.reason)
        probabilities = predictions.probabilities(experiment.data.multi_label)
        title = f"{experiment.name} on {'its own test recordings' if data_path is None else data_path}"
        point = read_operating_point(run, vocabulary)
        measured = measure(experiment, rows.take(predictions.rows), vocabulary, probabilities, title, point, predictions.peaks)
        write_results(output, experiment, data, measured, command=command, page=page)
        end_errors(errors)
        return measured


def _open_run(run: Path) -> tuple[Experiment, LabelVocabulary, Model]:
    """What a run has learnt, with which settings and classes."""
    experiment, vocabulary, model = _experiment_of(run), read_labels(run), load(run)
    if model.labels and tuple(model.labels) != vocabulary.names:
        raise UserError(f"{run / LABELS_FILE} names other classes than {run / 'model'}; restore it from a copy")
    return experiment, vocabulary, model


def own_rows(run: Path, experiment: Experiment, errors: ErrorLog) -> ValidationReport:
    """The rows that a run measures, as it recorded them; notes name files that are gone or changed. UserError if none is left."""
    recorded = read_manifest(run)
    if recorded is None:
        return _rows_dealt_anew(run, experiment, errors)
    if experiment.data.source == "synthetic":
        load_manifest(experiment.data, workdir=run)  # writes the recordings where they are missing
    wanted = _measured_rows(recorded)
    report = validate(wanted, experiment.data, experiment.audio, error_log=errors, min_classes=0)
    there = [is_present(file) for file in wanted.files.tolist()]
    changes = compare_rows(wanted, wanted.take(np.array(there, bool)), report.manifest, experiment.data)
    list_lost(changes, errors)
    kept = wanted.take(np.array([file not in changes.lost for file in wanted.files.tolist()], bool))
    if not len(kept):
        raise UserError(f"all {len(wanted)} rows that {run} measures have changed since it began; give --data to measure others")
    return replace(report.with_splits(recorded), manifest=kept.with_notes(*changes.notes))


def _rows_dealt_anew(run: Path, experiment: Experiment, errors: ErrorLog) -> ValidationReport:
    """The rows of a run that recorded none."""
    report = validate(
        load_manifest(experiment.data, workdir=run), experiment.data, experiment.audio, error_log=errors, min_classes=1
    )
    report = report.with_splits(assign_splits(with_folds(report.manifest, experiment.data), experiment.data))
    return replace(report, manifest=_measured_rows(report.manifest).with_notes(UNRECORDED))


def _other_rows(run: Path, experiment: Experiment, errors: ErrorLog) -> ValidationReport:
    """Other recordings, with a note on those that the run was trained on."""
    found = load_manifest(experiment.data, workdir=run)
    report = validate(found, experiment.data, experiment.audio, error_log=errors, min_classes=1)
    rows = with_hashes(report.manifest) if experiment.data.check == "header" else report.manifest
    return replace(report, manifest=rows.with_notes(*seen_notes(run, read_memory(run), rows, "rows")))


def _measured_rows(manifest: Manifest) -> Manifest:
    """The test rows, or the validation rows where there is no test."""
    test = manifest.split("test")
    return test if len(test) else manifest.split("val")


def read_labels(run: Path) -> LabelVocabulary:
    """The classes of a run. Raises `UserError` where labels.json is missing or damaged."""
    path = run / LABELS_FILE
    remedy = "restore it from a copy, or train the run again"
    names = read_json(path, {"names": [str]}, remedy=remedy)["names"]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path} is damaged ({'a name stands there twice' if names else 'it holds no names'}); {remedy}")
    return LabelVocabulary(tuple(names))


@contextmanager
def new_folder(output: Path) -> Iterator[None]:
    """Makes the folder of the results and holds it while the block runs; in a job of many processes the first one does.

    Raises:
      UserError: it exists and is not empty, it cannot be made, or another process holds it.
    """
    with ExitStack() as held:
        call_on_main(lambda: held.enter_context(_hold_folder(output)))
        yield


@contextmanager
def _hold_folder(output: Path) -> Iterator[None]:
    _require_empty(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output} cannot be made: {error.strerror}; --output takes a new or empty folder") from error
    with hold(output):
        _require_empty(output)  # another process may have filled it in between
        yield


def _require_empty(output: Path) -> None:
    if output.exists() and (not output.is_dir() or others(output)):
        raise UserError(f"{output} exists and is not empty; --output takes a new or empty folder")


def data_of(path: Path, data: DataConfig) -> DataConfig:
    """Settings for other recordings, whose source `sources.source_at` recognises; a CSV has the run's column names.

    A folder with labels.csv is that table.

    Raises:
      UserError: the path does not exist.
    """
    path = path / LABELS_TABLE if (path / LABELS_TABLE).is_file() else path
    plain = replace(data, root=str(path), fold="", num_folds=0, fold_by="", metadata_file="", tfds_name="", classes=())
    source = source_at(path)
    return replace(plain, source=source, **({"root": "", "metadata_file": str(path)} if path.is_file() else {}))


def _experiment_of(run: Path) -> Experiment:
    if not (run / EXPERIMENT_FILE).is_file():
        raise UserError(f"{run} holds no run ({EXPERIMENT_FILE} is missing); --run takes the --workdir of a finished training")
    if not (run / "model").is_dir():
        hint = "name one of its fold_ folders" if any(run.glob("fold_*")) else "finish it by giving its train command again"
        raise UserError(f"{run} has no trained model; {hint}")
    experiment = read_experiment(run)
    if not experiment.objective.NEEDS_LABELS:
        raise UserError(
            f"{run} learnt without labels and predicts none: fine-tune it (configs/finetune.py --config.model.checkpoint={run})"
        )
    if experiment.data.split_by == "classes":
        raise UserError(
            f"{run} holds out whole classes, which it names from a few examples: evaluate --episodes {run} measures it"
        )
    return experiment
