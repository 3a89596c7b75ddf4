"""The common face of all objectives, and the training step that is made of their gradients and `advance`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, cast

import jax
import jax.numpy as jnp
import optax

from beats_jax.models.statistics import COLLECTION
from beats_jax.objectives.metrics import Metrics, gradient_norms
from beats_jax.objectives.random_streams import Stream
from beats_jax.objectives.state.state import Params, State, apply_gradients
from beats_jax.parallel.mesh import shard_batch

S = TypeVar("S", bound=State)
LossFunction = Callable[[Params, Any, jax.Array], tuple[jax.Array, Metrics]]


class Batch(TypedDict):
    """The arrays of a batch; an objective reads some of them.

    Under names that begin with a prefix a batch holds further clips of another role ("negative_waveforms"): see `rows_of_role`.
    """

    waveforms: jax.Array  # float32 [B, S], 16 kHz, zeros behind the sound
    lengths: jax.Array  # int32 [B], samples
    positions: jax.Array  # int32 [B], place in the global batch: what random keys are made of
    rows: jax.Array  # int32 [B], row of the manifest, which is the recording; -1 = padding
    example_mask: jax.Array  # bool [B], False = the row could not be read, and counts for nothing
    labels: jax.Array  # int32 [B], or float32 [B, C] where a clip has several; missing where nothing is labelled
    gathered: NotRequired[jax.Array]  # bool [B], clips of one kind of sound that is to be gathered


def rows_of_role(batch: Batch, prefix: str) -> Batch:
    """The clips of a role, their arrays under the ordinary names; empty where the batch has none."""
    return cast(Batch, {name.removeprefix(prefix): array for name, array in batch.items() if name.startswith(prefix)})


@dataclass(frozen=True, eq=False, kw_only=True)
class Learner(ABC, Generic[S]):
    """What the training loop knows of an objective.

    Attributes:
      optimizer: turns gradients into updates.
      ema_decay: 0 = no average of the weights.
    """

    optimizer: optax.GradientTransformation
    ema_decay: float = 0.0

    @abstractmethod
    def init(self, key: jax.Array, batch: Any) -> S:
        """A state with random parameters; of `batch` only shapes matter."""

    @abstractmethod
    def update(self, state: S, batch: Any) -> tuple[S, Metrics]:
        """One step: the next state, and metrics with `gradient_norm` (before clipping)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Objective(Learner[S]):
    """One loss for all parameters. An objective that ends with a head also has `predict(params, batch)`.

    Attributes:
      accumulation_steps: parts in which a batch goes through the model.
    """

    accumulation_steps: int = 1

    @abstractmethod
    def gradients(self, state: S, batch: Batch) -> tuple[Params, Metrics, Any]:
        """Gradients like `state.params`, metrics, and what `advance` needs besides."""

    def advance(self, state: S, gradients: Params, found: Any) -> S:
        """The next state; `found`, the third result of `gradients`, is None or the batch statistics of `mean_statistics`."""
        return apply_gradients(state, gradients, self.optimizer, self.ema_decay, found)

    def update(self, state: S, batch: Batch) -> tuple[S, Metrics]:
        """One step: the next state, and the metrics of `gradients` with `gradient_norms` (before clipping)."""
        # In two halves, so that `Joint` can add its own gradients between those of another objective and that one's next state.
        gradients, metrics, found = self.gradients(state, batch)
        return self.advance(state, gradients, found), metrics | gradient_norms(gradients)


class SelfSupervised(Objective[S]):
    """An objective without labels. `params` and `weights` of its state hold the encoder as `model`."""

    @abstractmethod
    def begin(self, state: S, loaded: Params | None, batches: Callable[[], Iterator[Any]]) -> S:
        """The state of a new run: a fresh one with what comes from files and from the first batches.

        Args:
          loaded: parameters of the encoder to start from, nested arrays; None = random.
          batches: gives the training batches from the first on, as arrays on the devices; may be called once.
        """

    @abstractmethod
    def evaluate(self, weights: Params, batch: Batch) -> Metrics:
        """Figures of a batch without augmentation and dropout, `loss` among them. The same rows always give the same."""


STATISTICS = "_statistics"  # batch statistics, which `mean_statistics` takes out of the metrics


def apply_in_training(model: Any, params: Params, *inputs: Any, **options: Any) -> tuple[Any, Metrics]:
    """The model's output, and batch statistics as an entry of the metrics; no entry for a model without."""
    output, found = model.apply({"params": params}, *inputs, mutable=[COLLECTION], **options)
    return output, {STATISTICS: (found[COLLECTION], jnp.ones(()))} if found.get(COLLECTION) else {}


def mean_statistics(metrics: Metrics) -> Params | None:
    """Takes the batch statistics out of the metrics of `mean_gradients`: their mean over the parts of the batch, or None."""
    if STATISTICS not in metrics:
        return None
    total, parts = metrics.pop(STATISTICS)
    return jax.tree.map(lambda x: x.astype(jnp.float32) / parts, total)


def mean_gradients(loss: LossFunction, params: Params, batch: Any, key: jax.Array, parts: int) -> tuple[Params, Metrics]:
    """Gradient of (sum of the loss over the batch) / (its count), accumulated over `parts` parts of the batch.

    Args:
      loss: (params, part, key) -> (sum of the losses, metrics); `metrics["loss"]` is (the same sum, its count).
      batch: pytree of arrays [B, ...]; B is a multiple of `parts`.
      key: the step's, for randomness inside the model.
    Returns:
      gradients like `params`, and the metrics' sums over the whole batch. A batch with a count of 0 has zero gradients.
    """
    value_and_grad, model_key = jax.value_and_grad(loss, has_aux=True), jax.random.fold_in(key, Stream.MODEL)

    def sums(part: Any, index: Any) -> tuple[Params, Metrics]:
        (_, metrics), gradients = value_and_grad(params, shard_batch(part), jax.random.fold_in(model_key, index))
        return gradients, metrics

    if parts == 1:
        gradients, metrics = sums(batch, 0)
    else:
        # Part i is rows i, i + parts, i + 2 * parts ..., so that each device keeps its own rows.
        split = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), batch)
        shapes = jax.eval_shape(sums, jax.tree.map(lambda x: x[0], split), 0)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def add(total: Any, item: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, sums(*item)), None

        (gradients, metrics), _ = jax.lax.scan(add, zeros, (split, jnp.arange(parts)))
    # Sums are divided once, at the end: the result is that of the whole batch however unevenly valid rows fall into the parts.
    count = metrics["loss"][1]
    scale = jnp.where(count > 0, 1 / jnp.where(count > 0, count, 1), 0)
    return jax.tree.map(lambda g: g * scale, gradients), metrics
