"""The objectives by name. An objective is one file with a `build` like `supervised.build`, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import jax
import numpy as np
import optax

from beats_jax.config import Experiment
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

OBJECTIVES: dict[str, str] = {
    "supervised": "beats_jax.objectives.supervised:build",
    "masked_prediction": "beats_jax.objectives.masked_prediction:build",
    "contrastive": "beats_jax.objectives.contrastive:build",
    "joint": "beats_jax.objectives.joint:build",
    "eat": "beats_jax.objectives.eat:build",
    "tokenizer": "beats_jax.objectives.tokenizer:build",
}


class Objective(Protocol):
    """The face that the training loop knows. Its state has `step`, `params` and `weights` (see `objectives.state.State`)."""

    def init(self, key: jax.Array, batch: Any) -> Any:
        """A fresh state; of `batch` only shapes matter."""
        ...

    def update(self, state: Any, batch: Any) -> tuple[Any, dict[str, tuple[jax.Array, jax.Array]]]:
        """The next state, and metrics as {name: (sum, count)}."""
        ...


class SelfSupervised(Objective, Protocol):
    """What the objectives without labels have besides. `params` and `weights` of their state hold the encoder as `model`."""

    def begin(self, state: Any, loaded: Any, batches: Callable[[], Iterator[Any]]) -> Any:
        """The state of a new run: a fresh one with what comes from files and from the first batches.

        Args:
          loaded: parameters of the encoder to start from, nested arrays; None = random.
          batches: gives the training batches from the first on, as arrays on the devices; may be called once.
        """
        ...

    def evaluate(self, weights: Any, batch: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Figures of a batch as it is, {name: (sum, count)} with `loss` among them; deterministic."""
        ...


def build(
    experiment: Experiment, vocabulary: Any, optimizer: optax.GradientTransformation, class_counts: np.ndarray | None
) -> Any:
    """The objective that `experiment.objective.name` asks for.

    Raises:
      UserError: an unknown name; the nearest known one is named.
    """
    name = experiment.objective.name
    if name not in OBJECTIVES:
        raise UserError(f"objective.name is {name!r}; {nearest(name, list(OBJECTIVES))}")
    module, function = OBJECTIVES[name].split(":")
    return getattr(import_module(module), function)(experiment, vocabulary, optimizer, class_counts)
