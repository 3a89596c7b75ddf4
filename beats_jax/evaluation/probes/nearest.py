"""Probes by nearness: the k nearest training examples, or the nearest class mean."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from beats_jax.config.rules import require_one_of
from beats_jax.errors import UserError

DISTANCES = ("cosine", "euclid")
TIE = 1e-3  # weight of the similarities beside a vote: it decides between equal votes and never reverses unequal ones
COSINE_TEMPERATURE = 0.1
SMALLEST = 1e-9


@partial(jax.jit, static_argnames=("counts", "multi_label"))
def knn_logits(
    train: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    test: jax.Array,
    counts: tuple[int, ...],
    multi_label: bool = False,
) -> jax.Array:
    """Shares of the votes of the k nearest training examples by cosine, float32 [R, m, C], as logits.

    Every neighbour has one vote. Ties: of training examples at the same distance the one that stands first is nearer; of classes
    with equal votes the one whose voters are more similar wins. Where fewer than k examples are real, all of them vote.

    Args:
      train: float32 [n, D]. targets: float32 [n, C]. weights: float32 [n], 1 = an example, 0 = padding. test: float32 [m, D].
      counts: R numbers of neighbours.
      multi_label: a class's probability is the share of the neighbours that have it.
    Raises:
      UserError: more neighbours than training examples.
    """
    if max(counts) > train.shape[0] or min(counts) < 1:
        raise UserError(f"k is {max(counts)}; there are {train.shape[0]} training examples: k lies between 1 and their number")
    similarity = _unit(test) @ _unit(train).T
    similarity, index = jax.lax.top_k(jnp.where(weights[None] > 0, similarity, -jnp.inf), max(counts))
    real = jnp.isfinite(similarity)
    closeness = jnp.where(real, 0.5 + 0.5 * similarity, 0.0)
    voted = jnp.where(real[:, :, None], targets[index], 0.0)
    votes, close = jnp.cumsum(voted, axis=1), jnp.cumsum(voted * closeness[:, :, None], axis=1)
    number = jnp.maximum(jnp.cumsum(real, axis=1), 1)[:, :, None].astype(jnp.float32)
    last = jnp.asarray(counts) - 1
    share = ((votes + TIE * close / number) / ((1 + TIE) * number))[:, last].transpose(1, 0, 2)
    if multi_label:
        share = jnp.clip(share, SMALLEST, 1 - 1e-6)
        return jnp.log(share) - jnp.log1p(-share)
    return jnp.log(share + SMALLEST)


@partial(jax.jit, static_argnames="distances")
def prototype_logits(
    train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, distances: tuple[str, ...]
) -> jax.Array:
    """Nearness to the mean of each class (Snell et al. 2017), float32 [R, m, C], as logits; one label an example.

    "cosine": the cosine divided by 0.1. "euclid": minus the squared distance divided by twice the mean squared distance of
    training examples to their own class mean, so that the scale of the embedding cancels. A class without training examples
    has -1e9. Of classes equally near the first one wins. Arguments as `knn_logits`.

    Raises:
      UserError: an unknown distance.
    """
    for name in distances:
        require_one_of("distance", name, DISTANCES)
    members = jnp.sum(targets * weights[:, None], axis=0)
    means = (targets * weights[:, None]).T @ train / jnp.maximum(members, 1.0)[:, None]
    own = jnp.sum(jnp.square(train - targets @ means), axis=1)
    spread = jnp.sum(own * weights) / jnp.maximum(jnp.sum(weights), 1.0)
    total = jnp.sum(jnp.sum(jnp.square(train), axis=1) * weights) / jnp.maximum(jnp.sum(weights), 1.0)
    spread = jnp.maximum(spread, 1e-3 * total + 1e-30)  # one example a class: no spread within
    rules = {
        "cosine": lambda: _unit(test) @ _unit(means).T / COSINE_TEMPERATURE,
        "euclid": lambda: -_squared_distances(test, means) / (2 * spread),
    }
    return jnp.stack([jnp.where(members[None] > 0, rules[name](), -1e9) for name in distances])


def _unit(rows: jax.Array) -> jax.Array:
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _squared_distances(left: jax.Array, right: jax.Array) -> jax.Array:
    norms = jnp.sum(jnp.square(left), axis=1)[:, None] + jnp.sum(jnp.square(right), axis=1)[None]
    return norms - 2 * left @ right.T
