"""Unlabelled and labelled recordings at once: a self-supervised objective and a classifier on one encoder.

loss = loss of the base objective + supervised_weight * (classification + label contrast) of the labelled batch

The head is the encoder's own, so that the run ends in a classifier. A batch holds the base objective's arrays under their names,
and the labelled clips under names that begin with `labeled_`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from beats_jax.config import Experiment, JointConfig, ModelConfig, SupervisedConfig
from beats_jax.errors import UserError
from beats_jax.models import registry as models
from beats_jax.models.heads import pool
from beats_jax.objectives import registry, supervised
from beats_jax.objectives.losses.classification import is_right
from beats_jax.objectives.losses.contrastive import gathering_losses, normalise, share_a_label, similarities
from beats_jax.objectives.metrics import Metric, Metrics, masked_sum, once
from beats_jax.objectives.objective import Batch, SelfSupervised, mean_gradients, rows_of_role
from beats_jax.objectives.random_streams import Stream, model_rngs
from beats_jax.objectives.supervised import Supervised

LABELED = "labeled_"  # begins the names of the arrays of labelled clips
HEAD = "predictor"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Joint(SelfSupervised[Any]):
    """A self-supervised objective and a classifier on one encoder; the state is the base objective's, its encoder with a head.

    Attributes:
      base: learns from the clips without labels.
      classifier: the encoder with its head; front-end and augmentation of the labelled clips.
      model_config: settings of that encoder.
    """

    base: SelfSupervised[Any]
    classifier: Supervised
    model_config: ModelConfig
    config: JointConfig

    def init(self, key: jax.Array, batch: Batch) -> Any:
        base_key, head_key = jax.random.split(key)
        state = self.base.init(base_key, batch)
        fbank, token_mask = self.classifier.frontend.evaluation(batch)
        head = self.classifier.model.init({"params": head_key}, fbank, token_mask)["params"][HEAD]
        params = with_head(state.params, head)
        ema = None if state.ema is None else with_head(state.ema, jax.tree.map(jnp.copy, head))
        return state.replace(params=params, ema=ema, opt_state=self.optimizer.init(params))

    def begin(self, state: Any, loaded: Any, batches: Callable[[], Iterator[Any]]) -> Any:
        return self.base.begin(state, loaded, batches)

    def gradients(self, state: Any, batch: Batch) -> tuple[Any, Metrics, Any]:
        """See `Objective`; the labelled clips stand under names that begin with `labeled_`.

        Metrics: the base objective's, its loss as `base_loss`, `loss` (the weighted sum), `supervised_loss`, `label_accuracy`
        (one label a clip) and `label_contrast_loss`.
        """
        gradients, metrics, found = self.base.gradients(state, batch)
        ours, labelled = self._supervised_gradients(state, batch)
        weight = self.config.supervised_weight
        gradients = {**gradients, "model": jax.tree.map(lambda a, b: a + weight * b, gradients["model"], ours)}
        metrics = {**metrics, **labelled, "base_loss": metrics["loss"]}
        metrics["loss"] = once(_mean(metrics["base_loss"]) + weight * _mean(metrics["supervised_loss"]))
        return gradients, metrics, found

    def advance(self, state: Any, gradients: Any, found: Any) -> Any:
        """As the base objective advances."""
        return self.base.advance(state, gradients, found)

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        """The base objective's figures."""
        return self.base.evaluate(weights, batch)

    def predict(self, weights: Any, batch: Batch) -> dict[str, jax.Array]:
        """See `Supervised.predict`; `weights` are the state's."""
        return self.classifier.predict(weights["model"], batch)

    def _supervised_gradients(self, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        """Gradients like `state.params["model"]`, and metrics."""
        rows = rows_of_role(batch, LABELED)
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), Stream.LABELED)
        fbank, token_mask, targets = self.classifier.frontend.training(key, rows, self.classifier.targets(rows["labels"]))
        prepared = {"fbank": fbank, "token_mask": token_mask, "targets": targets, "example_mask": rows["example_mask"]}
        gradients, metrics = mean_gradients(self._loss, state.params["model"], prepared, key, self.accumulation_steps)
        metrics["supervised_loss"] = metrics.pop("loss")
        return gradients, metrics

    def _loss(self, params: Any, part: Mapping[str, Any], key: jax.Array) -> tuple[jax.Array, Metrics]:
        """Sum of both losses over the valid rows of a part, and metrics."""
        output: Any = self.classifier.model.apply(
            {"params": params},
            part["fbank"],
            part["token_mask"],
            deterministic=False,
            rngs=model_rngs(key),
        )
        targets, valid = part["targets"], part["example_mask"]
        losses, metrics = self.classifier.losses(output.logits, targets), {}
        if not self.classifier.multi_label:
            metrics["label_accuracy"] = masked_sum(is_right(output.logits, targets), valid)
        if self.config.label_contrast:
            special = models.family(self.model_config).num_special
            pooled = normalise(pool(output.features, output.token_mask, "mean", special))
            contrast = label_contrast(pooled, targets, valid, self.config.temperature)
            metrics["label_contrast_loss"] = masked_sum(contrast, valid)
            losses = losses + contrast
        loss = masked_sum(losses, valid)
        return loss[0], {"loss": loss, **metrics}


def label_contrast(
    embeddings: Float[Array, "B D"], targets: Float[Array, "B C"], valid: Bool[Array, " B"], temperature: float
) -> Float[Array, " B"]:
    """Supervised contrastive loss of normalised embeddings: rows with a label in common are positives; 0 without one."""
    others = ~jnp.eye(len(targets), dtype=bool) & valid[None]
    return gathering_losses(similarities(embeddings, embeddings, temperature), share_a_label(targets), others)


def with_head(params: Mapping[str, Any], head: Any) -> dict[str, Any]:
    """Parameters whose encoder has this head."""
    return {**params, "model": {**params["model"], HEAD: head}}


def _mean(metric: Metric) -> jax.Array:
    return metric[0] / jnp.maximum(metric[1], 1e-9)


def build(
    experiment: Experiment, vocabulary: Any, optimizer: optax.GradientTransformation, class_counts: np.ndarray | None
) -> Joint:
    """The objective of an experiment; `vocabulary` holds the labels of the labelled recordings.

    Raises:
      UserError: no labels, or settings that the base objective refuses.
    """
    config = experiment.objective
    assert isinstance(config, JointConfig)
    if not vocabulary.names:
        raise UserError("objective joint needs labelled recordings: a folder labeled/ with labels.csv (data.labeled_dir)")
    base = registry.build(dataclasses.replace(experiment, objective=config.base), vocabulary, optimizer, class_counts)
    labelled = SupervisedConfig(augment=config.augment, label_smoothing=config.label_smoothing)
    classifier = supervised.build(dataclasses.replace(experiment, objective=labelled), vocabulary, optimizer, class_counts)
    model = dataclasses.replace(experiment.model, predictor_class=len(vocabulary.names))
    return Joint(
        base=base,
        classifier=classifier,
        model_config=model,
        config=config,
        optimizer=optimizer,
        ema_decay=experiment.training.ema_decay,
        accumulation_steps=experiment.training.accumulation_steps,
    )
