"""Bootstrap intervals of every metric at once.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over groups: whole recordings are drawn with replacement, because the
clips of one recording are not independent and drawing clips would make intervals too narrow. A resample is a set of integer
example weights, so a metric that takes weights needs no loop over resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beats_jax.evaluation.metrics import Evaluator, Metrics

CONFIDENCE = 0.95
# Weights held at a time (float32): bounds memory whatever the number of examples, and keeps a block near the processor.
_BLOCK_ELEMENTS = 2**22


def group_numbers(groups: Sequence[object] | np.ndarray | None, num_examples: int) -> np.ndarray:
    """int [N], numbered from 0 in order of first appearance. Without groups every example is its own.

    Raises:
      ValueError: the number of groups is not the number of examples.
    """
    if groups is None:
        return np.arange(num_examples)
    if len(groups) != num_examples:
        raise ValueError(f"{len(groups)} groups for {num_examples} examples")
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.int64)


def resample_weights(rng: np.random.Generator, num_groups: int, resamples: int) -> np.ndarray:
    """float32 [G, R]: how often each group was drawn in each resample; every column adds up to G."""
    draws = rng.integers(0, num_groups, size=(resamples, num_groups))
    flat = draws + num_groups * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=num_groups * resamples).reshape(resamples, num_groups)
    return np.ascontiguousarray(counts.T, dtype=np.float32)


def bootstrap(evaluator: Evaluator, groups: np.ndarray, *, resamples: int, seed: int) -> Metrics | None:
    """95 % percentile intervals of all metrics.

    Args:
      groups: int [N] from `group_numbers`.
      resamples: number of resamples; 0 = no intervals.
      seed: the same seed gives the same intervals, bit for bit.
    Returns:
      Each metric as (low, high): overall [2], per class [C, 2], float64. A resample in which a metric is undefined is left out
      of its interval; NaN where it was defined in none. None if there are fewer than two groups or no resamples: nothing varies
      then.
    """
    num_groups = int(groups.max()) + 1 if groups.size else 0
    if num_groups < 2 or resamples == 0:
        return None
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, _BLOCK_ELEMENTS // len(groups)))
    parts = []
    for start in range(0, resamples, block):
        weights = resample_weights(rng, num_groups, min(block, resamples - start))
        # float32 holds whole numbers exactly up to 2**24, and sums in a resample are about N.
        weights = weights[groups] if len(groups) < 2**22 else weights[groups].astype(np.float64)
        parts.append(evaluator.metrics(weights))
    return Metrics(
        overall={name: _interval([part.overall[name] for part in parts]) for name in parts[0].overall},
        classes={name: _interval([part.classes[name] for part in parts]) for name in parts[0].classes},
    )


def _interval(blocks: list[np.ndarray]) -> np.ndarray:
    """[..., 2] from blocks [..., r]: the 2.5 % and 97.5 % points of what is defined."""
    values = np.concatenate(blocks, axis=-1)
    tail = 100 * (1 - CONFIDENCE) / 2
    rows = values.reshape(-1, values.shape[-1])
    bounds = np.full((len(rows), 2), np.nan)
    for row, bound in zip(rows, bounds, strict=True):
        defined = row[~np.isnan(row)]
        if defined.size:
            bound[:] = np.percentile(defined, (tail, 100 - tail))
    return bounds.reshape(*values.shape[:-1], 2)
