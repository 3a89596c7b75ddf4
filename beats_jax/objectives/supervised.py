"""Classification: softmax or, for several labels a clip, sigmoid cross-entropy on the logits of an encoder with a head.

waveforms [B, S] -> objectives.inputs -> fbank [B, F, M], token_mask [B, T] -> model -> logits [B, C]
-> losses [B] -> loss = sum over valid rows / global weight of the valid rows
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from beats_jax.config import Experiment, SupervisedConfig
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.statistics import WithStatistics, without_frozen
from beats_jax.objectives import adaptation
from beats_jax.objectives.adaptation import EVERYTHING, Adaptation
from beats_jax.objectives.inputs import Frontend, frontend_of
from beats_jax.objectives.losses.classification import balanced_weights, is_right, sigmoid_losses, softmax_losses
from beats_jax.objectives.metrics import Metrics
from beats_jax.objectives.objective import Batch, Objective, apply_in_training, mean_gradients, mean_statistics
from beats_jax.objectives.random_streams import model_rngs
from beats_jax.objectives.state.state import State, create

LORA_STREAM = 1  # folded into the key of the parameters


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Supervised(Objective[State]):
    """Classification of labelled recordings.

    Attributes:
      model: Linen module; `apply({"params": p}, fbank, token_mask, deterministic=..., rngs=...)` has `.logits` [B, C].
      multi_label: False: labels int32 [B]; True: labels float32 [B, C].
      class_weights: float32 [C].
      adaptation: which parameters learn.
      training_options: further arguments of the model's call in training.
      frozen_statistics: patterns of batch statistics that do not move.
    """

    model: nn.Module | WithStatistics
    frontend: Frontend
    num_classes: int
    multi_label: bool
    class_weights: np.ndarray
    config: SupervisedConfig
    adaptation: Adaptation = EVERYTHING
    training_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frozen_statistics: tuple[str, ...] = ()

    def init(self, key: jax.Array, batch: Batch) -> State:
        init_key, run_key = jax.random.split(key)
        fbank, token_mask = self.frontend.evaluation(batch)
        params = self.model.init({"params": init_key}, fbank, token_mask, deterministic=True)["params"]
        params = self.adaptation.init(jax.random.fold_in(init_key, LORA_STREAM), params)
        return create(params, run_key, self.optimizer, average=self.ema_decay > 0)

    def gradients(self, state: State, batch: Batch) -> tuple[Any, Metrics, Any]:
        """See `Objective`; `accuracy` (one label a clip) is against the louder label where clips are mixed."""
        key = jax.random.fold_in(state.key, state.step)
        fbank, token_mask, targets = self.frontend.training(key, batch, self.targets(batch["labels"]))
        prepared = {"fbank": fbank, "token_mask": token_mask, "targets": targets, "example_mask": batch["example_mask"]}
        gradients, metrics = mean_gradients(self._loss, state.params, prepared, key, self.accumulation_steps)
        statistics = mean_statistics(metrics)
        return gradients, metrics, None if statistics is None else without_frozen(statistics, self.frozen_statistics)

    def predict(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`logits` float32 [B, C] of every row, without augmentation; deterministic."""
        fbank, token_mask = self.frontend.evaluation(batch)
        return {"logits": self._logits(params, fbank, token_mask, deterministic=True)}

    def export_params(self, params: Any) -> Any:
        """The parameters of the model alone, as `models.registry.build` reads them."""
        return self.adaptation.merge(params)

    def targets(self, labels: jax.Array) -> jax.Array:
        """Labels as float32 [B, C]."""
        return labels.astype(jnp.float32) if self.multi_label else jax.nn.one_hot(labels, self.num_classes)

    def losses(self, logits: Float[Array, "B C"], targets: Float[Array, "B C"]) -> Float[Array, " B"]:
        """The training loss of every row."""
        per_example = sigmoid_losses if self.multi_label else softmax_losses
        config = self.config
        options = {"label_smoothing": config.label_smoothing, "focal_gamma": config.focal_gamma, "q": config.noise_robustness}
        return per_example(logits, targets, class_weights=jnp.asarray(self.class_weights), **options)

    def _logits(self, params: Any, fbank: jax.Array, token_mask: jax.Array | None, **options: Any) -> jax.Array:
        output = self.model.apply({"params": self.adaptation.merge(params)}, fbank, token_mask, **options)
        return output.logits.astype(jnp.float32)  # type: ignore[union-attr]

    def _loss(self, params: Any, part: Mapping[str, Any], key: jax.Array) -> tuple[jax.Array, Metrics]:
        """Sum of the losses of a part of a batch, and (sum, count) of what is reported.

        With class weights the count is the weight of the rows' own classes, so the loss is a weighted mean
        (as in PyTorch's `CrossEntropyLoss(weight=...)` and scikit-learn's `log_loss(sample_weight=...)`).
        """
        params = self.adaptation.merge(self.adaptation.learning(params))
        inputs, options = (part["fbank"], part["token_mask"]), {"deterministic": False, **self.training_options}
        output, statistics = apply_in_training(self.model, params, *inputs, rngs=model_rngs(key), **options)
        logits = output.logits.astype(jnp.float32)
        targets, valid = part["targets"], part["example_mask"].astype(jnp.float32)
        total = jnp.sum(jnp.where(valid > 0, self.losses(logits, targets), 0.0))
        if self.multi_label:
            return total, {"loss": (total, jnp.sum(valid)), **statistics}
        weight = jnp.sum(valid * jnp.sum(targets * self.class_weights[None], axis=-1))
        accuracy = jnp.sum(valid * is_right(logits, targets)), jnp.sum(valid)
        return total, {"loss": (total, weight), "accuracy": accuracy, **statistics}


def build(
    experiment: Experiment,
    vocabulary: LabelVocabulary,
    optimizer: optax.GradientTransformation,
    class_counts: np.ndarray | None,
) -> Supervised:
    """The supervised objective of an experiment; see `registry.build`. Raises `UserError` for balanced weights without rows."""
    config, training, num_classes = experiment.objective, experiment.training, len(vocabulary.names)
    assert isinstance(config, SupervisedConfig)
    precision = training.precision
    model_config = dataclasses.replace(experiment.model, predictor_class=num_classes)
    weights = np.ones(num_classes, np.float32)
    if config.class_weights == "balanced":
        if class_counts is None:
            raise UserError("objective.class_weights is 'balanced' but the training rows were not counted: use 'none'")
        weights = balanced_weights(class_counts)
    family = registry.family(model_config)
    # An encoder that does not learn keeps its statistics: it is the same function of a clip in training and afterwards.
    by_batch = {"batch_statistics": training.mode == "full"} if family.batch_statistics else {}
    form = registry.form_for(model_config, training.attention, precision, training.remat)
    return Supervised(
        model=registry.build(model_config, precision, form),
        frontend=frontend_of(experiment, model_config, tuple(vocabulary.names)),
        optimizer=optimizer,
        num_classes=num_classes,
        multi_label=experiment.data.multi_label,
        class_weights=weights,
        config=config,
        adaptation=adaptation.of(training, family.constants),
        training_options=by_batch,
        frozen_statistics=training.freeze,
        ema_decay=training.ema_decay,
        accumulation_steps=training.accumulation_steps,
    )
