"""Batch statistics as leaves of a model's parameters, so that they are saved, averaged and loaded with them.

A norm `bn1` has `scale`, `bias`, `mean`, `var`, `count` in the one tree of parameters; a Linen module holds the last three in the
collection `batch_stats`. No optimizer changes them (`CONSTANTS`); `objectives.state.state.apply_gradients` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

COLLECTION = "batch_stats"
NAMES = {"mean", "var", "count"}
CONSTANTS = (r"(.*/)?(mean|var|count)",)  # paths of statistics


@dataclass(frozen=True)
class WithStatistics:
    """A Linen module whose batch statistics are among its parameters: `init` and `apply` as those of the module.

    `apply(..., mutable=[COLLECTION])` returns the output and `{COLLECTION: statistics}` moved by the batch, as `join` takes them.
    """

    module: nn.Module

    def init(self, *args: Any, **options: Any) -> dict[str, Any]:
        """{"params": one tree}."""
        return {"params": join(self.module.init(*args, **options))}

    def apply(self, variables: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """As `nn.Module.apply`, of {"params": one tree}."""
        return self.module.apply(split(variables["params"]), *args, **options)


def join(variables: Mapping[str, Any]) -> Any:
    """{"params", "batch_stats"} as one tree of floating point leaves."""
    return with_statistics(variables["params"], variables.get(COLLECTION, {}))


def with_statistics(params: Any, statistics: Any) -> Any:
    """The tree of parameters with these statistics, in place of older ones or added."""
    joined = dict(params)
    for name, branch in statistics.items():
        nested = isinstance(branch, Mapping)
        joined[name] = with_statistics(joined.get(name, {}), branch) if nested else jnp.asarray(branch, jnp.float32)
    return joined


def without_frozen(statistics: Any, frozen: Sequence[str], path: str = "") -> Any:
    """The statistics without those whose whole path matches one of the regular expressions."""
    kept = {}
    for name, branch in statistics.items():
        if isinstance(branch, Mapping):
            kept[name] = without_frozen(branch, frozen, f"{path}{name}/")
        elif not any(re.fullmatch(pattern, path + name) for pattern in frozen):
            kept[name] = branch
    return kept


def split(params: Any) -> dict[str, Any]:
    """{"params", "batch_stats"} of one tree."""
    return {"params": _select(params, False), COLLECTION: _select(params, True)}


def _select(params: Any, statistics: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, branch in params.items():
        if isinstance(branch, Mapping):
            chosen = _select(branch, statistics)
            if chosen:
                found[name] = chosen
        elif (name in NAMES) == statistics:
            found[name] = branch.astype(jnp.int32) if name == "count" else branch
    return found
