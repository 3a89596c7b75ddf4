"""The attentive probe: learnt queries attend to the tokens of a clip, and a linear layer classifies the result.

Queries attend by softmax over the real tokens, as the pooling of attentive probes (Bardes et al. 2024, V-JEPA, section 4) without
its projections, which a handful of labels cannot train. Several layers are mixed by a softmax over layers (Peters et al. 2018,
ELMo). Trained on all examples at once by AdamW with a cosine schedule; all weight decays and rounds in one compiled call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beats_jax.errors import UserError
from beats_jax.evaluation.probes.kinds import Setting
from beats_jax.evaluation.probes.nested import Choice
from beats_jax.evaluation.probes.rounds import Rounds
from beats_jax.evaluation.probes.sweep import SweepScores, measure

QUERIES = 4
STEPS = 200
LEARNING_RATE = 5e-3
WEIGHT_DECAYS = (3.0, 0.3, 0.03)  # strongest first


def attentive_init(key: jax.Array, layers: int, width: int, num_classes: int) -> dict[str, jax.Array]:
    """Small random queries float32 [Q, D] (nearly the mean of the tokens), equal layers, and a zero classifier."""
    return {
        "layers": jnp.zeros(layers),
        "queries": 0.02 * jax.random.normal(key, (QUERIES, width)),
        "kernel": jnp.zeros((QUERIES * width, num_classes)),
        "bias": jnp.zeros(num_classes),
    }


def attentive_logits(params: dict[str, jax.Array], tokens: jax.Array, token_mask: jax.Array) -> jax.Array:
    """Logits float32 [N, C].

    Args:
      params: as `attentive_init`. tokens: float32 [L, N, T, D], standardised.
      token_mask: bool [N, T], with a real token in each clip.
    """
    # With one layer the mixture is left out: its gradient towards all tokens took most of the time.
    alone = tokens.shape[0] == 1
    mixed = tokens[0] if alone else jnp.einsum("l,lntd->ntd", jax.nn.softmax(params["layers"]), tokens)
    looks = jnp.einsum("ntd,qd->nqt", mixed, params["queries"])
    weights = jax.nn.softmax(looks, axis=2, where=token_mask[:, None])
    gathered = jnp.einsum("nqt,ntd->nqd", weights, mixed)
    return gathered.reshape(len(mixed), -1) @ params["kernel"] / QUERIES + params["bias"][None]


def attentive_fit(
    tokens: jax.Array,
    token_mask: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    decay: jax.Array,
    multi_label: bool,
    seed: int,
) -> jax.Array:
    """Trains on the examples of weight 1 and predicts all: logits float32 [N, C]; arguments as `attentive_train`."""
    params = attentive_train(tokens, token_mask, targets, weights, decay, multi_label, seed)
    return attentive_answer(params, tokens, token_mask)


def attentive_train(
    tokens: jax.Array,
    token_mask: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    decay: jax.Array,
    multi_label: bool,
    seed: int,
) -> dict[str, jax.Array]:
    """Trains on the examples of weight 1: parameters as `attentive_init`, with `mean` and `scale` of each layer's tokens.

    Args:
      tokens: float32 [L, N, T, D]; each layer is standardised by the training examples' real tokens here.
      token_mask: bool [N, T]. targets: float32 [N, C]. weights: float32 [N], 1 = trains. decay: float32 [], of AdamW.
    """
    mean, scale = _token_standardisation(tokens, token_mask, weights)
    tokens = _standardised_tokens(tokens, token_mask, mean, scale)
    params = attentive_init(jax.random.key(seed), tokens.shape[0], tokens.shape[-1], targets.shape[1])
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    optimizer = optax.adamw(schedule, weight_decay=decay, mask={name: name in ("queries", "kernel") for name in params})
    total = jnp.maximum(jnp.sum(weights), 1.0)

    def loss(params: Any) -> jax.Array:
        logits = attentive_logits(params, tokens, token_mask)
        if multi_label:
            each = jnp.sum(jnp.logaddexp(0.0, logits) - targets * logits, axis=1)
        else:
            each = -jnp.sum(targets * jax.nn.log_softmax(logits, axis=1), axis=1)
        return jnp.sum(each * weights) / total

    def step(state: Any, _: None) -> tuple[Any, None]:
        params, memory = state
        updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
        return (optax.apply_updates(params, updates), memory), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)
    return {**params, "mean": mean, "scale": scale}


def attentive_answer(params: dict[str, jax.Array], tokens: jax.Array, token_mask: jax.Array) -> jax.Array:
    """Logits float32 [N, C] of tokens that are not standardised yet, float32 [L, N, T, D]; params of `attentive_train`."""
    return attentive_logits(params, _standardised_tokens(tokens, token_mask, params["mean"], params["scale"]), token_mask)


def _token_standardisation(tokens: jax.Array, token_mask: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and factor of each dimension, float32 [L, 1, 1, D] both."""
    counted = (token_mask * weights[:, None])[None, :, :, None]
    total = jnp.maximum(jnp.sum(counted), 1.0)
    mean = jnp.sum(tokens * counted, axis=(1, 2), keepdims=True) / total
    deviation = jnp.sqrt(jnp.sum(jnp.square(tokens - mean) * counted, axis=(1, 2), keepdims=True) / total)
    return mean, 1.0 / jnp.maximum(deviation, 1e-6)


def _standardised_tokens(tokens: jax.Array, token_mask: jax.Array, mean: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.where(token_mask[None, :, :, None], (tokens - mean) * scale, 0.0)


@dataclass(frozen=True)
class AttentiveProbe:
    """The attentive probe as `nested.Probe`: one candidate for each weight decay."""

    tokens: np.ndarray  # float32 [L, N, T, D]
    token_mask: np.ndarray  # bool [N, T]
    targets: np.ndarray  # float32 [N, C]
    multi_label: bool
    seed: int = 0
    settings: tuple[Setting, ...] = WEIGHT_DECAYS

    def __post_init__(self) -> None:
        if not self.token_mask.any(axis=1).all():
            clip = int(np.flatnonzero(~self.token_mask.any(axis=1))[0])
            raise UserError(f"clip {clip} has no token; the attentive probe needs at least one")

    def scores(self, rounds: Rounds) -> SweepScores:
        score, loss = _scores(
            self.tokens, self.token_mask, self.targets, rounds, jnp.asarray(self.settings), self.multi_label, self.seed
        )
        return SweepScores(np.asarray(score)[None].swapaxes(1, 2), np.asarray(loss)[None].swapaxes(1, 2))

    def answers(self, choice: Choice, rounds: Rounds, number: int) -> np.ndarray:
        training = _marks(rounds.train[number], rounds.weights[number], len(self.targets))
        decay = jnp.asarray(self.settings[choice.setting], jnp.float32)
        logits = _fit(self.tokens, self.token_mask, self.targets, training, decay, self.multi_label, self.seed)
        return np.asarray(logits)[rounds.held[number][rounds.part[number] >= 0]]


_fit = jax.jit(attentive_fit, static_argnames=("multi_label", "seed"))


@partial(jax.jit, static_argnames=("multi_label", "seed"))
def _scores(
    tokens: jax.Array, token_mask: jax.Array, targets: jax.Array, rounds: Rounds, decays: jax.Array, multi_label: bool, seed: int
) -> tuple[jax.Array, jax.Array]:
    """Score and loss, float32 [S, R, P] each; one round and weight decay after the other, because tokens are large."""

    def one(now: Rounds) -> Any:
        training = _marks(now.train, now.weights, len(targets))
        parts = now.part[None] == jnp.arange(rounds.folds.shape[1])[:, None]

        def with_decay(decay: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = attentive_fit(tokens, token_mask, targets, training, decay, multi_label, seed)
            return jax.vmap(lambda part: measure(logits[now.held], targets[now.held], part, multi_label))(parts)

        return jax.lax.map(with_decay, decays)

    return jax.lax.map(one, rounds)


def _marks(train: Any, weights: Any, rows: int) -> jax.Array:
    """float32 [rows]: 1 for the rows that train."""
    return jnp.zeros(rows).at[train].max(weights)
