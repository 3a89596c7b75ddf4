"""Bootstrap intervals of every metric at once.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over groups: whole recordings are drawn with replacement, because the
clips of one recording are not independent and drawing clips would make intervals too narrow. A resample is a whole weight for
each group; `resampling` turns many resamples at a time into metrics, and threads share the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from beats_jax.evaluation.metrics.classification import Evaluator, Metrics
from beats_jax.evaluation.metrics.resampling import ResamplingPlan

CONFIDENCE = 0.95
_STREAM = 64  # resamples that one random stream draws: whatever the blocks and threads are, the draws are the same
_DRAWS = 2**17  # random numbers at a time
_BLOCK_WEIGHTS = 2**25  # of one thread at a time: bounds memory whatever the number of groups
_MOST_THREADS = 8


def group_numbers(groups: Sequence[object] | np.ndarray | None, num_examples: int) -> np.ndarray:
    """int [N], numbered from 0 in order of first appearance; without groups every example is its own. ValueError unless [N]."""
    if groups is None:
        return np.arange(num_examples)
    if len(groups) != num_examples:
        raise ValueError(f"{len(groups)} groups for {num_examples} examples")
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.int64)


def resample_weights(seed: int, num_groups: int, start: int, stop: int, dtype: type = np.uint32) -> np.ndarray:
    """[G, stop - start]: how often each group was drawn in the resamples `start` to `stop`; every column adds up to G.

    `start` is a multiple of 64. A resample depends on the seed, the number of groups and its own number only.
    """
    weights = np.empty((num_groups, stop - start), dtype)
    for first in range(start, stop, _STREAM):
        rng = np.random.default_rng([seed, first // _STREAM])
        rows = max(1, min(_STREAM, _DRAWS // num_groups))
        counts = np.empty((_STREAM, num_groups), dtype)
        for row in range(0, _STREAM, rows):
            size = min(rows, _STREAM - row)
            draws = rng.integers(0, num_groups, size=(size, num_groups)) + num_groups * np.arange(size)[:, None]
            counts[row : row + size] = np.bincount(draws.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        number = min(_STREAM, stop - first)
        weights[:, first - start : first - start + number] = counts[:number].T
    return weights


def resampled_metrics(evaluator: Evaluator, groups: np.ndarray, *, resamples: int, seed: int) -> Metrics | None:
    """Every metric in every resample: overall [R], per class [C, R], float64, NaN where undefined; arguments as in `bootstrap`.

    The same seed and groups give the same resamples to any evaluator, so differences are paired. 40 bytes per class and resample.
    None with fewer than two groups or no resamples.
    """
    num_groups = int(groups.max()) + 1 if groups.size else 0
    if num_groups < 2 or resamples == 0:
        return None
    block = _block_size(num_groups, evaluator.truth.shape[1])
    plan = ResamplingPlan(evaluator, groups, block)

    def measure(start: int) -> Metrics:
        return plan.metrics(resample_weights(seed, num_groups, start, min(start + block, resamples), plan.dtype))

    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(measure, range(0, resamples, block)))

    def join(k: int) -> dict[str, np.ndarray]:
        return {name: np.concatenate([part[k][name] for part in parts], axis=-1) for name in parts[0][k]}

    return Metrics(join(0), join(1))


def _block_size(num_groups: int, num_classes: int) -> int:
    """Resamples at a time: enough to pay for the calls of a step, few enough for the weights to stay in a cache."""
    wanted = int(np.clip(12_800 // max(1, num_classes), 128, 2048))
    most = max(_STREAM, _BLOCK_WEIGHTS // num_groups)
    return max(_STREAM, min(wanted, most) // _STREAM * _STREAM)


def bootstrap(evaluator: Evaluator, groups: np.ndarray, *, resamples: int, seed: int) -> Metrics | None:
    """95 % percentile intervals of all metrics; the same seed (>= 0) gives the same bits.

    Args:
      groups: int [N] from `group_numbers`. resamples: 0 = no intervals.
    Returns:
      (low, high) of each metric: overall [2], per class [C, 2], float64. Resamples in which a metric is undefined do not count
      for it; NaN where it is always undefined. None with fewer than two groups or no resamples.
    """
    found = resampled_metrics(evaluator, groups, resamples=resamples, seed=seed)
    if found is None:
        return None
    overall, classes = ({name: percentile_interval(values) for name, values in part.items()} for part in found)
    return Metrics(overall, classes)


def percentile_interval(values: np.ndarray) -> np.ndarray:
    """[..., 2] from values [..., R]: the 2.5 % and 97.5 % points of the defined values; NaN without any."""
    tail = 100 * (1 - CONFIDENCE) / 2
    rows = values.reshape(-1, values.shape[-1])
    bounds = np.full((len(rows), 2), np.nan)
    for row, bound in zip(rows, bounds, strict=True):
        defined = row[~np.isnan(row)]
        if defined.size:
            bound[:] = np.percentile(defined, (tail, 100 - tail))
    return bounds.reshape(*values.shape[:-1], 2)
