"""What all training runs share: mesh, optimizer, objective, batches, the loop, and the exported model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.loader import Batch, steps_per_epoch, training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.roles import LABELED, UNLABELED, batch_sizes, join_batches, rows_by_role
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.classification import compute_metrics
from beats_jax.inference.grid import Grid, evaluation_grid
from beats_jax.inference.job import batch_samples
from beats_jax.inference.program import Architecture, ObjectiveProgram
from beats_jax.models.registry import family
from beats_jax.objectives import registry
from beats_jax.objectives.adaptation import depth_with_lora, frozen_patterns
from beats_jax.parallel.exchange import call_on_main, fetch
from beats_jax.parallel.mesh import check_batch_size, make_mesh
from beats_jax.pipelines.measuring.prediction import RowPredictions, encode_labels, predict_rows
from beats_jax.pipelines.training.preparation import PreparedData
from beats_jax.pipelines.training.start_report import start_report
from beats_jax.pipelines.training.starting_point import StartingPoint
from beats_jax.training import optimizer as optimizers
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import Evaluate, FitResult, Hooks, fit, fit_settings
from beats_jax.training.writers import for_run
from beats_jax.weights.bundle import Bundle, Reading, save_bundle

VALIDATION_METRICS = ("accuracy", "f1_macro", "mAP", "auroc")  # what the loop evaluates; training.monitor may name any, or loss


class Run(ABC):
    """The parts of one run, built once.

    Attributes:
      group: name of the parameters' group that is the model; "" = all of them.
    """

    group = ""

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        training = experiment.training
        self.experiment, self.workdir, self.data = experiment, workdir, data
        require_a_patch(experiment)
        self.mesh = make_mesh(training.mesh_data, training.mesh_fsdp)
        self.train_rows = data.manifest.split("train")
        self.roles = experiment.objective.roles
        self._check_batch_sizes()
        reads_labels = experiment.objective.NEEDS_LABELS or LABELED in self.roles
        self.vocabulary: LabelVocabulary | None = data.vocabulary if reads_labels else None
        self.epoch = self._steps_per_epoch()
        self.settings = fit_settings(training, self.epoch, to_mapping(experiment))
        self.objective = self._objective()

    def _steps_per_epoch(self) -> int:
        return steps_per_epoch(self.train_rows.take(self._main_rows()), self.experiment.data)

    def _main_rows(self) -> np.ndarray:
        """Training rows that make up an epoch: without those of roles with batches of their own."""
        if not self.roles:
            return np.arange(len(self.train_rows))
        return rows_by_role(self.train_rows, self.roles).get(UNLABELED, np.arange(0))

    def _check_batch_sizes(self) -> None:
        """Raises `UserError` for a batch of any role that does not divide over devices and parts."""
        data, parts = self.experiment.data, self.experiment.training.accumulation_steps
        found = tuple(rows_by_role(self.train_rows, self.roles)) if self.roles else (UNLABELED,)
        for role, size in batch_sizes(data, found).items():
            setting = "data.batch_size" if role == UNLABELED else f"data.{role}_batch_size"
            check_batch_size(self.mesh, size, parts, setting)

    def _objective(self) -> Any:
        counts = None
        if self.vocabulary is not None:
            found = self.train_rows.labels.counts()
            counts = np.array([found.get(name, 0) for name in self.vocabulary.names], np.int64)
        constants, lengths = self.constants(), (self.settings.total_steps, self.epoch)
        objective, self.frozen = build_objective(self.experiment, self.group, constants, self.vocabulary, counts, *lengths)
        return objective

    def constants(self) -> tuple[str, ...]:
        """Patterns of the model's parameters that no optimizer may change."""
        return family(self.experiment.model).constants

    @abstractmethod
    def begin(self, state: Any, start: StartingPoint) -> Any:
        """The state of a new run from a fresh random one."""

    def train(self, start: StartingPoint, evaluate: Evaluate | None) -> tuple[dict[str, Any], FitResult]:
        """Trains to the end, from the start or the newest checkpoint.

        Returns:
          the weights by the values of `training.select`: `last` and `best` (on validation); and how the training went.
        """
        training = self.experiment.training
        if training.select == "best" and evaluate is None:
            raise UserError(
                "training.select is 'best', but nothing is evaluated; hold recordings out (data.val_split) or take select='last'"
            )

        def begin(state: Any) -> Any:
            print(start.note, flush=True)  # the loop calls this for new runs only: a resumed one starts from its checkpoint
            return self.begin(state, start)

        hooks = Hooks(
            start=begin,
            on_errors=self.note_errors,
            describe_rows=self.describe_rows,
            describe_start=self.describe_start,
            schedules={"learning_rate": optimizers.learning_rate(training, self.settings.total_steps, self.epoch)},
        )
        with (
            Checkpoints(self.workdir / "checkpoints") as checkpoints,
            for_run(self.workdir, self.settings.total_steps) as writers,
        ):
            fitted = fit(
                self.objective,
                self.batches,
                mesh=self.mesh,
                checkpoints=checkpoints,
                writers=writers,
                settings=self.settings,
                evaluate=evaluate,
                hooks=hooks,
            )
            if training.select == "best":
                require_best(fitted, training.monitor)
            last = best = fitted.state.weights
            if fitted.best_step is not None and fitted.best_step != fitted.steps:
                best = checkpoints.restore(fitted.best_step, fitted.state).state.weights
            return {"last": last, "best": best}, fitted

    def describe_start(self, state: Any) -> list[str]:
        """Size, memory, windows and length of the run, printed before its first step."""
        return start_report(self.experiment, state, self.frozen, self.train_rows, self.settings.total_steps, self.epoch)

    def batches(self, start_step: int) -> Generator[Batch, None, None]:
        """The training batches from `start_step` on."""
        experiment = self.experiment
        rows = (self.train_rows, self.vocabulary, experiment.data, experiment.audio)
        place = self._place(start_step)
        stream = join_batches(*rows, self.roles, **place) if self.roles else training_batches(*rows, **place)
        return self._without_changed(stream)

    def _place(self, start_step: int) -> dict[str, int]:
        """Where in the endless stream of batches this process begins."""
        seed = self.experiment.training.seed
        hosts = {"host_index": jax.process_index(), "host_count": jax.process_count()}
        return {"seed": seed, "start_step": start_step, **hosts}

    def _without_changed(self, stream: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """The batches with the examples of changed recordings masked."""
        changed = self.data.has_changed(self.train_rows)
        return without_rows(stream, changed) if changed.any() else stream

    def predict_rows(self, predict: Any, weights: Any, rows: Manifest) -> RowPredictions:
        """The predictions of `predict`, the objective's compiled function, for every row with these weights."""
        least = Architecture(self.experiment.model, self.experiment.audio).min_samples
        program = ObjectiveProgram(predict, weights, self.experiment.audio, least)
        return predict_rows(program, rows, self.grid, len(self.data.vocabulary), samples=self.samples, **self.reading)

    def score(self, predictions: RowPredictions, rows: Manifest) -> tuple[np.ndarray, dict[str, float]]:
        """The labels of the predicted rows, and `VALIDATION_METRICS` without intervals."""
        multi_label, threshold = self.experiment.data.multi_label, self.experiment.evaluation.threshold
        labels = encode_labels(rows, self.data.vocabulary, predictions.rows, multi_label)
        found = compute_metrics(labels, predictions.probabilities(multi_label), multi_label=multi_label, threshold=threshold)
        return labels, {name: found[name] for name in VALIDATION_METRICS}

    def save_model(self, params: Any, labels: tuple[str, ...], start: StartingPoint, fitted: FitResult) -> None:
        """Exports the selected parameters as WORKDIR/model, which `beats_jax.load` reads without orbax."""
        experiment, data = self.experiment, self.experiment.data
        bundle = Bundle(
            fetch(params),
            start.model,
            experiment.audio,
            labels,
            bool(labels) and data.multi_label,
            f"beats_jax experiment {experiment.name}, step {selected_step(experiment, fitted)}",
            licence=start.licence,
            # Rows may all be shorter than a window, such as those cut around annotations: this is what the model has met
            reading=Reading(self.samples / experiment.audio.sample_rate, data.hop_seconds, data.trim_below_dbfs),
            seen=self.data.seen,
        )
        call_on_main(lambda: save_bundle(self.workdir / "model", bundle))

    @property
    def grid(self) -> Grid:
        """The windows in which rows are evaluated."""
        return evaluation_grid(self.experiment.data, self.experiment.audio)

    @property
    def reading(self) -> dict[str, Any]:
        """Options of `inference.job.answer_rows`."""
        data = self.experiment.data
        return {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "mesh": self.mesh}

    @cached_property
    def samples(self) -> int:
        """Length of the batches of every evaluation of the run, so that they share one compiled program."""
        return batch_samples(self.data.manifest, self.grid, self.experiment.audio.sample_rate)

    def note_errors(self, errors: tuple[Any, ...]) -> None:
        """Lists unusable files in the run's errors.csv (or stops, when the run is strict)."""
        for error in errors:
            self.data.errors.add(error.path, error.reason)

    def describe_rows(self, rows: np.ndarray) -> str:
        """The first files of a batch, by name."""
        names = [str(self.train_rows.files[row]) for row in rows[:8].tolist()]
        return ", ".join(names) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")


def build_objective(
    experiment: Experiment,
    group: str,
    constants: Sequence[str],
    vocabulary: LabelVocabulary | None,
    counts: np.ndarray | None,
    total_steps: int,
    epoch: int,
) -> tuple[Any, tuple[str, ...]]:
    """The objective with its optimizer, and patterns of the parameters that do not learn.

    Args:
      group, constants: as `Run.group` and `Run.constants`. counts: training rows of each class. epoch: steps of one.
    """
    prefix = group and f"{group}/"
    frozen = frozen_patterns(experiment.training, tuple(f"{prefix}{pattern}" for pattern in constants))
    own_depth, behind = family(experiment.model).depth_of, family(experiment.model).num_layers + 1

    def depth(path: str) -> int:
        return own_depth(path.removeprefix(prefix)) if path.startswith(prefix) else behind

    training = replace(experiment.training, freeze=frozen)
    optimizer = optimizers.build(training, total_steps, depth_with_lora(depth), epoch)
    return registry.build(experiment, vocabulary, optimizer, counts), frozen


def without_codebook(constants: Sequence[str]) -> tuple[str, ...]:
    """Without the patterns of the codebook, which objectives without labels keep in their state instead of the parameters."""
    return tuple(pattern for pattern in constants if not pattern.startswith("quantizer"))


def without_rows(batches: Generator[Batch, None, None], left_out: np.ndarray) -> Generator[Batch, None, None]:
    """The batches with the examples of some rows (bool [N]) masked like unreadable files; all others keep their places.

    A recording that changed since the run began could hold a test sound now, and dropping it would move all other rows.
    """
    with closing(batches):
        for batch in batches:
            arrays = dict(batch.arrays)
            for name in [name for name in arrays if name.endswith("rows")]:
                role, dropped = name.removesuffix("rows"), left_out[arrays[name]]
                for part in (role + suffix for suffix in ("waveforms", "lengths", "labels", "example_mask")):
                    if part in arrays:
                        arrays[part] = arrays[part].copy()
                        arrays[part][dropped] = 0
            yield Batch(arrays, batch.errors)


def require_a_patch(experiment: Experiment) -> None:
    """Raises `UserError` when a training window is shorter than the encoder's first patch."""
    rate, samples = experiment.audio.sample_rate, Architecture(experiment.model, experiment.audio).min_samples
    if round(experiment.data.window_seconds * rate) < samples:
        raise UserError(
            f"data.window_seconds is {experiment.data.window_seconds:g}; the model needs {samples / rate:g} s "
            f"at least (one patch of {family(experiment.model).min_frames} frames)"
        )


def require_best(fitted: FitResult, monitor: str) -> None:
    """Raises `UserError` where no evaluation gave a finite figure by which weights could be chosen."""
    if fitted.best_step is None:
        raise UserError(
            f"training.select is 'best', but training.monitor {monitor!r} was not a finite number in any evaluation (the last: "
            f"{fitted.last.get(monitor)}), so that no weights can be chosen; start anew with another training.monitor, or with "
            "training.select='last'"
        )


def selected_step(experiment: Experiment, fitted: FitResult) -> int | None:
    """The step of the weights that `training.select` names."""
    return fitted.steps if experiment.training.select == "last" else fitted.best_step
