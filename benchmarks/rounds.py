"""What benchmarks share: time by the clock and by the processor, sides that take turns, ratios between neighbours in time.

Every ratio is also handed over to `run.py`, which starts the scripts with the name of a file in `HANDED_OVER`.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

HANDED_OVER = "BEATS_JAX_BENCHMARK_RATIOS"


def hand_over(case: str, method: str, ratios: Sequence[float] | np.ndarray) -> None:
    """Adds the ratios of the rounds, or one figure, to the file that `run.py` reads, if it started the script."""
    if name := os.environ.get(HANDED_OVER):
        with open(name, "a", encoding="utf-8") as file:
            values = [float(ratio) for ratio in np.atleast_1d(ratios)]
            file.write(json.dumps({"case": case, "method": method, "ratios": values}) + "\n")


def timed(compute: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of this process."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    compute()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def take_turns(methods: Mapping[str, Callable[[int], tuple[float, float]]], rounds: int) -> dict[str, np.ndarray]:
    """[rounds, 2] seconds and CPU seconds of each method; a method takes the number of warm runs to make first (1, then 0)."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for index in range(rounds):
        for name, method in methods.items():
            results[name].append(method(1 if index == 0 else 0))
    return {name: np.array(values) for name, values in results.items()}


def here(compute: Callable[[], Any]) -> Callable[[int], tuple[float, float]]:
    """A method of `take_turns` that runs in this process."""
    return lambda warm: [timed(compute) for _ in range(warm + 1)][-1]


def print_rows(case: str, results: Mapping[str, np.ndarray], rivals: str) -> None:
    """Table rows of a case; ratios are to the fastest method whose name begins with `rivals` (the first one where none does)."""
    base_names = [method for method in results if method.startswith(rivals)] or list(results)[:1]
    base = results[min(base_names, key=lambda method: np.median(results[method][:, 0]))][:, 0]
    for method, values in results.items():
        seconds, cpu = values[:, 0], values[:, 1]
        ratio, best = np.median(base / seconds), base.min() / seconds.min()
        hand_over(case, method, base / seconds)
        times = f"{np.median(seconds) * 1e3:.0f} ({seconds.min() * 1e3:.0f})"
        print(f"| {case} | {method} | {times} | {ratio:.2f} ({best:.2f}) | {np.median(cpu):.1f} |", flush=True)
