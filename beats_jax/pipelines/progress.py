"""Progress of a job over recordings: a bar on a terminal, a line a minute elsewhere, and when the job will end."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import Any

LINE_SECONDS = 60.0
FIRST_SECONDS = 10.0  # before the first estimate


class WindowProgress:
    """Shows how many seconds of sound are done, and when the job will end."""

    def __init__(self, total_seconds: float, doing: str, done: str, *, unit: str = "windows", show: bool = True) -> None:
        from tqdm import tqdm

        self._total, self._done, self._windows = total_seconds, 0.0, 0
        self._doing, self._did, self._unit = doing, done, unit
        self._begun = self._counted_from = time.monotonic()
        self._first_done = 0.0
        self._next_line = self._begun + FIRST_SECONDS
        self._show = show
        terminal = show and sys.stderr.isatty()
        self._bar: Any = tqdm(total=round(total_seconds), unit="s", desc="compiling", dynamic_ncols=True) if terminal else None

    def __enter__(self) -> WindowProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._show and self._windows:
            print(f"{self._windows} {self._unit}, {self._speed():.0f} times real time", flush=True)

    def advance(self, seconds: float, windows: int) -> None:
        """So much sound was computed; times count from the end of the first batch, which was compiled for."""
        if not self._windows:
            self._counted_from, self._first_done = time.monotonic(), seconds
            self._next_line = self._counted_from + FIRST_SECONDS  # compiling says nothing about the rest
        self._done += seconds
        self._windows += windows
        if self._bar is not None:
            self._bar.set_description(self._doing, refresh=False)
            self._bar.update(min(round(self._done), self._bar.total) - self._bar.n)
        elif self._show and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            print(self.line(datetime.now()), flush=True)

    def line(self, now: datetime) -> str:
        """`0.52 of 10.00 h embedded, 310 times real time; ends about 18:40`."""
        speed = self._speed()
        text = f"{self._done / 3600:.2f} of {self._total / 3600:.2f} h {self._did}, {speed:.0f} times real time"
        if speed <= 0 or self._total <= self._done:
            return text
        return f"{text}; ends about {now + timedelta(seconds=(self._total - self._done) / speed):%H:%M}"

    def _speed(self) -> float:
        spent, done = time.monotonic() - self._counted_from, self._done - self._first_done
        if done <= 0:  # one batch only
            spent, done = time.monotonic() - self._begun, self._done
        return done / max(spent, 1e-9)
