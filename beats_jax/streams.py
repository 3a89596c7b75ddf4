"""Standard output and error of a verb: made usable before it runs, and closed pipes and full disks recognised afterwards."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, TextIO


def prepare_streams() -> None:
    """Opens closed standard streams (`>&-`) on the null device, and lets all write unknown characters as escapes.

    The descriptors are opened too: otherwise the next file, a checkpoint perhaps, would get a closed number and with it the
    messages of some library.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = _open(1)
    if sys.stderr is None:
        sys.stderr = _open(2)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)  # a replacement may lack it
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def reader_is_gone() -> bool:
    """Whether the reader of the pipe behind standard output has gone, such as `head` after its ten lines."""
    waiting = select.poll()
    waiting.register(1, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))


def drop_failing_output() -> None:
    """Flushes standard output, or drops the rest where that fails, so that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        write_nowhere(1)


def write_nowhere(*numbers: int) -> None:
    """Sends all further output of these descriptors to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        os.dup2(null, number)
    os.close(null)


def _open(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)
