"""Writers of Perch-Hoplite databases to be killed: run as a process of its own, without JAX, so that it can fork.

python tests/hoplite_writer.py write FOLDER    one update a recording, ten of them, into FOLDER/db
python tests/hoplite_writer.py steps FOLDER    an update killed at each of its steps in the file system; prints what it left
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from beats_jax.inference.hoplite.read import read_database
from beats_jax.inference.hoplite.write import Model, Rows, update_database

DIMENSION, WINDOWS, RECORDINGS = 16, 40, 10
MODEL = Model(DIMENSION, {"model_key": "beats_jax", "embedding_dim": DIMENSION, "model_config": {"model": "a test"}}, 16_000)
ROOT = Path("/recordings")  # nothing is read there
STEPS = ("open", "os.", "shutil.", "sqlite3.connect", "ctypes.", "fcntl.")  # audit events that touch files


def recording(number: int) -> Rows:
    """Windows of a recording with vectors of length 1."""
    draw = np.random.default_rng(number)
    vectors = draw.standard_normal((WINDOWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = 2.5 * np.arange(WINDOWS)
    columns = {"site": f"site {number % 2}", "temperature_c": 20.5 - number, "latitude": 47.5, "longitude": 8.25 + number % 2}
    file = str(ROOT / f"site {number % 2}" / f"{number}.wav")
    return Rows(file, f"2026-04-12T05:{number:02d}:00+02:00", columns, np.column_stack([starts, starts + 5]), vectors)


def update(folder: Path, *numbers: int) -> None:
    """Adds these recordings to FOLDER/db."""
    update_database(folder / "db", MODEL, [recording(number) for number in numbers], [ROOT])


def contents(database: Path) -> dict[tuple[str, float, float], bytes]:
    """What stands in a database, which `read_database` finds whole."""
    if not database.exists():
        return {}
    found = read_database(database)
    places = zip(found.files, found.starts.tolist(), found.ends.tolist(), strict=True)
    return {place: vector.tobytes() for place, vector in zip(places, found.embeddings, strict=True)}


def fork(task: Callable[[], None]) -> int:
    """Runs a task in a copy of this process; returns its exit status."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  a copy of the process must end here
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, task: Callable[[], None]) -> bool:
    """Whether the task was ended before that step in the file system (else it had fewer)."""

    def run() -> None:
        left = [step]

        def hook(event: str, _: object) -> None:
            if event.startswith(STEPS):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        task()

    status = fork(run)
    assert status in (0, 9), status
    return status == 9


def every_step(folder: Path) -> Counter[str]:
    """Kills an update of 3 recordings by 2 at every step; counts how often the old and the new database stood there after it."""
    start, whole, place = folder / "start", folder / "whole", folder / "place"
    for of, numbers in ((start, (0, 1, 2)), (whole, (0, 1, 2, 3, 4))):
        of.mkdir()
        assert fork(lambda of=of, numbers=numbers: update(of, *numbers)) == 0
    old, new = contents(start / "db"), contents(whole / "db")
    found: Counter[str] = Counter()
    for step in range(10_000):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(start, place)
        killed = killed_at(step, lambda: update(place, 0, 1, 2, 3, 4))
        for known in ("after the kill", "after the next call"):
            left = contents(place / "db")
            assert left in (old, new), f"step {step}"
            if known == "after the kill":
                found["new" if left == new else "old"] += 1
                assert fork(lambda: update(place, 0, 1, 2, 3, 4)) == 0
        assert left == new
        assert sorted(entry.name for entry in place.iterdir()) == [".db.lock", "db"]
        if not killed:
            return found
    raise AssertionError("the update never ends")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        print("ready", flush=True)
        for last in range(1, RECORDINGS + 1):
            update(Path(sys.argv[2]), *range(last))
    else:
        print(dict(every_step(Path(sys.argv[2]))))
