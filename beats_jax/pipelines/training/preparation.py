"""Finds, checks and splits the recordings and labels of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import DataConfig, Experiment, GenerativeConfig, TrainingConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.folds import with_folds
from beats_jax.datasets.manifest import SPLITS, LabelVocabulary, Manifest
from beats_jax.datasets.manifest_file import FACTS_FILE, read_manifest, write_manifest
from beats_jax.datasets.report import ValidationReport
from beats_jax.datasets.roles import require_apart, with_roles_in_training
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.review import add_reviewed
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.pipelines.job import fingerprint, open_errors
from beats_jax.pipelines.measuring.seen_rows import remember_run, seen_notes
from beats_jax.pipelines.training.recorded_rows import compare_rows, list_lost, require_enough
from beats_jax.pipelines.training.workdir import has_started
from beats_jax.weights.pretrained import read_memory
from beats_jax.weights.seen import Seen

DATA_REPORT_FILE = "data_report.json"
LABELS_FILE = "labels.json"
UNRECORDED = (
    "this run began with a version that did not record its rows: they were found and split anew, so that recordings that were "
    "added or removed since may have moved others between the splits"
)


@dataclass(frozen=True)
class PreparedData:
    """What training and evaluation read.

    Attributes:
      report: of validation, with the run's rows and their splits.
      vocabulary: the classes, in the order of the logits; none where nothing has a label.
      errors: the run's list of unusable files.
      changed: files whose content differs from the one that the run recorded; their training rows are not used.
      found: `fingerprint` of the usable rows as this process finds them, without those that the run recorded.
      before: recordings that the starting model was trained on. seen: those that the run's own model will remember.
    """

    report: ValidationReport
    vocabulary: LabelVocabulary
    errors: ErrorLog
    changed: frozenset[str] = frozenset()
    before: Seen | None = None
    seen: Seen | None = None
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The run's rows, with splits."""
        return self.report.manifest

    def has_changed(self, manifest: Manifest) -> np.ndarray:
        """bool [N]: rows of the `changed` files."""
        if not self.changed:
            return np.zeros(len(manifest), bool)
        files, file_of_row = distinct(manifest.files)
        return np.array([file in self.changed for file in files.tolist()], bool)[file_of_row]

    def with_splits(self, manifest: Manifest, *, labelled: bool = True) -> PreparedData:
        """The same recordings in other splits or folds; rows whose recording has changed are not measured.

        Without labels they stay: the watch compares held-out clips with their embeddings at the start, in order.
        """
        dropped = self.has_changed(manifest) & (manifest.splits != "train") & labelled
        report = self.report.with_splits(manifest.take(~dropped))
        return replace(self, report=report, seen=remember_run(manifest, self.before))


def prepare_data(experiment: Experiment, workdir: Path, *, strict: bool) -> PreparedData:
    """Finds, checks and splits the recordings of a new run, or those of the run in `workdir`, which keeps its rows.

    A new run records its rows in `workdir`; with `data.fold` "all" they have folds and no splits yet. A resumed run warns of
    recordings that have gone, changed or been added. Rows of lost ones keep their places, so that no other row moves.

    Raises:
      UserError: nothing usable, fewer than two classes for an objective with labels, more than `recorded_rows.MOST_LOST` of a
        run's recordings lost, or, with `strict`, the first unusable file.
    """
    data, labelled = experiment.data, experiment.objective.NEEDS_LABELS
    errors = open_errors(workdir, strict=strict)
    recorded = read_manifest(workdir)
    found = add_reviewed(load_manifest(data, workdir=workdir), data)
    audio = experiment.audio
    if isinstance(experiment.objective, GenerativeConfig):  # its images have bands of their own: none of these may be warned of
        audio = replace(audio, filterbank=replace(audio.filterbank, num_mel_bins=1))
    report = validate(found, data, audio, error_log=errors, min_classes=2 if labelled and recorded is None else 0)
    usable = fingerprint(report.manifest)  # process 0 has recorded its rows before the others come here
    changed: frozenset[str] = frozenset()
    if recorded is None:
        manifest = _with_splits(report.manifest, data)
        record_rows(workdir, manifest)
        notes = [UNRECORDED] if has_started(workdir) else []
    else:
        changes = compare_rows(recorded, found, report.manifest, data)
        require_enough(changes)
        list_lost(changes, errors)
        manifest, notes, changed = recorded, [*report.manifest.notes, *changes.notes], frozenset(changes.changed)
        report = replace(report, rows_given=len(recorded), labels=recorded.labels.counts())
    before = read_memory(experiment.model.checkpoint) if experiment.model.checkpoint else None
    measured = _to_measure(manifest, every=data.fold == "all")
    manifest = manifest.with_notes(*notes, *seen_notes(experiment.model.checkpoint, before, *measured))
    prepared = PreparedData(report, LabelVocabulary.from_manifest(manifest), errors, changed, before, found=usable)
    if data.fold == "all":
        return replace(prepared, report=replace(report, manifest=manifest), seen=remember_run(manifest.take([]), before))
    return prepared.with_splits(manifest, labelled=labelled)


def record_rows(workdir: Path, manifest: Manifest) -> None:
    """Records the rows in the run's folder, unless it has some; in a job of many processes the first one does."""
    if jax.process_index() == 0 and not (workdir / FACTS_FILE).is_file():
        write_manifest(workdir, manifest)


def _with_splits(manifest: Manifest, data: DataConfig) -> Manifest:
    """The rows with folds, and with splits unless every fold becomes the test set in turn."""
    require_apart(manifest)
    manifest = with_folds(manifest, data)
    return manifest if data.fold == "all" else with_roles_in_training(assign_splits(manifest, data))


def _to_measure(manifest: Manifest, *, every: bool) -> tuple[Manifest, str]:
    """The rows that will be measured in the end, and their name."""
    if every:
        return manifest, "rows"
    test = manifest.split("test")
    return (test, "test rows") if len(test) else (manifest.split("val"), "validation rows")


def require_splits(manifest: Manifest, training: TrainingConfig) -> None:
    """Raises `UserError` where a split that the run needs has no row."""
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
