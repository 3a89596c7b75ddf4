"""What the loop itself keeps between steps and across a restart: running sums, the best evaluation, patience."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.errors import UserError
from beats_jax.objectives.metrics import Metrics

# Waits of this length are left to XLA: a signal is answered soon enough after them, and polling costs 3 % of short steps.
BRIEF_SECONDS = 0.5


class StepMetrics(flax.struct.PyTreeNode):
    """The metrics of a step as one array [M, 2] of (sum, count), so that the host fetches one array and not two a name."""

    values: jax.Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)  # part of the tree's structure: they never leave the host

    def fetch(self) -> dict[str, tuple[float, float]]:
        """name -> (sum, count), once they are computed."""
        return {name: (total, count) for name, (total, count) in zip(self.names, np.asarray(self.values).tolist(), strict=True)}


def stack_metrics(metrics: Metrics) -> StepMetrics:
    """In the order of the names."""
    names = tuple(sorted(metrics))
    pairs = [jnp.stack([jnp.asarray(part, jnp.float32) for part in metrics[name]]) for name in names]
    return StepMetrics(jnp.stack(pairs), names)


class NonFinite(UserError):
    """A metric of a training step is NaN or infinite."""


@dataclass
class Progress:
    """Plain numbers only: they go through JSON, in which Python floats survive bit for bit.

    Attributes:
      step: updates done.
      window: name -> [sum, count] since the last row was written.
      best: best value of the monitored metric, None before the first evaluation that gave one.
      best_step: the step it was measured at.
      waited: evaluations since then.
      stopped_early: patience has run out.
      last: name -> value of the newest evaluation.
    """

    step: int = 0
    window: dict[str, list[float]] = field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    stopped_early: bool = False
    last: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON; `Progress(**record)` is the way back."""
        return asdict(self)

    def take_window(self) -> dict[str, float]:
        """Averages since the last call; what was counted zero times is left out."""
        averages = {name: total / count for name, (total, count) in self.window.items() if count > 0}
        self.window = {}
        return averages

    def observe(self, values: Mapping[str, float], monitor: str, patience: int) -> bool:
        """Notes an evaluation at the present step and returns whether it is the best so far. NaN and infinity never are.

        Raises:
          UserError: `monitor` is not among the values.
        """
        if monitor not in values:
            raise UserError(
                f"training.monitor is {monitor!r}, which the evaluation does not give; it gives: {', '.join(sorted(values))}"
            )
        self.last = {name: float(value) for name, value in values.items()}
        value = self.last[monitor]
        sign = -1 if smaller_is_better(monitor) else 1
        better = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
        if better:
            self.best, self.best_step, self.waited = value, self.step, 0
        else:
            self.waited += 1
            self.stopped_early = 0 < patience <= self.waited
        return better


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


def smaller_is_better(monitor: str) -> bool:
    """Losses fall, every other metric rises."""
    return monitor == "loss" or monitor.endswith("_loss")


def _wait(values: Any) -> None:
    """Waits for a step in Python, where signals are answered; in XLA's own wait they are not, however long a step takes."""
    started = time.monotonic()
    while not values.is_ready():
        time.sleep(min(0.05, max(0.0005, (time.monotonic() - started) / 10)))  # a tenth too long at most


@dataclass
class Meter:
    """Reads the metrics of a step one step late, so that the device never waits for the host.

    Attributes:
      progress: where sums are kept.
      describe_rows: see `loop.Hooks`.
      on_read: called with the number of a step once its metrics are in the sums.
    """

    progress: Progress
    describe_rows: Callable[[np.ndarray], str]
    on_read: Callable[[int], None]
    _pending: tuple[int, StepMetrics, np.ndarray] | None = None
    _waited: float = math.inf  # seconds, for the step before

    def add(self, step: int, metrics: StepMetrics, rows: np.ndarray) -> None:
        """Takes a step's metrics (still being computed) and reads those of the step before."""
        self.flush()
        self._pending = step, metrics, rows

    def flush(self) -> None:
        """Reads what is still outstanding.

        Raises:
          NonFinite: a metric is NaN or infinite.
        """
        if self._pending is None:
            return
        (step, metrics, rows), self._pending = self._pending, None
        started = time.monotonic()
        if self._waited > BRIEF_SECONDS:
            _wait(metrics.values)
        values = metrics.fetch()
        self._waited = time.monotonic() - started
        failed = [f"{name} is {total}" for name, (total, count) in values.items() if not math.isfinite(total + count)]
        if failed:
            raise NonFinite(f"step {step}: {', '.join(failed)}; rows of the batch: {self.describe_rows(rows)}")
        for name, (total, count) in values.items():
            window = self.progress.window.setdefault(name, [0.0, 0.0])
            window[0] += total
            window[1] += count
        self.on_read(step)
