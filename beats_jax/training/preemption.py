"""SIGTERM, SIGINT and SIGHUP as requests to stop: after the first the step ends and the state is saved; the second kills."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

from beats_jax.errors import Preempted
from beats_jax.streams import write_nowhere

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Context in which a first signal only sets `received` and restores the earlier handlers for the second.

    A signal that the caller has ignored stays ignored (`nohup` for SIGHUP). Outside the main thread, where Python allows no
    handlers, nothing is caught. Several processes must all stop at the same step, so there jax's preemption service decides
    (`jax.distributed.initialize` has taken over SIGTERM), and SIGINT is left alone.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> StopSignals:
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._terminals = [number for number in (1, 2) if os.isatty(number)]
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def should_stop(self, step: int) -> bool:
        """Whether to stop after this step; on several processes the same answer everywhere."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if self.received is None and multihost_utils.reached_preemption_sync_point(step):
                self.received = signal.SIGTERM
        return self.received is not None

    def stop_at(self, step: int, place: str) -> Preempted:
        """The exception to raise once the state of `step` is saved in `place`."""
        number = self.received or signal.SIGTERM
        return Preempted(
            f"stopped by {number.name} after step {step}; saved in {place}: give the same command again to go on", 128 + number
        )

    def stop_before_start(self) -> Preempted:
        """The exception to raise before this process has done a step: there is nothing to save."""
        number = self.received or signal.SIGTERM
        return Preempted(
            f"stopped by {number.name} while the training step was compiled; nothing is lost: give the same command again",
            128 + number,
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = signal.Signals(number)
        if number == signal.SIGHUP:  # the terminal is gone, and nothing can be written to it any more
            write_nowhere(*self._terminals)
        text = f"\n{self.received.name}: stopping at the end of this step; a second one stops at once\n"
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, text.encode())  # not print: the signal may have come in the middle of one
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
