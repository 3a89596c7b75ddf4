"""A finished run measured again: on its own test recordings, or on others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from beats_jax.config import DataConfig, Experiment, experiment_from_mapping
from beats_jax.datasets.folds import with_folds
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.model import load
from beats_jax.inference.program import Outputs
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.job import end_errors, open_errors
from beats_jax.pipelines.measurement import Measured, measure, read_operating_point
from beats_jax.pipelines.prediction import predict_rows
from beats_jax.pipelines.preparation import LABELS_FILE, PreparedData
from beats_jax.pipelines.results import write_results
from beats_jax.pipelines.workdir import EXPERIMENT_FILE, read_json
from beats_jax.pipelines.workdir_lock import hold, others


def evaluate_run(run: Path, data_path: Path | None, output: Path, *, strict: bool, command: str, page: str = "html") -> Measured:
    """Writes metrics.json, predictions.csv, recordings.csv, the report and errors.csv for a run's model into `output`.

    Args:
      run: folder of a finished run.
      data_path: labelled recordings (see `data_of`); None = the run's own test rows (validation rows where it has no test).
      output: new or empty folder.
      page: html (report.html) | md (RESULTS.md).
    Raises:
      UserError: no finished run, one without labels, an `output` in use, data with labels that the run does not know.
    """
    experiment = _experiment_of(run)
    new_folder(output)
    vocabulary = LabelVocabulary.from_json((run / LABELS_FILE).read_text(encoding="utf-8"))
    data_config = experiment.data if data_path is None else data_of(data_path, experiment.data)
    experiment = replace(experiment, data=data_config)
    errors = open_errors(output, strict=strict)
    found = load_manifest(data_config, workdir=run)
    report = validate(found, data_config, experiment.audio, error_log=errors, min_classes=1)
    if data_path is None:
        report = report.with_splits(assign_splits(with_folds(report.manifest, data_config), data_config))
    data = PreparedData(report, vocabulary, errors)
    rows = _rows_to_measure(report.manifest, own=data_path is None)
    model = load(run)
    grid = evaluation_grid(data_config, model.audio)
    reading = {"batch_size": data_config.batch_size, "threads": max(1, data_config.num_workers)}
    predictions = predict_rows(model.program(Outputs(logits=True)), rows, grid, len(vocabulary), **reading)
    for error in predictions.errors:
        errors.add(error.path, error.reason)
    probabilities = predictions.probabilities(data_config.multi_label)
    title = f"{experiment.name} on {'its own test recordings' if data_path is None else data_path}"
    point = read_operating_point(run, vocabulary)
    measured = measure(experiment, rows.take(predictions.rows), vocabulary, probabilities, title, point, predictions.peaks)
    write_results(output, experiment, data, measured, command=command, page=page)
    end_errors(errors)
    return measured


@contextmanager
def new_folder(output: Path) -> Iterator[None]:
    """Makes the folder of the results and holds it while the block runs; of a job of many processes the first one does.

    Raises:
      UserError: it exists and is not empty, it cannot be made, or another process holds it.
    """
    with ExitStack() as held:
        call_on_main(lambda: held.enter_context(_held_folder(output)))
        yield


@contextmanager
def _held_folder(output: Path) -> Iterator[None]:
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
    """Where to read other recordings: a CSV with the run's column names, one folder per class, ESC-50, UrbanSound8K or TFDS.

    Raises:
      UserError: the path does not exist.
    """
    plain = replace(data, root=str(path), fold="", num_folds=0, fold_by="", metadata_file="", tfds_name="", classes=())
    source = source_at(path)
    return replace(plain, source=source, **({"root": "", "metadata_file": str(path)} if source == "csv" else {}))


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
