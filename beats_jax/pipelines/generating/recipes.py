"""Settings with which each kind of generator trains in minutes on two CPU cores; configs/generative.py gives them to `train`."""

from __future__ import annotations

from typing import Any

from beats_jax.config import Experiment, experiment_from_mapping
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

_ADAM = {"optimizer": "adamw", "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.99, "clip_norm": 1.0, "warmup_fraction": 0.05}
_COMMON = {"ema_decay": 0.995, "monitor": "sample_loss", "select": "last", "log_every_steps": 50, "checkpoint_every_steps": 500}
RECIPES: dict[str, dict[str, Any]] = {
    "ae": {"objective": {"name": "autoencoder", "kind": "ae"}, "training": {**_ADAM, "learning_rate": 2e-3, "max_steps": 1500}},
    "vae": {"objective": {"name": "autoencoder", "kind": "vae"}, "training": {**_ADAM, "learning_rate": 2e-3, "max_steps": 1500}},
    "aae": {"objective": {"name": "autoencoder", "kind": "aae"}, "training": {**_ADAM, "learning_rate": 2e-3, "max_steps": 1500}},
    "gan": {
        "objective": {"name": "gan"},
        # No momentum, equal rates to the end and a short average: what is learnt moves with the opponent
        "training": {
            **_ADAM,
            "beta1": 0.0,
            "learning_rate": 1e-3,
            "min_learning_rate": 1e-3,
            "max_steps": 3000,
            "ema_decay": 0.99,
        },
    },
    "diffusion": {"objective": {"name": "diffusion"}, "training": {**_ADAM, "learning_rate": 1e-3, "max_steps": 1500}},
}
BATCH_SIZE = 64


def recipe(kind: str, *, steps: int = 0, seed: int = 0, **objective: Any) -> Experiment:
    """The settings of a kind of generator: ae, vae, aae, gan or diffusion.

    Args:
      steps: length of the training; 0 = the recipe's. objective: settings that replace those of the recipe (`width=8`).
    Raises:
      UserError: an unknown kind or setting.
    """
    if kind not in RECIPES:
        raise UserError(f"there is no generator {kind!r}; {nearest(kind, list(RECIPES))}")
    settings = recipe_settings(kind)
    settings["objective"] |= objective
    settings["training"] |= {"seed": seed, **({"max_steps": steps} if steps else {})}
    return experiment_from_mapping({"name": kind, **settings})


def recipe_settings(kind: str) -> dict[str, Any]:
    """The settings of a recipe that differ from the defaults, as nested dicts of their own."""
    found = RECIPES[kind]
    return {
        "objective": dict(found["objective"]),
        "training": {**_COMMON, **found["training"]},
        "data": {"batch_size": BATCH_SIZE},
    }
