"""How fast the steps go and when the last one will be done."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

LEAST_SECONDS = 5.0  # of steps, before their speed is reported


class Pace:
    """Seconds a step, from the moments at which the loop reports steps: the step before is then done."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._reports: list[tuple[int, float]] = []  # the first two: step and clock
        self._reported = False

    def pause(self, seconds: float) -> None:
        """Leaves the seconds of an evaluation out of the speed."""
        self._reports = [(step, clock + seconds) for step, clock in self._reports]

    def report(self, step: int, now: float | None = None) -> str:
        """A sentence at the first step and at the first reliable speed, else "". `now`: seconds (default: `time.monotonic`)."""
        now = time.monotonic() if now is None else now
        if len(self._reports) < 2:
            self._reports.append((step, now))
            first = self._reports[0]
            return f"step {first[0]} is done after {now - first[1]:.3g} s" if step != first[0] else ""
        # The first step does not count: it waits for the input's buffers and for memory that is touched for the first time.
        base, since = self._reports[1]
        if self._reported or now - since < LEAST_SECONDS or step == self._total_steps:
            return ""
        self._reported = True
        return end_line((now - since) / (step - base), self._total_steps - step + 1, datetime.now())


def end_line(step_seconds: float, steps_left: int, now: datetime) -> str:
    """`0.42 s a step: the 5990 steps left end about 18:40 (in 42 min), evaluations not counted`."""
    left = step_seconds * steps_left
    end = now + timedelta(seconds=left)
    clock = end.strftime("%H:%M" if end.date() == now.date() else "%Y-%m-%d %H:%M")
    ahead = f"the {steps_left} steps left end about {clock} (in {duration(left)})"
    return f"{step_seconds:.3g} s a step: {ahead}, evaluations not counted"


def duration(seconds: float) -> str:
    """`50 s`, `42 min`, `7 h 5 min`, `3 days 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"
