"""Every layer, pooling and setting of a probe in every round, trained and measured in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.evaluation.probes.kinds import KINDS, Setting
from beats_jax.evaluation.probes.linear import standardise
from beats_jax.evaluation.probes.rounds import Rounds

# Numbers of training examples in one turn: small problems share the cost of a turn, large ones would wait for the slowest.
_ELEMENTS_AT_A_TIME = 2**20


class SweepScores(NamedTuple):
    """Figures of held-out examples. J embeddings, R settings, S rounds, P held folds in each."""

    score: np.ndarray  # float32 [J, R, S, P], accuracy, or mAP over the classes with examples if multi-label
    loss: np.ndarray  # float32 [J, R, S, P], mean cross-entropy


def sweep(
    embeddings: np.ndarray, targets: np.ndarray, rounds: Rounds, kind: str, settings: Sequence[Setting], multi_label: bool
) -> SweepScores:
    """Trains and measures J x R x S probes; each round standardises by its own training examples, so nothing leaks into training.

    Args:
      embeddings: float32 [J, N, D], one for each layer and pooling. targets: float32 [N, C], one-hot, or 0/1 if `multi_label`.
      kind: a name of `kinds.KINDS`. settings: R of them.
    """
    pairs = np.stack(np.meshgrid(np.arange(len(embeddings)), np.arange(len(rounds.train)), indexing="ij"), -1).reshape(-1, 2)
    at_a_time = int(np.clip(_ELEMENTS_AT_A_TIME // (rounds.train.shape[1] * embeddings.shape[2]), 1, len(pairs)))
    turns = -(-len(pairs) // at_a_time)
    padded = np.concatenate([pairs, np.repeat(pairs[:1], turns * at_a_time - len(pairs), axis=0)]).astype(np.int32)
    padded = padded.reshape(turns, at_a_time, 2)
    found = _sweep(embeddings, targets, rounds, padded, kind=kind, settings=tuple(settings), multi_label=multi_label)
    shape = (len(embeddings), len(rounds.train), len(settings), rounds.folds.shape[1])
    score, loss = (np.asarray(part).reshape(-1, *shape[2:])[: len(pairs)].reshape(shape).swapaxes(1, 2) for part in found)
    return SweepScores(score, loss)


@partial(jax.jit, static_argnames=("kind", "settings", "multi_label"))
def _sweep(
    embeddings: jax.Array,
    targets: jax.Array,
    rounds: Rounds,
    pairs: jax.Array,
    *,
    kind: str,
    settings: tuple[Setting, ...],
    multi_label: bool,
) -> tuple[jax.Array, jax.Array]:
    """Scores and losses, float32 [turns, at a time, R, P] both. pairs: int32 [turns, at a time, 2], embedding and round."""

    def one(pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = jax.tree.map(lambda column: column[pair[1]], rounds)
        embedding = embeddings[pair[0]]
        logits = probe_logits(
            embedding[now.train], targets[now.train], now.weights, embedding[now.held], kind, settings, multi_label
        )
        parts = now.part[None] == jnp.arange(rounds.folds.shape[1])[:, None]
        truth = targets[now.held]
        return jax.vmap(lambda answer: jax.vmap(lambda part: measure(answer, truth, part, multi_label))(parts))(logits)

    if pairs.shape[1] == 1:  # without vmap, whose loops copy their whole state in every turn
        return jax.tree.map(lambda part: part[:, None], jax.lax.map(lambda pair: one(pair[0]), pairs))
    return jax.lax.map(jax.vmap(one), pairs)


def probe_logits(
    train: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    test: jax.Array,
    kind: str,
    settings: tuple[Setting, ...],
    multi_label: bool,
) -> jax.Array:
    """Standardises by the training examples, trains and predicts: logits float32 [R, m, C] for a softmax, or sigmoid if
    `multi_label`.

    Args:
      train: float32 [n, D]. targets: float32 [n, C]. weights: float32 [n], 1 = an example, 0 = padding. test: float32 [m, D].
    """
    train, test = standardise(train, weights, test)
    return KINDS[kind].logits(train, targets, weights, test, settings, multi_label)


def measure(logits: jax.Array, targets: jax.Array, mask: jax.Array, multi_label: bool) -> tuple[jax.Array, jax.Array]:
    """Score and mean loss of the examples in `mask`, bool [m]; logits, targets float32 [m, C]."""
    real = mask.astype(jnp.float32)
    total = jnp.maximum(jnp.sum(real), 1.0)
    if multi_label:
        losses = jnp.sum(jnp.logaddexp(0.0, logits) - targets * logits, axis=1)
        return mean_average_precision(logits, targets, mask), jnp.sum(losses * real) / total
    right = jnp.take_along_axis(targets, jnp.argmax(logits, axis=1)[:, None], axis=1)[:, 0]
    losses = -jnp.sum(targets * jnp.maximum(jax.nn.log_softmax(logits, axis=1), -50.0), axis=1)
    return jnp.sum(right * real) / total, jnp.sum(losses * real) / total


def mean_average_precision(scores: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean average precision over the classes with examples, float32 [], 0 without any; mask: bool [m], rows that count.

    Equal scores count in the order of the rows, so this serves the choice only; `evaluation.metrics` measures.
    """
    order = jnp.argsort(jnp.where(mask[:, None], -scores, jnp.inf), axis=0)
    hits = jnp.take_along_axis(targets * mask[:, None], order, axis=0)
    precision = jnp.cumsum(hits, axis=0) / jnp.arange(1, len(scores) + 1, dtype=jnp.float32)[:, None]
    members = jnp.sum(hits, axis=0)
    average = jnp.sum(precision * hits, axis=0) / jnp.maximum(members, 1.0)
    return jnp.sum(average) / jnp.maximum(jnp.sum(members > 0), 1)


@partial(jax.jit, static_argnames=("kind", "settings", "multi_label"))
def refit(
    embedding: jax.Array,
    targets: jax.Array,
    train: jax.Array,
    weights: jax.Array,
    held: jax.Array,
    *,
    kind: str,
    settings: tuple[Setting, ...],
    multi_label: bool,
) -> jax.Array:
    """Logits of the held-out rows for one embedding, float32 [R, m, C]; rows as in `rounds.Rounds`, of one round."""
    return probe_logits(embedding[train], targets[train], weights, embedding[held], kind, settings, multi_label)
