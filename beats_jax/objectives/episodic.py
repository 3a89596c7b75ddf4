"""Few-shot learning by episodes: prototypical, matching and relation networks on any encoder (letters: see `models.fewshot`).

waveforms [B, S] of E whole episodes (`datasets.episode_batches`) -> objectives.inputs -> fbank [B, F, M] -> encoder, all clips at
once -> items [E, W K + W Q, ...] -> head, mapped over the episodes -> scores [E, W Q, W]
loss = mean over the readable queries: cross-entropy of the scores; relation: squared distance to one-hot, mean over the classes

Upstream passes support and queries through the encoder one after the other, so that its batch statistics are of each alone; here
they are of all clips of a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from beats_jax.config import EpisodicConfig, Experiment, ModelConfig
from beats_jax.models import registry
from beats_jax.models.fewshot.heads import FewShotHead, to_maps
from beats_jax.models.heads import pool
from beats_jax.models.statistics import WithStatistics, without_frozen
from beats_jax.objectives.inputs import Frontend, masking_frontend
from beats_jax.objectives.metrics import Metrics, masked_sum
from beats_jax.objectives.objective import (
    STATISTICS,
    Batch,
    Objective,
    apply_in_training,
    mean_gradients,
    mean_statistics,
)
from beats_jax.objectives.random_streams import model_rngs
from beats_jax.objectives.state.state import State, create
from beats_jax.parallel.mesh import shard_batch

Items = Float[Array, "clips ..."]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Episodic(Objective[State]):
    """Few-shot classification of the queries of an episode.

    Attributes:
      model: the encoder; its parameters are `model`.
      head: what compares queries with the support; its parameters, where it has some, are `head`.
      frontend: always gives a mask of real tokens, whatever the model attends to.
    """

    model: nn.Module | WithStatistics
    model_config: ModelConfig
    head: FewShotHead
    frontend: Frontend
    config: EpisodicConfig
    frozen_statistics: tuple[str, ...] = ()

    def init(self, key: jax.Array, batch: Batch) -> State:
        model_key, head_key, run_key = jax.random.split(key, 3)
        fbank, token_mask = self.frontend.evaluation(batch)
        params = {"model": self.model.init({"params": model_key}, fbank, self._attended(token_mask))["params"]}
        items = jax.eval_shape(self._items, params, fbank, token_mask)
        found = self.head.init(head_key, items.shape[1:])
        if found is not None:
            params["head"] = found
        return create(params, run_key, self.optimizer, average=self.ema_decay > 0)

    def gradients(self, state: State, batch: Batch) -> tuple[Any, Metrics, Any]:
        """See `Objective`; the parts of an accumulated step are episodes. Labels are not read: places in the batch give them."""
        key, episodes = jax.random.fold_in(state.key, state.step), self.config.episodes_per_step
        fbank, token_mask, _ = self.frontend.training(key, batch, jnp.zeros((batch["positions"].shape[0], 1)))
        prepared = {"fbank": fbank, "token_mask": token_mask, "read": batch["example_mask"]}
        prepared = jax.tree.map(lambda x: x.reshape(episodes, -1, *x.shape[1:]), prepared)
        gradients, metrics = mean_gradients(self._loss, state.params, prepared, key, self.accumulation_steps)
        statistics = mean_statistics(metrics)
        return gradients, metrics, None if statistics is None else without_frozen(statistics, self.frozen_statistics)

    def predict(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`items`, what the head compares, of every row without augmentation: float32 [B, D], for relation [B, H, W, C]."""
        return {"items": self._items(params, *self.frontend.evaluation(batch))}

    def export_params(self, params: Any) -> Any:
        """The parameters of the encoder alone."""
        return params["model"]

    def _attended(self, token_mask: jax.Array | None) -> jax.Array | None:
        return registry.family(self.model_config).attention_mask(token_mask)

    def _items(self, params: Any, fbank: jax.Array, token_mask: Any) -> Items:
        output: Any = self.model.apply({"params": params["model"]}, fbank, self._attended(token_mask))
        return self._reduced(output.features, token_mask, fbank.shape[1])

    def _reduced(self, features: jax.Array, token_mask: jax.Array, frames: int) -> Items:
        special = registry.family(self.model_config).num_special
        if self.head.reads_maps:
            return to_maps(self.model_config, features[:, special:], token_mask[:, special:], frames)
        return pool(features, token_mask, self.config.pooling, special)

    def _loss(self, params: Any, part: Mapping[str, Any], key: jax.Array) -> tuple[jax.Array, Metrics]:
        """Sum of the losses of the queries of some episodes, and (sum, count) of what is reported."""
        episodes = part["read"].shape[0]
        fbank, token_mask = shard_batch(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (part["fbank"], part["token_mask"])))
        inputs, options = (fbank, self._attended(token_mask)), {"deterministic": False, "rngs": model_rngs(key)}
        output, statistics = apply_in_training(self.model, params["model"], *inputs, **options)
        items = self._reduced(output.features, token_mask, fbank.shape[1])
        support, query, valid = self.divide(items.reshape(episodes, -1, *items.shape[1:]), part["read"])
        scores, moved = self.head.scores_in_training(params.get("head"), support, query)
        targets = jnp.broadcast_to(self.targets(), scores.shape)
        losses = self.head.losses(scores, targets)
        right = jnp.argmax(scores, axis=-1) == jnp.argmax(targets, axis=-1)
        loss = masked_sum(losses, valid)
        found = {name: tree for name, tree in (("model", statistics.get(STATISTICS, (None,))[0]), ("head", moved)) if tree}
        joined = {STATISTICS: (found, jnp.ones(()))} if found else {}
        return loss[0], {"loss": loss, "accuracy": masked_sum(right, valid), **joined}

    def targets(self) -> Float[Array, "queries ways"]:
        """One-hot classes of the queries of an episode."""
        return jnp.repeat(jnp.eye(self.config.n_way), self.config.n_query, axis=0)

    def divide(
        self, items: Float[Array, "episodes clips ..."], read: Bool[Array, "episodes clips"]
    ) -> tuple[jax.Array, jax.Array, Bool[Array, "episodes queries"]]:
        """Support [E, W, K, ...], queries [E, W Q, ...] and which of these count.

        A clip of the support that could not be read becomes the mean of the others of its class, which leaves their mean
        unchanged; an episode in which a class has none counts for nothing.
        """
        ways, shots = self.config.n_way, self.config.n_shot
        own = items[:, : ways * shots].reshape(len(items), ways, shots, *items.shape[2:])
        there = read[:, : ways * shots].reshape(len(items), ways, shots)
        mask = there.reshape(*there.shape, *(1,) * (own.ndim - 3))
        number = jnp.maximum(jnp.sum(mask, axis=2, keepdims=True), 1)
        mean = jnp.sum(jnp.where(mask, own, 0.0), axis=2, keepdims=True) / number
        whole = jnp.all(jnp.any(there, axis=2), axis=1)
        return jnp.where(mask, own, mean), items[:, ways * shots :], read[:, ways * shots :] & whole[:, None]


def build(experiment: Experiment, optimizer: optax.GradientTransformation, **_: Any) -> Episodic:
    """The objective of an experiment; classes are places in episodes, so that it needs no vocabulary."""
    config, training = experiment.objective, experiment.training
    precision = training.precision
    assert isinstance(config, EpisodicConfig)
    model_config = dataclasses.replace(experiment.model, predictor_class=0)
    form = registry.form_for(model_config, training.attention, precision, training.remat)
    return Episodic(
        model=registry.build(model_config, precision, form),
        model_config=model_config,
        head=FewShotHead(config.method),
        frontend=masking_frontend(experiment, model_config),
        optimizer=optimizer,
        config=config,
        frozen_statistics=training.freeze,
        ema_decay=training.ema_decay,
        accumulation_steps=training.accumulation_steps,
    )
