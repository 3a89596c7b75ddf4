"""A few lines before the first step of a run: model size, memory, windows beside the durations of the rows, and length."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from beats_jax.config import DataConfig, Experiment
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.windows import row_bounds
from beats_jax.objectives.state.state import path_name
from beats_jax.training.compilation import megabytes

PADDED_SHARE = 0.4  # of the input; from here on a shorter window saves that share of time and memory


def start_report(experiment: Experiment, state: Any, frozen: Sequence[str], rows: Manifest, steps: int, epoch: int) -> list[str]:
    """The lines.

    Args:
      state: the state to train (`objectives.state.State`, arrays or their shapes).
      frozen: regular expressions on whole parameter paths that do not learn.
      rows: training rows, validated.
      steps, epoch: of the run, and of one epoch.
    """
    data = experiment.data
    batches = f"{steps} steps of {data.batch_size} windows, {steps / epoch:.3g} epochs of {epoch} steps"
    return [
        f"parameters: {parameter_line(state.params, frozen)}",
        f"memory: {memory_line(state, frozen)}",
        f"windows: {window_line(data, rows)}",
        f"length: {batches}",
        *(f"warning: {line}" for line in window_warnings(data, rows)),
    ]


def parameter_line(params: Any, frozen: Sequence[str]) -> str:
    """`90.3 million: 0.00769 million learn, 90.3 million frozen`."""
    learnt, still = (sum(math.prod(leaf.shape) for leaf in leaves) for leaves in _split_params(params, frozen))
    return f"{_millions(learnt + still)}: {_millions(learnt)} learn, {_millions(still)} are frozen"


def memory_line(state: Any, frozen: Sequence[str]) -> str:
    """Bytes of the state and its gradients; the work memory of a step is known when it is compiled."""
    weights, optimizer, whole = (_bytes(jax.tree.leaves(part)) for part in (state.params, state.opt_state, state))
    gradients, others = _bytes(_split_params(state.params, frozen)[0]), whole - weights - optimizer
    parts = {"weights": weights, "gradients": gradients, "optimizer": optimizer, "averages, teachers and banks": others}
    named = ", ".join(f"{name} {megabytes(size)}" for name, size in parts.items() if size >= 5e5)
    return f"{megabytes(whole + gradients)} on all devices together ({named or 'all small'}), without activations"


def window_line(data: DataConfig, rows: Manifest) -> str:
    """The window beside the durations of the rows."""
    seconds = _seconds(rows)
    return (
        f"{data.window_seconds:g} s; {len(rows)} training rows of {_round(seconds.min())} to {_round(seconds.max())} s, "
        f"median {_round(np.median(seconds))} s"
    )


def window_warnings(data: DataConfig, rows: Manifest) -> list[str]:
    """A sentence with the remedy where much of the input would be padding, or an epoch leaves out most of the sound."""
    seconds, window = _seconds(rows), data.window_seconds
    padded = 1 - float(np.minimum(seconds, window).mean()) / window
    if padded >= PADDED_SHARE:
        fitting = max(0.1, math.ceil(float(np.quantile(seconds, 0.9)) * 10) / 10)
        return [
            f"{padded:.0%} of what the model reads is padding: the window is {window:g} s, nine rows of ten last {fitting:g} s "
            f"at most; --config.data.window_seconds={fitting:g} saves that share of time and memory"
        ]
    visited = float(np.minimum(seconds, window).sum() / seconds.sum())
    if data.draw == "rows" and visited <= 1 - PADDED_SHARE:
        return [
            f"an epoch reads {visited:.0%} of the recorded time, one window of {window:g} s of every row; "
            "--config.data.draw=time reads all of it"
        ]
    return []


def _seconds(rows: Manifest) -> np.ndarray:
    starts, ends = row_bounds(rows)
    return ends - starts


def _split_params(params: Any, frozen: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Leaves that are trained, and frozen ones."""
    found = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]
    still = [any(re.fullmatch(pattern, name) for pattern in frozen) for name, _ in found]
    named = list(zip(still, (leaf for _, leaf in found), strict=True))
    return [leaf for held, leaf in named if not held], [leaf for held, leaf in named if held]


def _bytes(leaves: Sequence[Any]) -> int:
    """Of arrays; random keys and other opaque types hold next to nothing."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves if hasattr(leaf.dtype, "kind"))


def _millions(number: int) -> str:
    return f"{number / 1e6:.3g} million" if number >= 1e5 else str(number)


def _round(seconds: float) -> str:
    return f"{seconds:.2f}".rstrip("0").rstrip(".")
