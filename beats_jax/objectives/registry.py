"""The objectives by name. An objective is one file with a `build` like `supervised.build`, and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import optax

from beats_jax.config import Experiment
from beats_jax.config.validation import nearest
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.models.registry import family

# As text, so that only the objective of a run is imported.
OBJECTIVES: dict[str, str] = {
    "supervised": "beats_jax.objectives.supervised:build",
    "episodic": "beats_jax.objectives.episodic:build",
    "masked_prediction": "beats_jax.objectives.masked_prediction:build",
    "contrastive": "beats_jax.objectives.contrastive:build",
    "joint": "beats_jax.objectives.joint:build",
    "eat": "beats_jax.objectives.eat:build",
    "tokenizer": "beats_jax.objectives.tokenizer:build",
    "autoencoder": "beats_jax.objectives.autoencoder:build",
    "gan": "beats_jax.objectives.gan:build",
    "diffusion": "beats_jax.objectives.diffusion:build",
}

# Objectives under which batch statistics move (`objective.apply_in_training`).
MOVE_STATISTICS = ("supervised", "episodic")


def build(
    experiment: Experiment,
    vocabulary: LabelVocabulary | None,
    optimizer: optax.GradientTransformation,
    class_counts: np.ndarray | None,
) -> Any:
    """The objective that `experiment.objective.name` asks for.

    Args:
      vocabulary: the classes; None for an objective without labels.
      class_counts: [C], training rows of each class; needed for `class_weights: balanced`.
    Raises:
      UserError: an unknown name (the nearest known one is named), or settings that the objective refuses.
    """
    name = experiment.objective.name
    if name not in OBJECTIVES:
        raise UserError(f"objective.name is {name!r}; {nearest(name, list(OBJECTIVES))}")
    if family(experiment.model).batch_statistics and name not in MOVE_STATISTICS:
        raise UserError(
            f"objective.name is {name!r}, which does not train a {experiment.model.family!r}, a model with batch statistics; "
            f"take a model of another family, or one of {', '.join(MOVE_STATISTICS)}"
        )
    module, function = OBJECTIVES[name].split(":")
    return getattr(import_module(module), function)(
        experiment=experiment, optimizer=optimizer, vocabulary=vocabulary, class_counts=class_counts
    )
