"""Probes that predict: one kind with one setting, fitted on all examples, as arrays and a pure function of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.evaluation.probes.attentive import attentive_answer, attentive_train
from beats_jax.evaluation.probes.kinds import KINDS, Setting, find_kind
from beats_jax.evaluation.probes.linear import ridge_coefficients, standardisation
from beats_jax.evaluation.probes.logistic import logistic_path

ATTENTIVE = "attentive"
DISCRIMINANT = "discriminant"  # a given direction: `arrays` with mean, scale, kernel and bias are made elsewhere
LINEAR = ("logistic", "ridge", DISCRIMINANT)
TOLERANCE = 1e-5  # of the final logistic fit; the sweep, which only compares, stops earlier

Arrays = dict[str, np.ndarray]


def fit_probe(kind: str, setting: Setting, vectors: np.ndarray, targets: np.ndarray, multi_label: bool) -> Arrays:
    """Fits a kind of `kinds.KINDS`, and gives what `probe_answer` needs.

    Args:
      vectors: float32 [N, D], not standardised. targets: float32 [N, C], one-hot, or 0/1 if `multi_label`.
    Returns:
      `mean` and `scale` [D]; of linear kinds `kernel` [D, C] and `bias` [C]; of the others the standardised examples `train`
      [N, D] and their `targets`, by which they predict.
    Raises:
      UserError: an unknown kind.
    """
    find_kind(kind)
    ones = jnp.ones(len(vectors))
    mean, scale = standardisation(jnp.asarray(vectors), ones)
    train = (jnp.asarray(vectors) - mean[None]) * scale[None]
    found: dict[str, Any] = {"mean": mean, "scale": scale}
    if kind == "ridge":
        kernel, bias = ridge_coefficients(train, jnp.asarray(targets), ones, jnp.asarray(float(setting)))
        found |= {"kernel": 4.0 * kernel, "bias": 4.0 * bias - 2.0}  # `linear.ridge_logits`
    elif kind == "logistic":
        # From the strongest penalty to the chosen one, as the sweep went: each solution starts from the last
        path = [value for value in KINDS[kind].settings if float(value) < float(setting)] + [setting]
        strengths = jnp.asarray(path, jnp.float32)
        fits = logistic_path(train, jnp.asarray(targets), ones, strengths, multi_label=multi_label, tolerance=TOLERANCE)
        found |= {"kernel": fits.coefficients[-1].T, "bias": fits.intercepts[-1]}
    else:
        found |= {"train": train, "targets": targets}
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def fit_attentive(
    decay: Setting, tokens: np.ndarray, token_mask: np.ndarray, targets: np.ndarray, multi_label: bool, seed: int
) -> Arrays:
    """The attentive probe on all examples: parameters for `probe_answer`; arguments as `attentive.AttentiveProbe`."""
    weights, strength = jnp.ones(len(targets)), jnp.asarray(decay, jnp.float32)
    params = jax.jit(attentive_train, static_argnums=(5, 6))(tokens, token_mask, targets, weights, strength, multi_label, seed)
    return {name: np.asarray(array) for name, array in params.items()}


@partial(jax.jit, static_argnames=("kind", "setting", "multi_label"))
def probe_answer(
    kind: str,
    setting: Setting,
    arrays: Mapping[str, jax.Array],
    inputs: jax.Array,
    token_mask: jax.Array | None = None,
    *,
    multi_label: bool,
) -> jax.Array:
    """Logits float32 [B, C] of a fitted probe.

    Args:
      inputs: float32 [B, D], pooled vectors that are not standardised; of the attentive kind tokens [L, B, T, D], with
        `token_mask` bool [B, T].
    """
    if kind == ATTENTIVE:
        assert token_mask is not None
        return attentive_answer(dict(arrays), inputs, token_mask)
    vectors = (inputs - arrays["mean"][None]) * arrays["scale"][None]
    if kind in LINEAR:
        return vectors @ arrays["kernel"] + arrays["bias"][None]
    ones = jnp.ones(len(arrays["train"]))
    return KINDS[kind].logits(arrays["train"], arrays["targets"], ones, vectors, (setting,), multi_label)[0]
