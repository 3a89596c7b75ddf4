"""AST's learnt positions on another grid (YuanGongND/ast src/models/ast_models.py, constructor).

One rule serves both of its starts, DeiT's 24 x 24 image patches and AudioSet's 12 x 101: an axis that becomes shorter is cropped
about its centre, one that becomes longer is interpolated; time first, then frequency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from beats_jax.config import ASTConfig

SPECIAL = 2  # positions of CLS and DIST stay as they are
STRIDES = ("frequency_stride", "time_stride")


def resize(
    config: ASTConfig, params: Mapping[str, Any], frames: int, num_mel_bins: int, wanted: ASTConfig
) -> tuple[ASTConfig, dict[str, Any]]:
    """The same model for filterbanks [frames, num_mel_bins]: only its positions change, by `adapt_positions`.

    Args:
      wanted: strides of it that are not the defaults replace the model's.
    """
    plain = ASTConfig()
    asked = {name: getattr(wanted, name) for name in STRIDES}
    strides = {name: value for name, value in asked.items() if value != getattr(plain, name)}
    after = replace(config, max_length=frames, num_mel_bins=num_mel_bins, **strides)
    return after, {**params, "positions": adapt_positions(np.asarray(params["positions"]), config.grid, after.grid)}


def adapt_positions(positions: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """Positions for another grid.

    Args:
      positions: float [2 + f * t, D], CLS and DIST first, then the patches, frequency-major.
      before: (f, t) of the grid they were learnt on.
      after: (f, t) wanted.
    Returns:
      float32 [2 + f' * t', D].
    Raises:
      ValueError: the number of positions is not that of `before`.
    """
    if len(positions) != SPECIAL + before[0] * before[1]:
        raise ValueError(f"{len(positions)} positions are not {SPECIAL} + {before[0]} x {before[1]}")
    table = np.asarray(positions[SPECIAL:], np.float32).reshape(*before, -1)
    table = _resize_axis(_resize_axis(table, 1, after[1]), 0, after[0])
    return np.concatenate([np.asarray(positions[:SPECIAL], np.float32), table.reshape(after[0] * after[1], -1)])


def _resize_axis(table: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Crops an axis about its centre, or interpolates it linearly between the centres of its cells, ends held."""
    have = table.shape[axis]
    if length <= have:
        start = have // 2 - length // 2
        return table.take(range(start, start + length), axis=axis)
    places = np.clip((np.arange(length) + 0.5) * (have / length) - 0.5, 0, have - 1)  # half-pixel centres, as torch
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, have - 1)
    shape = [1] * table.ndim
    shape[axis] = length
    share = (places - low).astype(np.float32).reshape(shape)
    return table.take(low, axis=axis) * (1 - share) + table.take(high, axis=axis) * share


def patch_kernel_from_rgb(weight: np.ndarray) -> np.ndarray:
    """Patch convolution of an image model for one channel: float [D, 3, P, P] → [D, 1, P, P], the sum over colours."""
    return np.asarray(weight).sum(axis=1, keepdims=True)
