"""Processes of one job: how they find each other, which of them writes, and how they end.

In a job of one process `start` returns at once, and `is_main` starts no backend.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax

from beats_jax.errors import UserError
from beats_jax.parallel.launchers import ADDRESS, COUNT, POD_INDEX, Place, find_launcher, place_in

SECONDS_TO_JOIN = 300
SECONDS_OF_JAX = 60  # that JAX waits longer: where it gives up, it aborts the process without a message of ours
SECONDS_TO_END = 24 * 3600  # a process that is done waits for the one that writes the report
SECONDS_OF_SILENCE = 30  # after which a machine counts as dead


def start(place: Place | None, environment: Mapping[str, str] | None = None) -> None:
    """Joins the job's other processes; call it once, before any device is used. Does nothing in a job of one process.

    Without a place, the environment shows the job: `launchers.place_in`, SLURM (srun), Open MPI (mpirun), or a TPU pod or slice.

    Raises:
      UserError: no address to meet at, the processes do not find each other, or have unequal numbers of devices.
    """
    environment = os.environ if environment is None else environment
    place = place or place_in(environment)
    launcher, found = find_launcher(environment)
    if place is not None and place.count > 1:
        _require_answer(place)
        _join(f"{place.count} processes at {place.coordinator}", place)
    elif place is None and found > 1:
        _join(f"{found} processes of {launcher}", None)
    elif place is None and importlib.util.find_spec("libtpu"):
        _join_pod()
    elif place is None and environment.get(POD_INDEX):  # an array of jobs, or a job whose manifest lacks the variables
        index = environment[POD_INDEX]
        print(f"pod {index} runs alone: {ADDRESS} and {COUNT} would join the pods of its job", file=sys.stderr, flush=True)
    if process_count() > 1:
        require_equal_devices(jax.devices())


def process_count() -> int:
    """Processes of the job."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """Number of this process in its job."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is process 0, the one that writes results."""
    return process_index() == 0


def require_equal_devices(devices: Sequence[Any]) -> None:
    """Raises `UserError` where processes have unequal numbers of the devices: each reads an equal part of every batch."""
    counts = Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"process {index} {count}" for index, count in sorted(counts.items()))
        raise UserError(f"all processes need the same number of devices; there are: {shown}")


def leave(status: int) -> NoReturn:
    """Ends this process of several after an error, so that the others end too."""
    # An ordinary exit would wait five minutes for the others, which wait for this one in an exchange.
    sys.stdout.flush()
    sys.stderr.flush()
    if is_main():
        time.sleep(1)  # the end of process 0 kills the others; they may be about to report the same error
    os._exit(status)


def _join(who: str, place: Place | None) -> None:
    explicit = {}
    if place is not None:  # a launcher around it does not count
        explicit = {"coordinator_address": place.coordinator, "num_processes": place.count, "process_id": place.index}
        explicit["cluster_detection_method"] = "deactivate"
    waiting = threading.Timer(SECONDS_TO_JOIN, _give_up, [who])
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(**explicit, **_timeouts())
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{who} do not find each other ({reason}); give --coordinator HOST:PORT --num-processes N --process-id I to each"
        ) from error
    finally:
        waiting.cancel()


def _timeouts() -> dict[str, Any]:
    seconds: dict[str, Any] = {
        "initialization_timeout": SECONDS_TO_JOIN + SECONDS_OF_JAX,
        "heartbeat_timeout_seconds": SECONDS_OF_SILENCE,
    }
    return {**seconds, "shutdown_timeout_seconds": SECONDS_TO_END}


def _give_up(who: str) -> None:
    """Ends this process, whose main thread waits inside JAX."""
    reason = "is one missing, or has one another number of processes or an address where another program answers?"
    print(f"error: {who} do not find each other within {SECONDS_TO_JOIN} s; {reason}", file=sys.stderr, flush=True)
    os._exit(2)


def _join_pod() -> None:
    try:  # a machine with TPUs may be one of a pod, which only JAX can find out
        jax.distributed.initialize(**_timeouts())
    except ValueError as error:
        if "should be defined" not in str(error) and "must be defined" not in str(error):
            raise  # those two mean that there is no pod: a job of one process


def _require_answer(place: Place) -> None:
    """Raises `UserError` where process 0 cannot answer at its address, or does not."""
    # Checked before JAX connects, because JAX aborts the process without a traceback.
    host, _, text = place.coordinator.rpartition(":")
    host, port, deadline = host.strip("[]"), int(text), time.monotonic() + SECONDS_TO_JOIN
    while True:
        try:
            family, kind, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            if place.index == 0:
                with socket.socket(family, kind) as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(("" if family == socket.AF_INET else "::", port))
            else:
                socket.create_connection((host, port), timeout=10).close()
            return
        except OSError as error:
            reason, named = error.strerror or error, not isinstance(error, socket.gaierror)
            if place.index == 0 and named:
                raise UserError(f"coordinator {place.coordinator} cannot be used ({reason}); choose another port") from error
            if time.monotonic() > deadline:  # also for a name: that of a pod is known only a while after it has started
                raise UserError(
                    f"coordinator {place.coordinator} does not answer within {SECONDS_TO_JOIN} s ({reason}); "
                    "is process 0 running there, and can this machine reach it?"
                ) from error
            time.sleep(0.2)
