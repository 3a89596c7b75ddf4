"""Classifiers of an episode that need embeddings alone, and their answers to many episodes at once.

Letters as in `models.fewshot`, and E episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.datasets.episodes import Episodes
from beats_jax.evaluation.probes.linear import standardise
from beats_jax.evaluation.probes.logistic import logistic_logits
from beats_jax.models.fewshot.laplacian import laplacian_scores
from beats_jax.models.fewshot.nearest import prototypical_scores, simpleshot_scores

STRENGTH = 1.0  # scikit-learn's C of the logistic regression: its default
AT_A_TIME = 2**24  # values of gathered embeddings

Rule = Callable[[jax.Array, jax.Array], jax.Array]  # support [W, K, ...], queries [Q, ...] -> scores [Q, W]


def nearest_mean_scores(support: jax.Array, query: jax.Array) -> jax.Array:
    """Prototypical scores after each dimension is standardised by the support, so that none decides by its units."""
    own, other = _standardised(support, query)
    return prototypical_scores(own.reshape(support.shape), other)


def logistic_scores(support: jax.Array, query: jax.Array) -> jax.Array:
    """Logits of a logistic regression with an L2 penalty (C = 1) on the standardised support."""
    own, other = _standardised(support, query)
    targets = jnp.repeat(jnp.eye(support.shape[0]), support.shape[1], axis=0)
    return logistic_logits(own, targets, jnp.ones(len(own)), other, jnp.full(1, STRENGTH), False)[0]


def _standardised(support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
    own = support.reshape(-1, support.shape[-1])
    return standardise(own, jnp.ones(len(own)), query)


METHODS: dict[str, Rule] = {
    "prototypical": prototypical_scores,
    "simpleshot": simpleshot_scores,
    "laplacian": laplacian_scores,
    "nearest-mean": nearest_mean_scores,
    "logistic": logistic_scores,
}


def answers(rule: Rule, values: np.ndarray | jax.Array, episodes: Episodes) -> np.ndarray:
    """The way that is named for each query: int32 [E, W, Q].

    Args:
      values: float32 [N, ...], the embedding (or map) of each row of the table.
    """
    values = jnp.asarray(values)
    number, ways, queries = episodes.query.shape
    rows = ways * (episodes.support.shape[2] + queries)
    together = int(np.clip(AT_A_TIME // (rows * int(np.prod(values.shape[1:]))), 1, number))
    found = []
    for first in range(0, number, together):
        # The last batch repeats its episodes, so that one program is compiled.
        places = np.minimum(np.arange(first, first + together), number - 1)
        found.append(_answers(rule, values, episodes.support[places], episodes.query[places].reshape(together, -1)))
    return np.concatenate([np.asarray(part) for part in found])[:number].reshape(number, ways, queries)


@partial(jax.jit, static_argnames="rule")
def _answers(rule: Rule, values: jax.Array, support: jax.Array, query: jax.Array) -> jax.Array:
    return jnp.argmax(jax.vmap(lambda own, other: rule(values[own], values[other]))(support, query), axis=-1)
