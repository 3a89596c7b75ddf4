"""Exchange of values between the processes of a job.

All processes must call these functions, in the same order and from the same thread as they start computations: each one waits
for the others. With one process they return at once and touch no device.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from beats_jax.errors import UserError
from beats_jax.parallel.processes import is_main, process_count

T = TypeVar("T")


def fetch(tree: Any) -> Any:
    """Arrays on devices as whole numpy arrays in every process, also those with parts on other processes' devices."""
    from jax.experimental import multihost_utils

    def whole(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return jax.device_get(leaf)

    return jax.tree.map(whole, tree)


def gather_values(value: T) -> list[T]:
    """A value of every process, in their order; anything that pickle takes, of any size."""
    if process_count() == 1:
        return [value]
    return [pickle.loads(part) for part in _gather_bytes(pickle.dumps(value))]


def any_process(flag: bool) -> bool:
    """Whether the flag is True in at least one process; the same answer in all."""
    return any(gather_values(bool(flag)))


def barrier() -> None:
    """Returns when all processes have come here."""
    gather_values(None)


def call_on_main(work: Callable[[], T]) -> T:
    """Process 0 calls `work`, the others wait; all get what it returned (a value that pickle takes), or its error.

    Raises:
      UserError: `work` raised it, in process 0.
      RuntimeError: in the other processes, when `work` failed otherwise.
    """
    if process_count() == 1:
        return work()
    if not is_main():
        outcome: Any = gather_values(None)[0]
        if "error" in outcome:
            raise (UserError if outcome["user"] else RuntimeError)(outcome["error"])
        return outcome["value"]
    try:
        value = work()
    except Exception as error:
        gather_values({"error": f"{error}", "user": isinstance(error, UserError)})
        raise
    gather_values({"value": value})
    return value


def main_first(work: Callable[[], T]) -> T:
    """Every process calls `work`, process 0 first: the others find the files that it has made.

    Raises:
      UserError: `work` raised it in a process: all raise it then, with the number of that process unless it is 0.
    """
    done: list[T] = []
    call_on_main(lambda: done.append(work()))
    failure = ""
    if not done:
        try:
            done.append(work())
        except UserError as error:
            failure = f"{error}"
    failures = [(index, text) for index, text in enumerate(gather_values(failure)) if text]
    if failures:
        index, text = failures[0]
        raise UserError(f"process {index}: {text}")
    return done[0]


def require_same(what: str, value: Any) -> None:
    """Raises `UserError` in all processes, with the numbers of those that differ from process 0, unless all values are equal."""
    values = gather_values(value)
    other = [str(index) for index, found in enumerate(values) if found != values[0]]
    if other:
        here, there = _differing(values[0], values[int(other[0])])
        raise UserError(
            f"{what}: process {', '.join(other)} differs from process 0 ({there} instead of {here}); "
            "give all processes the same command and the same files"
        )


def _differing(one: Any, other: Any) -> tuple[Any, Any]:
    """Two values reduced to what differs: of mappings, only such entries."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one, other
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    parts = {key: _differing(one.get(key), other.get(key)) for key in keys}
    return {key: part[0] for key, part in parts.items()}, {key: part[1] for key, part in parts.items()}


def _gather_bytes(data: bytes) -> list[bytes]:
    # Values travel as bytes, because arrays on devices would lose float64 and int64.
    from jax.experimental import multihost_utils

    sizes = multihost_utils.process_allgather(np.array(len(data), np.int32)).tolist()
    unit = max(256, 2 ** (max(sizes).bit_length() - 4))  # few sizes, so that few programs are compiled
    padded = np.zeros(-(-max(sizes) // unit) * unit, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = multihost_utils.process_allgather(padded)
    return [gathered[index, :size].tobytes() for index, size in enumerate(sizes)]
