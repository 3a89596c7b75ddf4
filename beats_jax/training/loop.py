"""The one loop. It knows interfaces only: an objective's `init` and `update`, batches, checkpoints and writers.

A run that is killed anywhere and started again ends with the same parameters, bit for bit, on the same devices.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.config import TrainingConfig
from beats_jax.datasets.loader import Batch
from beats_jax.objectives.objective import Learner
from beats_jax.objectives.state.state import Params, State
from beats_jax.parallel.exchange import call_on_main, gather_values
from beats_jax.parallel.mesh import batch_sharding, put_batch, replicate, state_shardings
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.compilation import compile_step, compiler_options
from beats_jax.training.pace import Pace
from beats_jax.training.preemption import StopSignals
from beats_jax.training.progress import FitResult, Meter, NonFinite, Progress, StepMetrics, stack_metrics
from beats_jax.training.writers import Writers

Batches = Callable[[int], Iterator[Batch]]  # start_step -> the batches from there on, without end
Evaluate = Callable[[Params, int], Mapping[str, float]]  # (weights, step) -> metrics
Update = Callable[[Any, Mapping[str, jax.Array]], tuple[Any, StepMetrics]]


@dataclass(frozen=True)
class FitSettings:
    """When things happen, in steps.

    Attributes:
      total_steps: length of the run.
      log_every, evaluate_every: 0 = at the end only.
      checkpoint_every: 0 = at every evaluation.
      monitor, patience: see `TrainingConfig`.
      remat: see `TrainingConfig`; the compiler must know it.
      seed: of the parameters and of all randomness in the steps.
      experiment: the settings of the run, kept with every checkpoint.
    """

    total_steps: int
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every: int = 0
    monitor: str = "accuracy"
    patience: int = 0
    remat: str = "none"
    seed: int = 0
    experiment: Mapping[str, Any] = field(default_factory=dict)


def fit_settings(training: TrainingConfig, steps_per_epoch: int, experiment: Mapping[str, Any]) -> FitSettings:
    """The settings of a run whose epochs have `steps_per_epoch` steps."""
    return FitSettings(
        total_steps=training.max_steps or max(1, round(training.max_epochs * steps_per_epoch)),
        log_every=training.log_every_steps,
        evaluate_every=max(1, round(training.evaluate_every_epochs * steps_per_epoch)),
        checkpoint_every=training.checkpoint_every_steps,
        monitor=training.monitor,
        patience=training.patience,
        remat=training.remat,
        seed=training.seed,
        experiment=experiment,
    )


@dataclass(frozen=True)
class Hooks:
    """What a caller may add.

    Attributes:
      start: a fresh random state -> the state to start from (pretrained weights); not called on a resumed run.
      on_errors: receives the errors of every batch that has any.
      describe_rows: row numbers of a batch -> text that names them, for the message of a failed step.
      schedules: name -> function of the update's number, written with every row (the learning rate).
      describe_start: the state before the first step of this process -> lines that describe what will be trained.
    """

    start: Callable[[Any], Any] = lambda state: state
    on_errors: Callable[[tuple[AudioError, ...]], None] = lambda errors: None
    describe_rows: Callable[[np.ndarray], str] = lambda rows: ", ".join(str(row) for row in rows.tolist())
    schedules: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)
    describe_start: Callable[[Any], Sequence[str]] = lambda state: ()


def fit(
    objective: Learner[Any],
    batches: Batches,
    *,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    writers: Writers,
    settings: FitSettings,
    evaluate: Evaluate | None = None,
    hooks: Hooks | None = None,
) -> FitResult:
    """Trains until `total_steps`, or until patience runs out; resumes from the newest of `checkpoints`.

    Args:
      evaluate: called every `evaluate_every` steps and at the end; it must not keep the weights, their memory is used again.
    Raises:
      Preempted: SIGTERM or SIGINT came; the state is saved.
      NonFinite: a metric is NaN or infinite; names step, metric, rows and the last good checkpoint.
      UserError: see `Checkpoints`, `put_batch` and `Progress.observe`.
    """
    started, hooks = time.monotonic(), hooks or Hooks()
    state, progress, stream = _restore_or_start(objective, batches, mesh, checkpoints, settings, hooks)
    update = compile_update(objective, mesh, state, settings.remat)
    events = LoopEvents(settings, hooks, progress, writers, checkpoints, evaluate)
    compiled = False
    writers.resume(progress.step)
    # DO NOT CHANGE THE ORDER: exact resume rests on it.
    with _name_last_good(checkpoints), StopSignals() as stop:
        while progress.step < settings.total_steps and not progress.stopped_early:
            batch = next(stream)
            if batch.errors:
                hooks.on_errors(batch.errors)
            arrays = put_batch(mesh, batch.arrays)
            if not compiled:
                events.compile(update, mesh, state, arrays, stop)
                compiled = True
            # `put_batch` is the only transfer of a step: any other would be a slip that makes the devices wait at every step.
            with jax.set_mesh(mesh), jax.transfer_guard("disallow"):
                state, metrics = update(state, arrays)
            progress.step += 1
            # Reads and writes the metrics of the step before, while the devices work on this one.
            events.note_step(metrics, batch.arrays["rows"])
            # Evaluated before it is saved: the checkpoint holds the outcome, so a resumed run does not evaluate twice.
            improved = events.evaluate_if_due(state)
            # Saved before the next batch is drawn: the step alone then gives the position in the data.
            events.save_if_due(state, improved)
            # Last, so that a run that is stopped has done for this step all that an uninterrupted one does.
            if stop.should_stop(progress.step):
                events.save(state)
                checkpoints.wait()
                raise stop.stop_at(progress.step, str(checkpoints.directory))
    checkpoints.wait()
    seconds = time.monotonic() - started
    return FitResult(state, progress.step, progress.best, progress.best_step, progress.stopped_early, progress.last, seconds)


def compile_update(objective: Learner[Any], mesh: jax.sharding.Mesh, state: State, remat: str = "none") -> Update:
    """`objective.update` for this mesh, its metrics stacked; the state given to it is consumed (its memory is used again)."""
    shardings = state_shardings(mesh, state)

    def update(state: Any, arrays: Any) -> tuple[Any, StepMetrics]:
        state, metrics = objective.update(state, arrays)
        return state, stack_metrics(metrics)

    return jax.jit(
        update,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicate(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(remat),
    )


def _restore_or_start(
    objective: Learner[Any],
    batches: Batches,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    settings: FitSettings,
    hooks: Hooks,
) -> tuple[Any, Progress, Iterator[Batch]]:
    """State, progress and batches to start from: 1. this run's newest readable checkpoint, 2. what `hooks.start` makes
    (pretrained weights) of 3. a random state.
    """
    expected_step = call_on_main(lambda: checkpoints.latest_step) or 0  # a network disk may show others an older folder
    stream = batches(expected_step)
    first = next(stream)  # its shapes are needed to know those of the state
    arrays, key = put_batch(mesh, first.arrays), jax.random.key(settings.seed)
    shapes = jax.eval_shape(objective.init, key, arrays)
    shardings = state_shardings(mesh, shapes)
    like = jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings)
    restored = checkpoints.restore_latest(like)
    if restored is None:
        state = hooks.start(jax.jit(objective.init, out_shardings=shardings)(key, arrays))
        return state, Progress(), itertools.chain([first], stream)
    if restored.step == expected_step:
        stream = itertools.chain([first], stream)
    else:  # the newest one was torn
        stream = batches(restored.position["next_step"])
    return restored.state, Progress(**restored.record["progress"]), stream


class LoopEvents:
    """What happens around the updates: rows, evaluations, checkpoints."""

    def __init__(
        self,
        settings: FitSettings,
        hooks: Hooks,
        progress: Progress,
        writers: Writers,
        checkpoints: Checkpoints,
        evaluate: Evaluate | None,
    ) -> None:
        self.settings, self.hooks, self.progress = settings, hooks, progress
        self.writers, self.checkpoints, self.evaluate = writers, checkpoints, evaluate
        self.meter = Meter(progress, hooks.describe_rows, self._write_row_if_due)
        self.saved_step = progress.step
        self.pace = Pace(settings.total_steps)
        self.clock, self.clips = time.monotonic(), 0

    def compile(self, update: Update, mesh: jax.sharding.Mesh, state: Any, arrays: Any, stop: StopSignals) -> None:
        """Describes what will be trained, and compiles the step. Raises `Preempted` when asked to stop meanwhile."""
        for line in self.hooks.describe_start(state):
            self.writers.note(line)
        self.writers.note("compiling the training step ...")
        done = compile_step(update, mesh, state, arrays, stop)
        if done is None:
            raise stop.stop_before_start()
        self.writers.note(done)
        self.clock = time.monotonic()

    def note_step(self, metrics: StepMetrics, rows: np.ndarray) -> None:
        """An update was sent to the devices: its metrics are read one step later."""
        self.meter.add(self.progress.step, metrics, rows)
        self.clips += len(rows) * jax.process_count()
        self.writers.advance(self.progress.step)
        self.writers.note(self.pace.report(self.progress.step))

    def evaluate_if_due(self, state: State) -> bool:
        """Evaluates at the end and every `evaluate_every` steps; returns whether the state is the best so far."""
        if self.evaluate is None or not self._is_milestone():
            return False
        self.meter.flush()
        begun, step = time.monotonic(), self.progress.step
        found = self.evaluate(state.weights, step)
        values = gather_values({name: float(value) for name, value in found.items()})[0]  # all processes must agree on the best
        improved = self.progress.observe(values, self.settings.monitor, self.settings.patience)
        seconds = time.monotonic() - begun
        self.writers.write(step, "validation", self.progress.last, {"seconds": seconds})
        self.clock += seconds  # training rates are those of training
        self.pace.pause(seconds)
        return improved

    def save_if_due(self, state: Any, improved: bool) -> None:
        """Saves at the end, every `checkpoint_every` steps (0 = at every milestone), and a state that is the best so far."""
        every, step = self.settings.checkpoint_every, self.progress.step
        ended = self.progress.stopped_early or step == self.settings.total_steps
        if ended or _due(step, every) or (improved if every else self._is_milestone()):
            self.save(state)

    def save(self, state: Any) -> None:
        """Writes a checkpoint unless this very step has one."""
        self.meter.flush()  # raises where a metric of this step is not finite: such a state is never saved
        step = self.progress.step
        if step != self.saved_step:
            record = {"progress": self.progress.record(), "experiment": dict(self.settings.experiment)}
            position, best_step = {"next_step": step}, self.progress.best_step
            self.checkpoints.save(step, state, position=position, record=record, best_step=best_step)
            self.saved_step = step

    def _is_milestone(self) -> bool:
        step = self.progress.step
        return step == self.settings.total_steps or _due(step, self.settings.evaluate_every)

    def _write_row_if_due(self, step: int) -> None:
        """A row of averages since the last one, once the metrics of `step` have been read."""
        if not (_due(step, self.settings.log_every) or step == self.settings.total_steps):
            return
        seconds = time.monotonic() - self.clock
        schedules = {name: float(schedule(step - 1)) for name, schedule in self.hooks.schedules.items()}
        timing = {"seconds": seconds, "clips_per_second": self.clips / max(seconds, 1e-9)}
        self.writers.write(step, "train", {**self.progress.take_window(), **schedules}, timing)
        self.clock, self.clips = time.monotonic(), 0


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@contextmanager
def _name_last_good(checkpoints: Checkpoints) -> Iterator[None]:
    """Adds the last good checkpoint to the error of a non-finite step."""
    try:
        yield
    except NonFinite as error:
        checkpoints.wait()
        good = checkpoints.latest_step
        place = "none" if good is None else checkpoints.directory / str(good)
        raise NonFinite(f"{error}; last good checkpoint: {place}; try a lower learning rate, or look at these files") from error
