"""Learning from unlabelled and labelled recordings at once: a self-supervised objective, and names for a batch of its own.

loss = loss of the base objective + supervised_weight * (classification + label contrast) of the labelled batch

The head is the encoder's own, so that the run ends in a classifier. A batch holds the base objective's arrays under their names,
and the labelled clips under names that begin with `labeled_`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beats_jax.config import Experiment, JointConfig, ModelConfig, SupervisedConfig
from beats_jax.errors import UserError
from beats_jax.models import registry as models
from beats_jax.models.heads import pool
from beats_jax.objectives import registry, supervised
from beats_jax.objectives.gradients import Metrics, gradient_norms, mean_gradients
from beats_jax.objectives.inputs import MODEL_STREAM
from beats_jax.objectives.losses.classification import sigmoid_losses, softmax_losses
from beats_jax.objectives.losses.contrastive import gathering_losses, normalise, share_a_label, similarities
from beats_jax.objectives.supervised import Supervised

Batch = Mapping[str, jax.Array]
LABELED = "labeled_"  # begins the names of the arrays of labelled clips
LABELED_STREAM = 2**32 - 9
HEAD = "predictor"
JOINED = ("contrastive", "eat", "masked_prediction")  # objectives whose update comes in the two halves of `Base`


class Base(Protocol):
    """What an objective needs besides the common face to be joined with labels: an update in two halves."""

    def init(self, key: jax.Array, batch: Any) -> Any:
        """A fresh state; `params["model"]` is the encoder."""
        ...

    def begin(self, state: Any, loaded: Any, batches: Callable[[], Iterator[Any]]) -> Any:
        """See `registry.SelfSupervised`."""
        ...

    def evaluate(self, weights: Any, batch: Any) -> Metrics:
        """See `registry.SelfSupervised`."""
        ...

    def gradients(self, state: Any, batch: Any) -> tuple[Any, Metrics, Any]:
        """Gradients like `state.params`, metrics, and what `advance` needs besides."""
        ...

    def advance(self, state: Any, gradients: Any, found: Any) -> Any:
        """The next state."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """A self-supervised objective and a classifier on one encoder.

    Attributes:
      base: what learns without labels.
      classifier: the encoder with its head; front-end and augmentation of the labelled clips.
      model_config: settings of that encoder.
      optimizer: turns gradients into updates.
      config: weights, temperature.
    """

    base: Base
    classifier: Supervised
    model_config: ModelConfig
    optimizer: optax.GradientTransformation
    config: JointConfig

    def init(self, key: jax.Array, batch: Batch) -> Any:
        """The base objective's state, its encoder with a head."""
        base_key, head_key = jax.random.split(key)
        state = self.base.init(base_key, batch)
        fbank, token_mask = self.classifier.frontend.evaluation(batch)
        head = self.classifier.model.init({"params": head_key}, fbank, token_mask)["params"][HEAD]
        params = with_head(state.params, head)
        ema = None if state.ema is None else with_head(state.ema, jax.tree.map(jnp.copy, head))
        return state.replace(params=params, ema=ema, opt_state=self.optimizer.init(params))

    def begin(self, state: Any, loaded: Any, batches: Callable[[], Iterator[Any]]) -> Any:
        """As the base objective begins."""
        return self.base.begin(state, loaded, batches)

    def update(self, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        """One step of learning.

        Args:
          batch: what the base objective takes; and under `labeled_` waveforms float32 [L, S], lengths int32 [L], labels int32 [L]
            or float32 [L, C], positions int32 [L], example_mask bool [L].
        Returns:
          the next state, and (sum, count) of the base objective's metrics, `base_loss` among them, `loss` (the weighted sum),
          `supervised_loss`, `label_accuracy` (one label a clip), `label_contrast_loss` and `gradient_norm` (before clipping).
        """
        gradients, metrics, found = self.base.gradients(state, batch)
        ours, labelled = self._supervised_gradients(state, batch)
        weight = self.config.supervised_weight
        gradients = {**gradients, "model": jax.tree.map(lambda a, b: a + weight * b, gradients["model"], ours)}
        metrics = {**metrics, **labelled, "base_loss": metrics["loss"]}
        metrics["loss"] = (_mean(metrics["base_loss"]) + weight * _mean(metrics["supervised_loss"]), jnp.ones(()))
        metrics |= gradient_norms(gradients)
        return self.base.advance(state, gradients, found), metrics

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        """The base objective's figures of a batch as it is."""
        return self.base.evaluate(weights, batch)

    def predict(self, weights: Any, batch: Batch) -> dict[str, jax.Array]:
        """Logits of every row, see `Supervised.predict`; `weights` are the state's."""
        return self.classifier.predict(weights["model"], batch)

    def _supervised_gradients(self, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        """Gradients like `state.params["model"]`, and metrics."""
        rows = {name.removeprefix(LABELED): x for name, x in batch.items() if name.startswith(LABELED)}
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), LABELED_STREAM)
        fbank, token_mask, targets = self.classifier.frontend.training(key, rows, self._targets(rows["labels"]))
        prepared = {"fbank": fbank, "token_mask": token_mask, "targets": targets, "example_mask": rows["example_mask"]}
        model_key = jax.random.fold_in(key, MODEL_STREAM)
        parts = self.classifier.accumulation_steps
        gradients, metrics = mean_gradients(self._loss, state.params["model"], prepared, model_key, parts)
        metrics["supervised_loss"] = metrics.pop("loss")
        return gradients, metrics

    def _targets(self, labels: jax.Array) -> jax.Array:
        """float32 [L, C]."""
        classifier = self.classifier
        return labels.astype(jnp.float32) if classifier.multi_label else jax.nn.one_hot(labels, classifier.num_classes)

    def _loss(self, params: Any, part: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """Sum of both losses over the valid rows of a part, and (sum, count) of what is reported."""
        dropout, layerdrop = jax.random.split(key)
        output: Any = self.classifier.model.apply(
            {"params": params},
            part["fbank"],
            part["token_mask"],
            deterministic=False,
            rngs={"dropout": dropout, "layerdrop": layerdrop},
        )
        targets, valid = part["targets"], part["example_mask"]
        multi_label = self.classifier.multi_label
        per_example = sigmoid_losses if multi_label else softmax_losses
        losses = per_example(
            output.logits,
            targets,
            class_weights=jnp.asarray(self.classifier.class_weights),
            label_smoothing=self.config.label_smoothing,
        )
        count = jnp.sum(valid).astype(jnp.float32)
        metrics: Metrics = {}
        if not multi_label:
            right = jnp.argmax(output.logits, axis=-1) == jnp.argmax(targets, axis=-1)
            metrics["label_accuracy"] = (jnp.sum(valid & right).astype(jnp.float32), count)
        if self.config.label_contrast:
            special = models.family(self.model_config).num_special
            pooled = normalise(pool(output.features, output.token_mask, "mean", special))
            contrast = label_contrast(pooled, targets, valid, self.config.temperature)
            metrics["label_contrast_loss"] = (jnp.sum(jnp.where(valid, contrast, 0.0)), count)
            losses = losses + contrast
        total = jnp.sum(jnp.where(valid, losses, 0.0))
        return total, {"loss": (total, count), **metrics}


def label_contrast(embeddings: jax.Array, targets: jax.Array, valid: jax.Array, temperature: float) -> jax.Array:
    """Supervised contrastive loss of every row, float32 [L]: rows with a label in common are positives; 0 without one.

    Args:
      embeddings: float32 [L, D], normalised.
      targets: float32 [L, C].
      valid: bool [L].
    """
    others = ~jnp.eye(len(targets), dtype=bool) & valid[None]
    return gathering_losses(similarities(embeddings, embeddings, temperature), share_a_label(targets), others)


def with_head(params: Mapping[str, Any], head: Any) -> dict[str, Any]:
    """Parameters whose encoder has this head."""
    return {**params, "model": {**params["model"], HEAD: head}}


def _mean(metric: tuple[jax.Array, jax.Array]) -> jax.Array:
    return metric[0] / jnp.maximum(metric[1], 1e-9)


def build(
    experiment: Experiment, vocabulary: Any, optimizer: optax.GradientTransformation, class_counts: np.ndarray | None
) -> Joint:
    """The objective of an experiment; `vocabulary` holds the labels of the labelled recordings.

    Raises:
      UserError: there are no labels; a base objective that is none of `JOINED`; see the base objective.
    """
    config = experiment.objective
    assert isinstance(config, JointConfig)
    if not vocabulary.names:
        raise UserError("objective joint needs labelled recordings: a folder labeled/ with labels.csv (data.labeled_dir)")
    if config.base.name not in JOINED:
        raise UserError(f"objective.base.name is {config.base.name!r}; labels can be joined with {', '.join(JOINED)}")
    base = registry.build(dataclasses.replace(experiment, objective=config.base), vocabulary, optimizer, class_counts)
    labelled = SupervisedConfig(augment=config.augment, label_smoothing=config.label_smoothing)
    classifier = supervised.build(dataclasses.replace(experiment, objective=labelled), vocabulary, optimizer, class_counts)
    model = dataclasses.replace(experiment.model, predictor_class=len(vocabulary.names))
    return Joint(base=base, classifier=classifier, model_config=model, optimizer=optimizer, config=config)
