"""LaplacianShot (Ziko et al. 2020, arXiv 2006.15486): the queries of an episode are labelled together.

Letters: see `models.fewshot`. Neighbouring queries pull each other to the same class. It assumes nothing on how many queries a
class has, unlike methods that balance the classes (PT-MAP, TIM), which profit from benchmarks whose classes are equally frequent
(Veilleux et al. 2021).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.fewshot import Queries, Scores, Support
from beats_jax.models.fewshot.nearest import prototypes, squared_distances, unit

NEIGHBOURS, PULL, UPDATES = 3, 1.0, 20  # the paper's k and its bound on updates; its pull is chosen on other data, 0.1 to 1.5


def laplacian_scores(
    support: Support,
    query: Queries,
    centre: Float[Array, " width"] | None = None,
    *,
    neighbours: int = NEIGHBOURS,
    pull: float = PULL,
) -> Scores:
    """Log-probabilities of the classes after the updates of LaplacianShot, on centred vectors of length 1 as SimpleShot has them.

    Class means are rectified first by the queries' own soft assignment, as in the paper (its equation 10 after BD-CSPN).

    Args:
      centre: as in `nearest.simpleshot_scores`. neighbours: of each query among the queries, at most Q - 1.
      pull: weight of the neighbours against the distance to class means.
    """
    centre = jnp.mean(support, axis=(0, 1)) if centre is None else centre
    support, query = unit(support - centre[None, None]), unit(query - centre[None])
    costs = squared_distances(query, _rectified(support, query))
    near = _affinities(query, min(neighbours, query.shape[0] - 1))

    def update(log_shares: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.nn.log_softmax(-costs + pull * near @ jnp.exp(log_shares)), None

    return jax.lax.scan(update, jax.nn.log_softmax(-costs), length=UPDATES)[0]


def _rectified(support: jax.Array, query: jax.Array, scale: float = 10.0) -> jax.Array:
    """float32 [W, D]: class means of support and queries, the queries weighted by their cosine's softmax (Liu et al. 2020)."""
    query = query + (jnp.mean(support, axis=(0, 1)) - jnp.mean(query, axis=0))[None]
    shares = jax.nn.softmax(scale * unit(query) @ unit(prototypes(support)).T, axis=-1)
    total = jnp.sum(support, axis=1) + shares.T @ query
    return total / (support.shape[1] + jnp.sum(shares, axis=0))[:, None]


def _affinities(query: jax.Array, neighbours: int) -> jax.Array:
    """float32 [Q, Q], 1 where the column is one of the row's nearest; symmetric by the mean of both directions."""
    if not neighbours:
        return jnp.zeros((query.shape[0],) * 2)
    distances = squared_distances(query, query) + jnp.diag(jnp.full(query.shape[0], jnp.inf))
    places = jax.lax.top_k(-distances, neighbours)[1]
    near = jnp.sum(jax.nn.one_hot(places, query.shape[0]), axis=1)
    return (near + near.T) / 2
