"""Memory of mapped files is given back, and nothing is lost."""

import mmap
from pathlib import Path

import numpy as np

from beats_jax.weights.raw import release


def resident(mapped, place):
    """KiB of a mapping of this file in memory, as Linux counts them."""
    found = 0
    if not Path("/proc/self/smaps").exists():
        return found
    with open("/proc/self/smaps") as file:
        inside = False
        for line in file:
            if "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
                inside = str(place) in line
            elif inside and line.startswith("Rss:"):
                found += int(line.split()[1])
    return found


def test_a_view_is_dropped_from_memory_and_reads_the_same(tmp_path):
    place = tmp_path / "values"
    np.arange(1 << 20, dtype=np.float32).tofile(place)
    with place.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    values = np.frombuffer(mapped, np.uint8)[4096 + 4 :].view(np.float32)
    values = np.lib.stride_tricks.as_strided(values, (512, 1024), (4096, 4)).T
    total = values.sum(dtype=np.float64)
    before = resident(mapped, place)
    release(values)
    if before:
        assert before - resident(mapped, place) >= 2000  # of 2048 KiB
    assert values.sum(dtype=np.float64) == total
    release(values[:, :0])


def test_other_arrays_are_left_alone():
    values = np.arange(4.0)
    release(values)
    release(values[::2])
    np.testing.assert_array_equal(values, [0, 1, 2, 3])
