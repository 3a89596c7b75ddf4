"""Compiles the training step ahead of its first call, so that a signal is answered meanwhile and the program can be described."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from beats_jax.training.preemption import StopSignals

POLL_SECONDS = 0.1
THREAD = "compile"  # its name: `train.main` looks for a thread that was left to itself


@dataclass(frozen=True)
class Compiled:
    """The compiled step.

    Attributes:
      seconds: tracing and compilation.
      work_bytes: memory of a device for activations and other intermediate values, by XLA's account; None where it keeps none.
    """

    seconds: float
    work_bytes: int | None


def compile_step(update: Any, mesh: jax.sharding.Mesh, state: Any, arrays: Any, stop: StopSignals) -> Compiled | None:
    """Traces and compiles `update` (of `jax.jit`) for these arguments; its calls then find the program. None = asked to stop.

    XLA holds its thread for as long as it compiles, and Python answers signals in the main thread only: there we wait.
    """

    def work() -> Any:
        with jax.set_mesh(mesh):  # holds for one thread
            return update.lower(state, arrays).compile()

    started = time.monotonic()
    program = _interruptible(work, lambda: stop.received is not None)
    return None if program is None else Compiled(time.monotonic() - started, _work_bytes(program))


def megabytes(size: int) -> str:
    """`345 MB`, `1.38 GB`."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _interruptible(work: Callable[[], Any], stopped: Callable[[], bool]) -> Any:
    """What `work()` returns, from a thread of its own; None as soon as `stopped()`, and the thread is left to itself."""
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            outcome["error"] = error

    thread = threading.Thread(target=target, name=THREAD)
    thread.start()
    while thread.is_alive() and not stopped():
        thread.join(POLL_SECONDS)
    if "error" in outcome:
        raise outcome["error"]
    return outcome.get("value") if not stopped() else None


def _work_bytes(program: Any) -> int | None:
    analysis = program.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)
