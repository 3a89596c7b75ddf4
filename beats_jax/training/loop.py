"""The one loop. It knows interfaces only: an objective's `init` and `update`, batches, checkpoints and writers.

restore -> for each step: next batch, update, read the metrics of the step before, evaluate if due, save if due -> last save.
A checkpoint is written before the next batch is drawn, so the step alone says where the data go on. A run that is killed
anywhere and started again ends with the same parameters, bit for bit, on the same devices.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from beats_jax.config import TrainingConfig
from beats_jax.objectives.objective import Objective
from beats_jax.parallel.exchange import call_on_main, gather_values
from beats_jax.parallel.mesh import batch_sharding, put_batch, replicate, state_shardings
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.compilation import compile_step, megabytes
from beats_jax.training.pace import Pace
from beats_jax.training.preemption import StopSignals
from beats_jax.training.progress import Meter, NonFinite, Progress
from beats_jax.training.writers import Writers


class HostBatch(Protocol):
    """What the loop needs of a batch: arrays [B, ...] with `rows` among them, and the errors met while reading it."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """This host's part of the global batch."""
        ...

    @property
    def errors(self) -> tuple[Any, ...]:
        """One for each row that could not be read."""
        ...


Batches = Callable[[int], Iterator[HostBatch]]  # start_step -> the batches from there on, without end
Evaluate = Callable[[Any, int], Mapping[str, float]]  # (weights, step) -> metrics


@dataclass(frozen=True)
class FitSettings:
    """When things happen, in steps.

    Attributes:
      total_steps: length of the run.
      log_every, evaluate_every: 0 = at the end only.
      checkpoint_every: 0 = at every evaluation.
      monitor, patience: see `TrainingConfig`.
      seed: of the parameters and of all randomness in the steps.
      experiment: the settings of the run, kept with every checkpoint.
    """

    total_steps: int
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every: int = 0
    monitor: str = "accuracy"
    patience: int = 0
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
      describe_start: the state before the first step of this process -> lines that say what is about to be trained.
    """

    start: Callable[[Any], Any] = lambda state: state
    on_errors: Callable[[tuple[Any, ...]], None] = lambda errors: None
    describe_rows: Callable[[np.ndarray], str] = lambda rows: ", ".join(str(row) for row in rows.tolist())
    schedules: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)
    describe_start: Callable[[Any], Sequence[str]] = lambda state: ()


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
      state: the last one, on the devices.
      steps: updates done, those before a restart included.
      best, best_step: value and step of the best evaluation; None without one.
      stopped_early: patience ran out.
      last: metrics of the newest evaluation.
      wall_seconds: of this process; not for any file that must be the same twice.
    """

    state: Any
    steps: int
    best: float | None
    best_step: int | None
    stopped_early: bool
    last: Mapping[str, float]
    wall_seconds: float


def fit(
    objective: Objective,
    mesh: jax.sharding.Mesh,
    batches: Batches,
    evaluate: Evaluate | None,
    checkpoints: Checkpoints,
    writers: Writers,
    settings: FitSettings,
    hooks: Hooks | None = None,
) -> FitResult:
    """Trains until `total_steps`, or until patience runs out; goes on where `checkpoints` stopped.

    Args:
      evaluate: called every `evaluate_every` steps and at the end; it must not keep the weights, their memory is used again.
    Raises:
      Preempted: SIGTERM or SIGINT came; the state is saved.
      NonFinite: a metric is NaN or infinite; names step, metric, rows and the last good checkpoint.
      UserError: see `Checkpoints`, `put_batch` and `Progress.observe`.
    """
    hooks = hooks or Hooks()
    started = time.monotonic()
    state, progress, stream = _begin(objective, mesh, batches, checkpoints, settings, hooks)
    update = compile_update(objective, mesh, state)
    run = _Run(settings, hooks, progress, writers, checkpoints, evaluate)
    writers.resume(progress.step)
    with _naming_the_last_good(checkpoints), StopSignals() as stop:
        while progress.step < settings.total_steps and not progress.stopped_early:
            batch = next(stream)
            if batch.errors:
                hooks.on_errors(batch.errors)
            with jax.set_mesh(mesh):
                arrays = put_batch(mesh, batch.arrays)
                if not run.compiled:
                    run.compile(update, mesh, state, arrays, stop)
                state, metrics = update(state, arrays)
            run.after_update(state, metrics, batch)
            if stop.should_stop(progress.step):
                run.save(state)
                checkpoints.wait()
                raise stop.stop_at(progress.step, str(checkpoints.directory))
    checkpoints.wait()
    return FitResult(
        state=state,
        steps=progress.step,
        best=progress.best,
        best_step=progress.best_step,
        stopped_early=progress.stopped_early,
        last=progress.last,
        wall_seconds=time.monotonic() - started,
    )


def compile_update(objective: Objective, mesh: jax.sharding.Mesh, state: Any) -> Callable[..., Any]:
    """`objective.update` for this mesh; the state given to it is consumed (its memory is used for the next one)."""
    shardings = state_shardings(mesh, state)
    return jax.jit(
        objective.update,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicate(mesh)),
        donate_argnums=0,
    )


def _begin(
    objective: Objective, mesh: jax.sharding.Mesh, batches: Batches, checkpoints: Checkpoints, settings: FitSettings, hooks: Hooks
) -> tuple[Any, Progress, Iterator[HostBatch]]:
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


class _Run:
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
        self.meter = Meter(progress, hooks.describe_rows, self.write_row_if_due)
        self.saved_step = progress.step
        self.pace, self.compiled = Pace(settings.total_steps), False
        self.clock, self.clips = time.monotonic(), 0

    def compile(self, update: Any, mesh: jax.sharding.Mesh, state: Any, arrays: Any, stop: StopSignals) -> None:
        """Says what is about to be trained, and compiles it. Raises `Preempted` when asked to stop meanwhile."""
        for line in self.hooks.describe_start(state):
            self.writers.note(line)
        self.writers.note("compiling the training step ...")
        found = compile_step(update, mesh, state, arrays, stop)
        if found is None:
            raise stop.stop_before_start()
        work = (
            "" if found.work_bytes is None else f"; it works in {megabytes(found.work_bytes)} besides (activations and the like)"
        )
        self.writers.note(f"compiled in {found.seconds:.3g} s{work}")
        self.compiled, self.clock = True, time.monotonic()

    def after_update(self, state: Any, metrics: Any, batch: HostBatch) -> None:
        """Everything that is due after an update was sent to the devices."""
        self.progress.step += 1
        self.meter.add(self.progress.step, metrics, batch.arrays["rows"])
        self.clips += len(batch.arrays["rows"]) * jax.process_count()
        self.writers.advance(self.progress.step)
        self.writers.note(self.pace.report(self.progress.step))
        self.evaluate_and_save_if_due(state)

    def evaluate_and_save_if_due(self, state: Any) -> None:
        """Evaluation comes first: what it finds is part of the checkpoint, so a resumed run does not evaluate twice."""
        settings, step = self.settings, self.progress.step
        last = step == settings.total_steps
        milestone = last or _due(step, settings.evaluate_every)
        improved = milestone and self.evaluate is not None and self.measure(state)
        every = settings.checkpoint_every
        if last or self.progress.stopped_early or _due(step, every) or (improved if every else milestone):
            self.save(state)

    def write_row_if_due(self, step: int) -> None:
        """A row of averages since the last one, written when the metrics of `step` have been read: one step late."""
        if not (_due(step, self.settings.log_every) or step == self.settings.total_steps):
            return
        seconds = time.monotonic() - self.clock
        schedules = {name: float(schedule(step - 1)) for name, schedule in self.hooks.schedules.items()}
        timing = {"seconds": seconds, "clips_per_second": self.clips / max(seconds, 1e-9)}
        self.writers.write(step, "train", {**self.progress.take_window(), **schedules}, timing)
        self.clock, self.clips = time.monotonic(), 0

    def measure(self, state: Any) -> bool:
        """Evaluates the state and returns whether it is the best so far."""
        assert self.evaluate is not None
        self.meter.flush()
        begun = time.monotonic()
        found = self.evaluate(state.weights, self.progress.step)
        values = gather_values({name: float(value) for name, value in found.items()})[0]  # what is best must be so everywhere
        improved = self.progress.observe(values, self.settings.monitor, self.settings.patience)
        seconds = time.monotonic() - begun
        self.writers.write(self.progress.step, "validation", self.progress.last, {"seconds": seconds})
        self.clock += seconds  # training rates are those of training
        self.pace.pause(seconds)
        return improved

    def save(self, state: Any) -> None:
        """Writes a checkpoint unless this very step has one; only of steps whose metrics are known to be finite."""
        self.meter.flush()
        step = self.progress.step
        if step != self.saved_step:
            record = {"progress": self.progress.record(), "experiment": dict(self.settings.experiment)}
            position, best_step = {"next_step": step}, self.progress.best_step
            self.checkpoints.save(step, state, position=position, record=record, best_step=best_step)
            self.saved_step = step


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@contextmanager
def _naming_the_last_good(checkpoints: Checkpoints) -> Iterator[None]:
    """Adds to the message of a failed step which checkpoint is good; those of failed steps are never written."""
    try:
        yield
    except NonFinite as error:
        checkpoints.wait()
        good = checkpoints.latest_step
        place = "none" if good is None else checkpoints.directory / str(good)
        raise NonFinite(f"{error}; last good checkpoint: {place}; try a lower learning rate, or look at these files") from error
