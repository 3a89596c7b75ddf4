"""Compiles the training step ahead of its first call, so that a signal is answered meanwhile and the program can be described."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from beats_jax.training.preemption import StopSignals

POLL_SECONDS = 0.1
THREAD = "compile"  # its name: `train.main` looks for a compilation that still runs


def compile_step(update: Any, mesh: jax.sharding.Mesh, state: Any, arrays: Any, stop: StopSignals) -> str | None:
    """Traces and compiles `update` (of `jax.jit`) for these arguments; its calls then find the program.

    Returns:
      a sentence with the seconds and, where XLA counts it, a device's memory for intermediate values; None = asked to stop.
    """

    def work() -> Any:
        with jax.set_mesh(mesh):  # holds for one thread
            return update.lower(state, arrays).compile()

    started = time.monotonic()
    program = _interruptible(work, lambda: stop.received is not None)
    if program is None:
        return None
    analysis = program.memory_analysis()
    work_memory = analysis and f"; it works in {megabytes(int(analysis.temp_size_in_bytes))} besides (activations and the like)"
    return f"compiled in {time.monotonic() - started:.3g} s{work_memory or ''}"


def compiler_options(remat: str) -> dict[str, str]:
    """Options that XLA needs for `training.remat`."""
    # jaxlib 0.10 takes out the barriers of `jax.checkpoint` on CPUs, then finds that all has been computed before, and keeps it.
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if on_cpu and remat != "none" else {}


def megabytes(size: int) -> str:
    """`345 MB`, `1.38 GB`."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _interruptible(work: Callable[[], Any], stopped: Callable[[], bool]) -> Any:
    """The result of `work()`, from a thread of its own; None as soon as `stopped()`, while the thread runs on."""
    # XLA holds its thread for as long as it compiles, and Python answers signals in the main thread only: there we wait.
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
