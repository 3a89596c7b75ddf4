"""Processes of one job: how they find each other, which of them writes, and how they end.

In a job of one process `start` returns at once, and `is_main` starts no backend.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import jax

from beats_jax.errors import UserError

SECONDS_TO_JOIN = 300
SECONDS_TO_END = 24 * 3600  # a process that is done waits for the one that writes the report
LAUNCHERS = {"SLURM": "SLURM_STEP_NUM_TASKS", "Open MPI": "OMPI_COMM_WORLD_SIZE"}  # the variable with the number of processes


@dataclass(frozen=True)
class Place:
    """One process of a job.

    Attributes:
      coordinator: "host:port" at which process 0 answers the others.
      count: processes of the job.
      index: number of this one, 0 .. count - 1.
    """

    coordinator: str
    count: int
    index: int


def place_of(coordinator: str | None, count: int | None, index: int | None) -> Place | None:
    """The place that the arguments --coordinator, --num-processes and --process-id name; None where none is given.

    Raises:
      UserError: some are given and others not, or a value is impossible.
    """
    given = {"--coordinator": coordinator, "--num-processes": count, "--process-id": index}
    missing = [name for name, value in given.items() if value is None]
    if coordinator is None or count is None or index is None:
        if len(missing) == len(given):
            return None
        raise UserError(f"{', '.join(missing)} missing: a job of several processes needs {', '.join(given)} in each of them")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator is {coordinator!r}; it takes HOST:PORT of process 0, such as 10.0.0.1:9876")
    if count < 1 or not 0 <= index < count:
        raise UserError(f"--process-id is {index} of --num-processes {count}; processes are numbered 0 to {max(count, 1) - 1}")
    return Place(coordinator, count, index)


def start(place: Place | None, environment: Mapping[str, str] | None = None) -> None:
    """Joins the job's other processes; call it once, before any device is used. Does nothing in a job of one process.

    Without a place, the environment of SLURM (srun), Open MPI (mpirun) or a TPU pod shows the job; JAX reads the addresses there.

    Raises:
      UserError: no address to meet at, or the processes do not find each other.
    """
    launcher, found = _find_launcher(os.environ if environment is None else environment)
    if place is not None and place.count > 1:
        _require_answer(place)
        _join(f"{place.count} processes at {place.coordinator}", place)
    elif place is None and found > 1:
        _join(f"{found} processes of {launcher}", None)
    elif place is None and importlib.util.find_spec("libtpu"):
        _join_pod()


def process_count() -> int:
    """Processes of the job."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """Number of this process in its job."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is process 0, the one that writes results."""
    return process_index() == 0


def leave(status: int) -> NoReturn:
    """Ends this process of several after an error, so that the others end too."""
    # An ordinary exit would wait five minutes for the others, which wait for this one in an exchange.
    sys.stdout.flush()
    sys.stderr.flush()
    if is_main():
        time.sleep(1)  # the end of process 0 kills the others; they may be about to report the same error
    os._exit(status)


def _find_launcher(environment: Mapping[str, str]) -> tuple[str, int]:
    for launcher, name in LAUNCHERS.items():
        value = environment.get(name, "")
        if value.isdigit():
            return launcher, int(value)
    return "", 1


def _join(who: str, place: Place | None) -> None:
    explicit = {}
    if place is not None:  # a launcher around it does not count
        explicit = {"coordinator_address": place.coordinator, "num_processes": place.count, "process_id": place.index}
        explicit["cluster_detection_method"] = "deactivate"
    try:
        jax.distributed.initialize(**explicit, initialization_timeout=SECONDS_TO_JOIN, shutdown_timeout_seconds=SECONDS_TO_END)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{who} do not find each other ({reason}); give --coordinator HOST:PORT --num-processes N --process-id I to each"
        ) from error


def _join_pod() -> None:
    try:  # a machine with TPUs may be one of a pod, which only JAX can find out
        jax.distributed.initialize()
    except ValueError as error:
        if "should be defined" not in str(error) and "must be defined" not in str(error):
            raise  # those two mean that there is no pod: a job of one process


def _require_answer(place: Place) -> None:
    """Raises `UserError` where process 0 cannot answer at its address, or does not."""
    # Checked before JAX connects, because JAX aborts the process without a traceback.
    host, _, port = place.coordinator.rpartition(":")
    host, deadline = host.strip("[]"), time.monotonic() + SECONDS_TO_JOIN
    try:
        family, kind, *_ = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        if place.index == 0:
            with socket.socket(family, kind) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("", int(port)) if family == socket.AF_INET else ("::", int(port)))
            return
    except OSError as error:
        raise UserError(
            f"--coordinator {place.coordinator} cannot be used ({error.strerror or error}); choose another"
        ) from error
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"process 0 does not answer at --coordinator {place.coordinator} within {SECONDS_TO_JOIN} s "
                    f"({error.strerror or error}); is it running, and can this machine reach it?"
                ) from error
            time.sleep(0.2)
