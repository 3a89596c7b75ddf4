"""Signals as a wish to stop: those that the caller ignores, and the one that comes when the terminal goes."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from beats_jax.training.preemption import StopSignals


def test_what_the_caller_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.should_stop(1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.should_stop(1)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


RUN = """
import fcntl, sys, termios, time
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
from beats_jax.training.preemption import StopSignals
with StopSignals() as stop:
    while not stop.should_stop(1):
        print("step", flush=True)
        time.sleep(0.5)
    print(stop.stop_at(1, "x"), flush=True)
    print("and on", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write("saved")
"""


def test_a_terminal_that_goes_stops_the_run_as_sigterm_does(tmp_path):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", RUN, str(tmp_path / "state")]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        assert os.read(ours, 4) == b"step"
        os.close(ours)  # the kernel sends SIGHUP to the leader of the session
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    assert process.returncode == 0
    assert (tmp_path / "state").read_text() == "saved"
