"""The critic of a GAN, and spectral normalisation as pure functions; its generator is `layers.Painter`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.generative.layers import Images, Labels, Tower

EPSILON = 1e-6


class Critic(nn.Module):
    """Images [N, bands, frames] and classes [N] → how real each looks, [N]; the class enters by projection (arXiv 1802.05637)."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Float[Array, " images"]:
        features = Tower(self.width, 0, normalise=False, name="tower")(images, labels)
        features = nn.leaky_relu(nn.Dense(8 * self.width, name="features")(features), 0.2)
        wanted = nn.Embed(self.classes, features.shape[-1], name="label")(labels)
        return nn.Dense(1, name="score")(features)[:, 0] + jnp.sum(wanted * features, axis=-1)


def start_vectors(params: Any, key: jax.Array) -> Any:
    """A random unit vector [out] for each kernel and embedding of `params`, a zero for other leaves: for `normalise`."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [_start(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def _start(leaf: jax.Array, key: jax.Array) -> jax.Array:
    return _unit(jax.random.normal(key, leaf.shape[-1:])) if leaf.ndim > 1 else jnp.zeros(1)


def normalise(params: Any, vectors: Any) -> tuple[Any, Any]:
    """Every kernel over its largest singular value, by one step of power iteration (arXiv 1802.05957, algorithm 1).

    Args:
      vectors: of `start_vectors` or of the call before.
    Returns:
      the normalised parameters, through which gradients flow, and the next vectors.
    """
    moved = jax.tree.map(_power_step, params, vectors)
    return jax.tree.map(_over_norm, params, moved), moved


def _matrix(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(-1, leaf.shape[-1])


def _power_step(leaf: jax.Array, vector: jax.Array) -> jax.Array:
    if leaf.ndim < 2:
        return vector
    matrix = jax.lax.stop_gradient(_matrix(leaf))
    return _unit(matrix.T @ _unit(matrix @ vector))


def _over_norm(leaf: jax.Array, vector: jax.Array) -> jax.Array:
    # |W v| with a fixed v: its gradient is that of the singular value, as in the paper
    return leaf if leaf.ndim < 2 else leaf / (jnp.linalg.norm(_matrix(leaf) @ vector) + EPSILON)


def _unit(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + EPSILON)
