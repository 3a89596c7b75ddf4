"""Contrastive learning: the two views of a recording are drawn together, all other recordings are pushed away.

waveforms [B, S] -> inputs.two_views -> fbank [B, 2, F, M] -> encoder -> mean over real tokens -> projection -> embeddings [2B, P]
candidates of an anchor: the other embeddings of the batch, the memory bank, clips known to be something else ("negatives")
loss = mean over the anchors of `gathering_losses`; afterwards the second views of the batch go into the bank
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from beats_jax.config import ContrastiveConfig, Experiment, ModelConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.heads import Projection, pool
from beats_jax.objectives.candidates import (
    Candidates,
    MemoryBank,
    Standardisation,
    among_views,
    empty_bank,
    push,
    require_room,
    standardisation,
)
from beats_jax.objectives.inputs import Frontend, masking_frontend, one_view, two_views
from beats_jax.objectives.losses.contrastive import gathering_losses, similarities
from beats_jax.objectives.metrics import Metrics, embedding_rank, embedding_spread, masked_sum, once
from beats_jax.objectives.objective import Batch, SelfSupervised, mean_gradients, rows_of_role
from beats_jax.objectives.random_streams import Stream, model_rngs
from beats_jax.objectives.state.state import (
    State,
    apply_gradients,
    create,
    ema_update,
    extend_state,
    with_leaves,
    with_parameters,
)
from beats_jax.parallel.mesh import shard_batch

NEGATIVE = "negative_"  # begins the names of a batch's arrays of negatives
OUT = "_second_views"  # entry of the metrics by which embeddings leave the parts of a step


class ContrastiveState(State):
    """Attributes beside those of `State`, each None where it is not kept.

    `keys`: EMA of encoder and projection, which computes the embeddings that anchors are compared with; `bank`: past ones.
    """

    keys: Any
    bank: MemoryBank | None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Contrastive(SelfSupervised[ContrastiveState]):
    """Recognition of the same recording in two views. Each part of an accumulated step is compared with itself and the bank.

    Attributes:
      model: the encoder; its parameters are `model`.
      projection: from pooled features to embeddings, with parameters `projection`; None = the features themselves.
      frontend: always gives a mask of real tokens, whatever the model attends to.
      crop_samples: length of a crop; 0 = no crops.
    """

    model: nn.Module
    model_config: ModelConfig
    projection: Projection | None
    frontend: Frontend
    config: ContrastiveConfig
    crop_samples: int = 0

    def init(self, key: jax.Array, batch: Batch) -> ContrastiveState:
        """See `Objective`; the bank starts empty. Raises `UserError` for a batch that is larger than the bank."""
        require_room(self.config.bank_size, batch["positions"].shape[0])
        model_key, projection_key, run_key = jax.random.split(key, 3)
        fbank, token_mask = self.frontend.evaluation(batch)
        params = {"model": self.model.init({"params": model_key}, fbank, self._attend_views(token_mask))["params"]}
        width = registry.family(self.model_config).num_features
        if self.projection is not None:
            params["projection"] = self.projection.init(projection_key, jnp.zeros((1, width)))["params"]
            width = self.projection.outputs
        state = create(params, run_key, self.optimizer, average=self.ema_decay > 0)
        bank = empty_bank(self.config.bank_size, width) if self.config.bank_size else None
        keys = jax.tree.map(jnp.copy, params) if self.config.momentum else None
        return extend_state(ContrastiveState, state, keys=keys, bank=bank)

    def begin(self, state: ContrastiveState, loaded: Any, batches: Callable[[], Iterator[Any]]) -> ContrastiveState:
        del batches
        if loaded is None:
            return state
        state = with_parameters(state, {"model": loaded})
        return state if state.keys is None else state.replace(keys=with_leaves(state.keys, {"model": loaded}))

    def gradients(self, state: ContrastiveState, batch: Batch) -> tuple[Any, Metrics, MemoryBank | None]:
        """See `Objective`; the third result is the bank after this batch."""
        key = jax.random.fold_in(state.key, state.step)
        prepared = self._prepare(key, batch)
        loss = partial(self._loss, state.keys, state.bank, False)
        gradients, metrics = mean_gradients(loss, state.params, prepared, key, self.accumulation_steps)
        embeddings, _ = metrics.pop(OUT)
        if state.bank is None:
            return gradients, metrics, None
        kept = batch["example_mask"] & ~prepared["gathered"]
        bank = push(state.bank, embeddings, batch["rows"], kept)
        metrics["bank_filled"] = once(jnp.mean(bank.filled))
        return gradients, metrics, bank

    def advance(self, state: ContrastiveState, gradients: Any, found: MemoryBank | None) -> ContrastiveState:
        """See `Objective`; the EMA of the keys moves too, and the bank is the one after this batch."""
        state = apply_gradients(state, gradients, self.optimizer, self.ema_decay)
        keys = None if state.keys is None else ema_update(state.keys, state.params, self.config.momentum)
        return state.replace(keys=keys, bank=found)

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        """See `SelfSupervised`; the views are always the same, and there is no bank."""
        metrics = self._loss(None, None, True, weights, self._prepare(jax.random.key(0), batch), jax.random.key(0))[1]
        return {name: value for name, value in metrics.items() if name != OUT}

    def project(self, params: Any, fbank: jax.Array, token_mask: jax.Array, **options: Any) -> jax.Array:
        """Pooled and projected features, float32 [B, P], of fbank [B, F, M] and its real tokens [B, T]."""
        output: Any = self.model.apply({"params": params["model"]}, fbank, self._attend_views(token_mask), **options)
        pooled = pool(output.features, token_mask, "mean", registry.family(self.model_config).num_special)
        if self.projection is None:
            return pooled
        return self.projection.apply({"params": params["projection"]}, pooled)  # type: ignore[return-value]

    def _attend_views(self, token_mask: jax.Array | None) -> jax.Array | None:
        return registry.family(self.model_config).attention_mask(token_mask)

    def _prepare(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        fbank, token_mask = two_views(key, batch, self.frontend, self.crop_samples)
        size = fbank.shape[0]
        prepared: dict[str, Any] = {
            "fbank": fbank,
            "token_mask": token_mask,
            "rows": batch["rows"],
            "example_mask": batch["example_mask"],
            "gathered": batch.get("gathered", jnp.zeros(size, bool)),
            "place": jnp.arange(size),
        }
        negatives = rows_of_role(batch, NEGATIVE)
        if negatives:
            view = one_view(jax.random.fold_in(key, Stream.NEGATIVE), negatives, self.frontend, self.crop_samples)
            prepared["negative"] = {"fbank": view[0], "token_mask": view[1], "example_mask": negatives["example_mask"]}
        return shard_batch(prepared)

    def _loss(
        self, keys: Any, bank: MemoryBank | None, deterministic: bool, params: Any, part: Mapping[str, Any], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Sum of the losses over the anchors of a part of a batch, and metrics.

        `loss`, `chance_loss` (that of equal similarities), `retrieval` (how often the other view is nearer than every candidate
        of another recording), `similarity` (cosine of the two views), `embedding_spread` and `embedding_rank` (see `metrics`).
        """
        options = {"deterministic": deterministic, "rngs": model_rngs(key)}
        fbank, token_mask = (part[name].reshape(-1, *part[name].shape[2:]) for name in ("fbank", "token_mask"))
        valid = jnp.repeat(part["example_mask"], 2)
        projected = self.project(params, fbank, token_mask, **options)
        units = self._standardisation(projected, valid)
        embeddings = units.embeddings(projected)
        compared, key_units = embeddings, units
        if keys is not None:
            projected = self._keys(keys, fbank, token_mask)
            key_units = self._standardisation(projected, valid)
            compared = key_units.embeddings(projected)
        sources = [among_views(compared, part)]
        if bank is not None:
            sources.append(bank.candidates(part))
        if "negative" in part:
            negative = part["negative"]
            sounds = negative["fbank"], negative["token_mask"]
            others = self.project(params, *sounds, **options) if keys is None else self._keys(keys, *sounds)
            others = key_units.embeddings(others)
            allowed = jnp.broadcast_to(negative["example_mask"][None], (len(embeddings), len(others)))
            sources.append(Candidates(others, jnp.zeros_like(allowed), allowed))
        candidates = Candidates(*(jnp.concatenate(arrays, axis=min(i, 1)) for i, arrays in enumerate(zip(*sources, strict=True))))
        scores = similarities(embeddings, candidates.embeddings, self.config.temperature)
        loss = masked_sum(gathering_losses(scores, candidates.positives, candidates.allowed), valid)
        anchors, twins = (x.reshape(-1, 2, x.shape[-1]) for x in (embeddings, compared))
        twin = jnp.sum(anchors * twins[:, ::-1], axis=-1).reshape(-1)
        negatives = candidates.allowed & ~candidates.positives
        nearest = self.config.temperature * jnp.max(jnp.where(negatives, scores, -jnp.inf), axis=1)
        # Metrics are summed over the parts of a step: each part writes its embeddings at its own places among zeros.
        size = len(anchors) * (1 if deterministic else self.accumulation_steps)
        leaving = jnp.zeros((size, twins.shape[-1])).at[part["place"]].set(jax.lax.stop_gradient(twins[:, 1]))
        return loss[0], {
            "loss": loss,
            "chance_loss": masked_sum(jnp.log(jnp.maximum(jnp.sum(candidates.allowed, axis=1), 1)), valid),
            "retrieval": masked_sum(twin > nearest, valid),
            "similarity": masked_sum(twin, valid),
            "embedding_spread": embedding_spread(embeddings, valid),
            "embedding_rank": embedding_rank(embeddings, valid),
            OUT: once(leaving),
        }

    def _keys(self, keys: Any, fbank: jax.Array, token_mask: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(self.project(keys, fbank, token_mask))

    def _standardisation(self, projected: jax.Array, valid: jax.Array) -> Standardisation:
        return standardisation(projected, valid) if self.config.standardise else Standardisation(jnp.zeros(()), jnp.ones(()))


def build(experiment: Experiment, optimizer: optax.GradientTransformation, **_: Any) -> Contrastive:
    """The objective of an experiment, which needs no labels.

    Raises:
      UserError: a batch larger than the bank, or crops that do not fit into the window.
    """
    config, training = experiment.objective, experiment.training
    assert isinstance(config, ContrastiveConfig)
    require_room(config.bank_size, experiment.data.batch_size)
    model = dataclasses.replace(experiment.model, predictor_class=0)
    dtype = jnp.dtype(training.precision)
    return Contrastive(
        model=registry.build(model, dtype, registry.form_for(model, training.attention, dtype, training.remat)),
        model_config=model,
        projection=Projection(config.projection_dim, dtype) if config.projection_dim else None,
        frontend=masking_frontend(experiment, model),
        optimizer=optimizer,
        config=config,
        crop_samples=_crop_samples(experiment, config, model),
        ema_decay=training.ema_decay,
        accumulation_steps=training.accumulation_steps,
    )


def _crop_samples(experiment: Experiment, config: ContrastiveConfig, model: ModelConfig) -> int:
    if config.views != "crops":
        return 0
    settings, seconds, window = experiment.audio.filterbank, config.crop_seconds, experiment.data.window_seconds
    shortest = settings.frame_samples + (registry.family(model).min_frames - 1) * settings.hop_samples
    if not shortest <= round(seconds * settings.sample_rate) < round(window * settings.sample_rate):
        raise UserError(
            f"objective.crop_seconds is {seconds:g}; a crop must be shorter than data.window_seconds {window:g} and hold one "
            f"patch of the model ({shortest / settings.sample_rate:g} s)"
        )
    return round(seconds * settings.sample_rate)
