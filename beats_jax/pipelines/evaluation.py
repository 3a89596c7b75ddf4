"""A finished run measured again: on its own test recordings, or on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from beats_jax.config import DataConfig, Experiment, experiment_from_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.loader import evaluation_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.pipelines.prediction import predict_rows
from beats_jax.pipelines.preparation import LABELS_FILE, PreparedData
from beats_jax.pipelines.results import Measured, measure, write_results
from beats_jax.pipelines.workdir import ERRORS_FILE, EXPERIMENT_FILE, read_json
from beats_jax.weights.pretrained import load


def evaluate_run(run: Path, data_path: Path | None, output: Path, *, strict: bool, command: str) -> Measured:
    """Writes metrics.json, predictions.csv, report.html and errors.csv for a run's model into `output`.

    Args:
      run: folder of a finished run.
      data_path: labelled recordings (see `data_of`); None = the run's own test rows (validation rows where it has no test).
      output: new or empty folder.
    Raises:
      UserError: no finished run, one without labels, an `output` in use, data with labels that the run does not know.
    """
    experiment = _experiment_of(run)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not empty; --output takes a new or empty folder")
    output.mkdir(parents=True, exist_ok=True)
    vocabulary = LabelVocabulary.from_json((run / LABELS_FILE).read_text(encoding="utf-8"))
    data_config = experiment.data if data_path is None else data_of(data_path, experiment.data)
    experiment = replace(experiment, data=data_config)
    errors = ErrorLog(output / ERRORS_FILE, strict)
    found = load_manifest(data_config, workdir=run)
    report = validate(found, data_config, experiment.audio, error_log=errors, min_classes=1)
    if data_path is None:
        report = report.with_splits(assign_splits(report.manifest, data_config))
    data = PreparedData(report, vocabulary, errors)
    rows = _rows_to_measure(report.manifest, own=data_path is None)
    model = load(run)
    predictions = predict_rows(
        lambda arrays: np.asarray(model.logits(arrays["waveforms"], lengths=arrays["lengths"])),
        evaluation_batches(rows, vocabulary, data_config, experiment.audio),
        len(rows),
        len(vocabulary),
    )
    for error in predictions.errors:
        errors.add(error.path, error.reason)
    probabilities = predictions.probabilities(data_config.multi_label)
    title = f"{experiment.name} on {'its own test recordings' if data_path is None else data_path}"
    measured = measure(experiment, rows.take(predictions.rows), vocabulary, probabilities, title)
    write_results(output, experiment, data, measured, command=command)
    return measured


def data_of(path: Path, data: DataConfig) -> DataConfig:
    """Where to read other recordings: a CSV with the run's column names, a folder in the ESC-50 layout, or one folder per class.

    Raises:
      UserError: the path does not exist.
    """
    plain = replace(data, root=str(path), fold="", metadata_file="", classes=())
    if path.is_file():
        return replace(plain, source="csv", root="", metadata_file=str(path))
    if not path.is_dir():
        raise UserError(f"{path} does not exist; --data takes a folder of class folders or a CSV table")
    esc50 = (path / "meta" / "esc50.csv").is_file()
    return replace(plain, source="esc50" if esc50 else "folder")


def _experiment_of(run: Path) -> Experiment:
    if not (run / EXPERIMENT_FILE).is_file():
        raise UserError(f"{run} holds no run ({EXPERIMENT_FILE} is missing); --run takes the --workdir of a finished training")
    if not (run / "model").is_dir():
        hint = "name one of its fold_ folders" if any(run.glob("fold_*")) else "finish it by giving its train command again"
        raise UserError(f"{run} has no trained model; {hint}")
    experiment = experiment_from_mapping(read_json(run / EXPERIMENT_FILE))
    if not experiment.objective.NEEDS_LABELS:
        raise UserError(
            f"{run} learnt without labels and predicts none: fine-tune it (configs/finetune.py --config.model.checkpoint={run})"
        )
    return experiment


def _rows_to_measure(manifest: Manifest, *, own: bool) -> Manifest:
    if not own:
        return manifest
    test = manifest.split("test")
    return test if len(test) else manifest.split("val")
