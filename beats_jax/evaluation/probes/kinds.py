"""The probes by name, with the settings that a sweep tries. A new probe is one function and one line here.

A linear probe trained by SGD or Adam is not among them: it stops before the minimum of the objective of `logistic`, so its
learning rate and epochs only add another, less even penalty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from beats_jax.config.validation import nearest
from beats_jax.errors import UserError
from beats_jax.evaluation.probes.linear import ridge_logits
from beats_jax.evaluation.probes.logistic import logistic_logits
from beats_jax.evaluation.probes.nearest import knn_logits, prototype_logits

Setting = float | int | str


class Kind(NamedTuple):
    """A probe for a row of R settings at once."""

    # (train [n, D], targets [n, C], weights [n], test [m, D], settings, multi_label) → logits float32 [R, m, C]
    logits: Callable[..., jax.Array]
    setting: str  # what the settings are called
    settings: tuple[Setting, ...]  # R of them, the simplest model first
    multi_label: bool = True  # whether it supports several labels an example


def _logistic(train: Any, targets: Any, weights: Any, test: Any, settings: Sequence[Any], multi_label: bool) -> jax.Array:
    return logistic_logits(train, targets, weights, test, jnp.asarray(settings, jnp.float32), multi_label)


def _ridge(train: Any, targets: Any, weights: Any, test: Any, settings: Sequence[Any], multi_label: bool) -> jax.Array:
    return ridge_logits(train, targets, weights, test, jnp.asarray(settings, jnp.float32))


def _prototype(train: Any, targets: Any, weights: Any, test: Any, settings: Sequence[Any], multi_label: bool) -> jax.Array:
    return prototype_logits(train, targets, weights, test, settings)


KINDS: dict[str, Kind] = {
    "logistic": Kind(_logistic, "C", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)),
    "ridge": Kind(_ridge, "alpha", (1e5, 1e4, 1e3, 1e2, 10.0, 1.0, 0.1, 0.01)),
    "knn": Kind(knn_logits, "k", (25, 15, 10, 7, 5, 3, 1)),
    "prototype": Kind(_prototype, "distance", ("cosine", "euclid"), multi_label=False),
}


def find_kind(name: str) -> Kind:
    """The probe of that name. Raises `UserError` naming the nearest known one."""
    if name not in KINDS:
        raise UserError(f"probe kind {name!r} is not known; {nearest(name, list(KINDS))}")
    return KINDS[name]


def usable_settings(name: str, examples: int) -> tuple[Setting, ...]:
    """The settings of a probe that make sense with so many training examples: no more neighbours than half of them (or 1)."""
    settings = find_kind(name).settings
    if name != "knn":
        return settings
    return tuple(count for count in settings if isinstance(count, int) and count <= max(1, examples // 2))
