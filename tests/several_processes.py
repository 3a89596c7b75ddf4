"""Jobs of several real processes on this machine, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    output: str
    errors: str


def environment(devices: int) -> dict[str, str]:
    """Variables of a process with as many simulated devices."""
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }  # fmt: skip


def start_job(command: Sequence[str], count: int, devices: int) -> list[subprocess.Popen[str]]:
    """Starts `python COMMAND` in `count` processes, each told its place by the arguments that the verbs have."""
    address = f"127.0.0.1:{free_port()}"
    job = []
    for index in range(count):
        place = ["--coordinator", address, "--num-processes", str(count), "--process-id", str(index)] if count > 1 else []
        job.append(start_process([*command, *place], devices))
    return job


def start_process(command: Sequence[str], devices: int, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts `python COMMAND` with further variables of the environment."""
    return subprocess.Popen(
        [sys.executable, *command],
        env={**environment(devices), **(variables or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end_job(job: Sequence[subprocess.Popen[str]], timeout: float = 120) -> list[Ended]:
    """Waits for all processes; kills them when one takes too long."""
    try:
        return [Ended(*_ended(process, timeout)) for process in job]
    finally:
        for process in job:
            process.kill()
            process.wait()


def run_job(command: Sequence[str], count: int, devices: int, timeout: float = 120) -> list[Ended]:
    """Starts a job and waits for it."""
    return end_job(start_job(command, count, devices), timeout)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _ended(process: subprocess.Popen[str], timeout: float) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors
