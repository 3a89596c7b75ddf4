"""Refuses what cannot succeed: a large encoder from random weights by oversight, and a frozen one that has learnt nothing."""

from __future__ import annotations

import math

from beats_jax.config import Experiment, ModelConfig
from beats_jax.errors import UserError
from beats_jax.weights.architecture import param_shapes

# Encoders of this size are trained from scratch on days of sound (base models have 90 million parameters, those of the recipes
# for one's own folder 1 million); a folder of labelled clips leaves them near chance.
MOST_RANDOM_PARAMETERS = 20_000_000


def require_start(experiment: Experiment) -> None:
    """Checks that what the run starts from is meant, before anything is read.

    Raises:
      UserError: random weights for more than `MOST_RANDOM_PARAMETERS` without `model.checkpoint` "none", or for a training mode
        that leaves the encoder frozen.
    """
    model, mode = experiment.model, experiment.training.mode
    if not model.starts_at_random:
        return
    if mode != "full":
        raise UserError(
            f"config.training.mode is {mode!r}, which leaves the encoder frozen, and there is no checkpoint: name one with "
            f"{_example(model)}, or set config.training.mode=full"
        )
    if model.checkpoint:
        return
    number = num_parameters(model)
    if number > MOST_RANDOM_PARAMETERS:
        raise UserError(
            f"{number / 1e6:.0f} million parameters would start from random weights: name a checkpoint, such as "
            f"{_example(model)}, or say that it is meant with --config.model.checkpoint=none"
        )


def num_parameters(model: ModelConfig) -> int:
    """Parameters of the encoder that `model` describes, and of its head where `predictor_class` is set. Computes nothing."""
    return sum(math.prod(shape) for shape in param_shapes(model).values())


def _example(model: ModelConfig) -> str:
    names = {
        "ast": "ast-finetuned-audioset-10-10-0.4593",
        "eat": "EAT-base_epoch30_pretrain",
        "beats_tokenizer": "Tokenizer_iter3",
    }
    return f"--config.model.checkpoint={names.get(model.family, 'BEATs_iter3_plus_AS2M')}"
