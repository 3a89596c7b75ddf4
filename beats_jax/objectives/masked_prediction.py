"""Masked audio modelling (BEATs, arXiv 2212.09058 §3.3): codes of hidden patches, predicted from the visible ones.

waveforms [B, S] -> objectives.inputs -> fbank [B, F, M], token_mask [B, T] -> tokenizer -> codes int32 [B, T, G]
visible patches [B, V] -> encoder -> features [B, V, D] -> predictor -> logits [B, T, G, K] -> cross-entropy on the masked tokens
loss = sum over the masked tokens of valid rows, mean over the G codebooks / their number in the global batch
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import BEATsConfig, Experiment, MaskedPredictionConfig, TokenizerConfig
from beats_jax.errors import UserError
from beats_jax.models.masking import Selection, select
from beats_jax.models.pretraining.encoder import MaskedBEATs
from beats_jax.models.pretraining.predictor import stack_config
from beats_jax.models.registry import form_for
from beats_jax.objectives.inputs import Frontend, frontend_of
from beats_jax.objectives.losses.classification import code_losses
from beats_jax.objectives.metrics import Metrics, code_usage, masked_sum, used_codes
from beats_jax.objectives.objective import Batch, SelfSupervised, mean_gradients
from beats_jax.objectives.random_streams import Stream, evaluation_keys, model_rngs, row_keys
from beats_jax.objectives.state import targets
from beats_jax.objectives.state.state import State, create, extend_state, with_leaves, with_parameters
from beats_jax.parallel.mesh import replicate_tree


class MaskedState(State):
    """Attributes beside those of `State`: `tokenizer`, the tensors that the codes come from."""

    tokenizer: Any

    @property
    def weights(self) -> Any:
        """`model`, `predictor` and `tokenizer`."""
        return {**super().weights, "tokenizer": self.tokenizer}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MaskedPrediction(SelfSupervised[MaskedState]):
    """Prediction of the codes of hidden patches.

    Attributes:
      module: encoder and predictor; its parameters are `model`, which is exported, and `predictor`.
      targets: the tokenizer that the codes come from.
    """

    module: MaskedBEATs
    frontend: Frontend
    targets: targets.Targets
    config: MaskedPredictionConfig

    def init(self, key: jax.Array, batch: Batch) -> MaskedState:
        init_key, run_key = jax.random.split(key)
        fbank, token_mask = self.frontend.without_labels(None, batch)
        selection = select(row_keys(init_key, batch["positions"]), token_mask, self.config.mask_ratio)
        params = self.module.init({"params": init_key}, fbank, token_mask, selection)["params"]
        state = create(params, run_key, self.optimizer, average=self.ema_decay > 0)
        return extend_state(MaskedState, state, tokenizer=self.targets.init())

    def begin(self, state: MaskedState, loaded: Any, batches: Callable[[], Iterator[Any]]) -> MaskedState:
        """See `SelfSupervised`; the tensors of a trained tokenizer enter here too, or the components of the first patches."""
        if loaded is not None:
            state = with_parameters(state, {"model": loaded})
        tensors = self.targets.loaded
        if self.config.components:
            tensors = targets.fit_targets(state.tokenizer, self._patch_statistics(batches), self.config.components)
        return state if tensors is None else state.replace(tokenizer=with_leaves(state.tokenizer, tensors))

    def gradients(self, state: MaskedState, batch: Batch) -> tuple[Any, Metrics, None]:
        """See `Objective`; labels are not read."""
        key = jax.random.fold_in(state.key, state.step)
        fbank, token_mask = self.frontend.without_labels(key, batch)
        masking = row_keys(jax.random.fold_in(key, Stream.MASK), batch["positions"])
        prepared = self._prepare(fbank, token_mask, masking, batch)
        loss = partial(self._loss, state.tokenizer, False)
        gradients, metrics = mean_gradients(loss, state.params, prepared, key, self.accumulation_steps)
        return gradients, with_chance(used_codes(metrics)), None

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        fbank, token_mask = self.frontend.without_labels(None, batch)
        keys = evaluation_keys(batch["positions"], batch["rows"])
        prepared = self._prepare(fbank, token_mask, keys, batch)
        params = {name: tree for name, tree in weights.items() if name != "tokenizer"}
        return with_chance(used_codes(self._loss(weights["tokenizer"], True, params, prepared, jax.random.key(0))[1]))

    def _patch_statistics(self, batches: Callable[[], Iterator[Any]]) -> targets.PatchStatistics:
        """Those of the real patches of the first batches."""

        @jax.jit
        def read(batch: Batch) -> Any:
            fbank, token_mask = self.frontend.without_labels(None, batch)
            return replicate_tree(targets.patch_sums(fbank, token_mask & batch["example_mask"][:, None], self.module.config))

        parts = [jax.device_get(read(batch)) for batch in itertools.islice(batches(), targets.FITTING_BATCHES)]
        return targets.patch_statistics(parts)

    def _prepare(self, fbank: jax.Array, token_mask: jax.Array, keys: jax.Array, batch: Batch) -> dict[str, Any]:
        selection = select(keys, token_mask, self.config.mask_ratio)
        return {"fbank": fbank, "token_mask": token_mask, "selection": selection, "example_mask": batch["example_mask"]}

    def _loss(
        self, tokenizer: Any, deterministic: bool, params: Any, part: Mapping[str, Any], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Sum of the losses over the masked tokens of a part of a batch, and (sum, count) of what is reported.

        `loss` (smoothed), `masked_accuracy`, `visible_accuracy`, `masked_share` (of the real tokens), and how often each code
        was predicted and was the target at masked tokens, which `metrics.used_codes` turns into figures.
        """
        selection: Selection = part["selection"]
        codes = jax.lax.stop_gradient(self.targets(tokenizer, part["fbank"], part["token_mask"]))
        flat = self.module.apply(
            {"params": params},
            part["fbank"],
            part["token_mask"],
            selection,
            deterministic=deterministic,
            rngs=model_rngs(key),
        )
        assert isinstance(flat, jax.Array)
        logits = flat.reshape(*codes.shape, self.targets.codes)
        valid = part["example_mask"][:, None]
        masked, real = selection.masked & valid, part["token_mask"] & valid
        losses = jnp.mean(code_losses(logits, codes, self.config.label_smoothing), axis=-1)
        predicted = jnp.argmax(logits, axis=-1)
        right = jnp.mean((predicted == codes).astype(jnp.float32), axis=-1)
        loss = masked_sum(losses, masked)
        return loss[0], {
            "loss": loss,
            "masked_accuracy": masked_sum(right, masked),
            "visible_accuracy": masked_sum(right, real & ~masked),
            "masked_share": masked_sum(masked, real),
            **code_usage("predicted", predicted, masked, self.targets.codes),
            **code_usage("target", codes, masked, self.targets.codes),
        }


def with_chance(metrics: Metrics) -> Metrics:
    """With `chance_loss`: that of always predicting the codes' frequencies in the batch (without smoothing)."""
    entropy, count = metrics["target_entropy"]
    return {**metrics, "chance_loss": (math.log(2) * entropy, count)}


def build(experiment: Experiment, optimizer: optax.GradientTransformation, **_: Any) -> MaskedPrediction:
    """The objective of an experiment, which needs no labels.

    Raises:
      UserError: a model that is not BEATs, a window of too few tokens to hide any, or a tokenizer that does not fit
        (`targets.build`).
    """
    config, training, model = experiment.objective, experiment.training, experiment.model
    assert isinstance(config, MaskedPredictionConfig)
    if not isinstance(model, BEATsConfig) or isinstance(model, TokenizerConfig):
        raise UserError(f"objective masked_prediction trains models of the family 'beats', not {model.family!r}")
    model = dataclasses.replace(model, predictor_class=0)
    dtype = jnp.dtype(training.precision)
    tokenizer = targets.build(config, model, experiment.audio, dtype)
    stack = stack_config(model, config.predictor_layers, config.predictor_dim, config.predictor_heads)
    module = MaskedBEATs(
        model,
        stack,
        tokenizer.codes * tokenizer.books,
        config.mask_token == "learnt",
        config.positions == "true",
        dtype,
        form_for(model, training.attention, dtype, training.remat),
    )
    return MaskedPrediction(
        module=module,
        frontend=frontend_of(experiment, model),
        targets=tokenizer,
        optimizer=optimizer,
        config=config,
        ema_decay=training.ema_decay,
        accumulation_steps=training.accumulation_steps,
    )
