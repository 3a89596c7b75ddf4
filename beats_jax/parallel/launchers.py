"""How a process learns its place in a job: from arguments, from variables that JAX and Kubernetes know, or from a launcher.

Imports no JAX: verbs that run as one process ask here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beats_jax.errors import UserError

LAUNCHERS = {"SLURM": "SLURM_STEP_NUM_TASKS", "Open MPI": "OMPI_COMM_WORLD_SIZE"}  # the variable with the number of processes
ARGUMENTS = ("--coordinator", "--num-processes", "--process-id")
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
POD_INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes numbers the pods of an indexed job, so also those of a JobSet


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


def place_of(coordinator: str | None, count: int | None, index: int | None, names: tuple[str, ...] = ARGUMENTS) -> Place | None:
    """The place that three values name; None where none is given.

    Args:
      names: what messages call the values.
    Raises:
      UserError: some are given and others not, or a value is impossible.
    """
    missing = [name for name, value in zip(names, (coordinator, count, index), strict=True) if value is None]
    if coordinator is None or count is None or index is None:
        if len(missing) == len(names):
            return None
        raise UserError(f"{', '.join(missing)} missing: a job of several processes needs {', '.join(names)} in each of them")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"{names[0]} is {coordinator!r}; it takes HOST:PORT of process 0, such as 10.0.0.1:9876")
    if count < 1 or not 0 <= index < count:
        raise UserError(f"{names[2]} is {index} of {names[1]} {count}; processes are numbered 0 to {max(count, 1) - 1}")
    return Place(coordinator, count, index)


def place_in(environment: Mapping[str, str]) -> Place | None:
    """The place that `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` name; a pod needs the first two only.

    None without `JAX_NUM_PROCESSES`: the address alone is one of JAX's own settings for a launcher or TPU pod.

    Raises:
      UserError: as `place_of`.
    """
    if not environment.get(COUNT):
        return None
    index_name = INDEX if environment.get(INDEX) else POD_INDEX if environment.get(POD_INDEX) else INDEX
    numbers = [_number(name, environment.get(name)) for name in (COUNT, index_name)]
    return place_of(environment.get(ADDRESS) or None, *numbers, names=(ADDRESS, COUNT, index_name))


def find_launcher(environment: Mapping[str, str]) -> tuple[str, int]:
    """The launcher that started this process with others, and their number; ("", 1) without one."""
    for launcher, name in LAUNCHERS.items():
        value = environment.get(name, "")
        if value.isdigit():
            return launcher, int(value)
    return "", 1


def require_alone(what: str, environment: Mapping[str, str]) -> None:
    """Raises `UserError` where a launcher has started several processes of something that runs as one."""
    launcher, count = find_launcher(environment)
    if count > 1:
        raise UserError(f"{what} runs as one process, and {launcher} has started {count}; start it once")


def _number(name: str, text: str | None) -> int | None:
    if not text:
        return None
    if not text.lstrip("-").isdigit():
        raise UserError(f"{name} is {text!r}; it takes a number")
    return int(text)
