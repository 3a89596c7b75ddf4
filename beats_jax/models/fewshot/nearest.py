"""Few-shot classifiers without parameters: the nearest class mean, in three spaces (letters: see `models.fewshot`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.fewshot import Queries, Scores, Support

Points = Float[Array, "_ width"]


def prototypes(support: Support) -> Float[Array, "ways width"]:
    """The mean of each class."""
    return jnp.mean(support, axis=1)


def prototypical_scores(support: Support, query: Queries) -> Scores:
    """Minus the squared Euclidean distance to the mean of each class (Snell et al. 2017)."""
    return -squared_distances(query, prototypes(support))


def simpleshot_scores(support: Support, query: Queries, centre: Float[Array, " width"] | None = None) -> Scores:
    """SimpleShot's CL2N (Wang et al. 2019): centred, each vector of length 1, then minus the squared distance to class means.

    Args:
      centre: mean embedding of other recordings, as published; None = the mean of the support.
    """
    centre = jnp.mean(support, axis=(0, 1)) if centre is None else centre
    return prototypical_scores(unit(support - centre[None, None]), unit(query - centre[None]))


def unit(vectors: Float[Array, "*items width"]) -> Float[Array, "*items width"]:
    """Each vector divided by its length; a vector of zeros stays, with a finite gradient."""
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def squared_distances(left: Points, right: Points) -> Float[Array, "_ _"]:
    """By differences, not by the product of matrices: exact also where vectors are long and near each other.

    Needs memory for points x others x width only where XLA cannot join the two steps.
    """
    return jnp.sum(jnp.square(left[:, None] - right[None]), axis=-1)
