"""Recordings and labels, ready to train on: found, checked, split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from beats_jax.config import DataConfig, Experiment, TrainingConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.folds import with_folds
from beats_jax.datasets.manifest import SPLITS, LabelVocabulary, Manifest
from beats_jax.datasets.report import ValidationReport
from beats_jax.datasets.roles import require_apart, with_roles_in_training
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits, fold_manifest
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.pipelines.job import open_errors

DATA_REPORT_FILE = "data_report.json"
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class PreparedData:
    """What training and evaluation read.

    Attributes:
      report: what validation found, the usable rows and their splits among it.
      vocabulary: the classes, in the order of the logits; none where nothing has a label.
      errors: the run's list of unusable files.
    """

    report: ValidationReport
    vocabulary: LabelVocabulary
    errors: ErrorLog

    @property
    def manifest(self) -> Manifest:
        """The usable rows, with splits."""
        return self.report.manifest

    def fold(self, name: str, data: DataConfig) -> PreparedData:
        """The same recordings with one fold as test and the others as training (and validation) data."""
        return replace(self, report=self.report.with_splits(fold_manifest(self.manifest, name, data)))


def prepare_data(experiment: Experiment, workdir: Path, *, strict: bool) -> PreparedData:
    """Finds, checks and splits the recordings of an experiment; for `data.fold` "all" see `PreparedData.fold`.

    Raises:
      UserError: nothing usable, fewer than two classes for an objective with labels, or, with `strict`, the first unusable file.
    """
    data = experiment.data
    errors = open_errors(workdir, strict=strict)
    classes = 2 if experiment.objective.NEEDS_LABELS else 0
    report = validate(load_manifest(data, workdir=workdir), data, experiment.audio, error_log=errors, min_classes=classes)
    require_apart(report.manifest)
    manifest = with_folds(report.manifest, data)
    if data.fold == "all":
        report = replace(report, manifest=manifest)
    else:
        report = report.with_splits(with_roles_in_training(assign_splits(manifest, data)))
    return PreparedData(report, LabelVocabulary.from_manifest(report.manifest), errors)


def require_splits(manifest: Manifest, training: TrainingConfig) -> None:
    """Raises `UserError` before anything is trained where a split that will be needed has no row."""
    rows = {name: len(manifest.split(name)) for name in SPLITS}
    if not rows["train"]:
        raise UserError("there are no rows to train on; check data.train_split and the split column")
    if not rows["val"] and not rows["test"]:
        raise UserError("no row is left to measure the model on; data.val_split or data.test_split must leave some")
    chooses = "training.select is 'best'" if training.select == "best" else f"training.patience is {training.patience}"
    if not rows["val"] and (training.select == "best" or training.patience):
        raise UserError(
            f"{chooses}, which needs validation rows, and there are none; set data.val_split above 0, mark rows as val "
            "(folds have no validation rows), or take training.select='last' and training.patience=0"
        )
