"""Classifiers of an episode that need embeddings alone, and their answers to many episodes at once.

Letters as in `models.fewshot`, and E episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.datasets.episodes import Episodes
from beats_jax.errors import UserError
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


def answers(rule: Callable[..., jax.Array], values: np.ndarray | jax.Array, episodes: Episodes, params: Any = None) -> np.ndarray:
    """The way that is named for each query: int32 [E, W, Q].

    Args:
      rule: support [W, K, ...], queries [Q, ...] -> scores [Q, W]; after `params` where they are given.
      values: float32 [N, ...], the embedding (or map) of each row of the table.
    Raises:
      UserError: a score that is not a number.
    """
    values = jnp.asarray(values)
    number, ways, queries = episodes.query.shape
    rows = ways * (episodes.support.shape[2] + queries)
    together = int(np.clip(AT_A_TIME // (rows * int(np.prod(values.shape[1:]))), 1, number))
    values, found = jnp.asarray(values), []
    for first in range(0, number, together):
        # The last batch repeats its episodes, so that one program is compiled.
        places = np.minimum(np.arange(first, first + together), number - 1)
        query = episodes.query[places].reshape(together, -1)
        named, finite = _answers(rule, params, values, episodes.support[places], query)
        if not finite:  # the largest of NaN would be the first way: an accuracy of chance without a word
            raise UserError(
                "some scores are not numbers: the embeddings or the head's weights are too large; choose another method"
            )
        found.append(np.asarray(named))
    return np.concatenate(found)[:number].reshape(number, ways, queries)


@partial(jax.jit, static_argnames="rule")
def _answers(
    rule: Callable[..., jax.Array], params: Any, values: jax.Array, support: jax.Array, query: jax.Array
) -> tuple[jax.Array, jax.Array]:
    known = () if params is None else (params,)
    scores = jax.vmap(lambda own, other: rule(*known, values[own], values[other]))(support, query)
    return jnp.argmax(scores, axis=-1), jnp.all(jnp.isfinite(scores))
