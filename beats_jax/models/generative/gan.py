"""The generator and the critic of a GAN, and spectral normalisation as pure functions."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.generative.layers import (
    Images,
    Labels,
    Maps,
    Tower,
    channels,
    convolution,
    fold,
    group_norm,
    halvings,
    unfold,
)

EPSILON = 1e-6
SHIFT = 8  # images are moved before the critic by at most a side over this
GROUP = 4  # images that the critic compares with each other
GAIN = 2.0  # of a kernel's largest singular value: of what enters, 3 x 3 kernels with leaky ReLU pass on but about half


class Generator(nn.Module):
    """Codes [N, Z], classes [N] and noise like the images → images [N, bands, frames].

    The code sets scale and offset of every layer's maps: through the first layer alone it hardly reaches the image, since each
    normalisation takes its level away. Noise gives the speckle of spectrograms, which a code cannot hold and which otherwise
    becomes one pattern for all (both arXiv 1812.04948).
    """

    width: int
    classes: int
    bands: int
    frames: int

    @nn.compact
    def __call__(self, codes: Float[Array, "images _"], labels: Labels, noise: Images) -> Images:
        levels = halvings(self.bands, self.frames)
        height, breadth, inner = self.bands >> levels, self.frames >> levels, channels(self.width, levels)
        label = nn.Embed(self.classes, codes.shape[-1], name="label", embedding_init=nn.initializers.normal(1.0))(labels)
        wanted = jnp.concatenate([codes, label], axis=-1)
        x = nn.Dense(height * breadth * inner, name="start")(wanted).reshape(-1, height, breadth, inner)
        for level in range(levels - 1, 0, -1):
            x = nn.relu(self._styled(x, wanted, level))
            x = unfold(convolution(4 * channels(self.width, level), f"conv{level}", 2.0)(x))
        x += nn.Dense(x.shape[-1], use_bias=False, name="speckle")(fold(noise[..., None]))
        return unfold(convolution(4, "conv0")(nn.relu(self._styled(x, wanted, 0))))[..., 0]

    def _styled(self, x: Maps, wanted: jax.Array, level: int) -> jax.Array:
        init = nn.initializers.variance_scaling(0.5, "fan_in", "normal")
        style = nn.Dense(2 * x.shape[-1], kernel_init=init, name=f"style{level}")(wanted)
        scale, offset = jnp.split(style[:, None, None], 2, axis=-1)
        return group_norm(x, f"norm{level}") * (1 + scale) + offset


class Critic(nn.Module):
    """Images [N, bands, frames] and classes [N] → how real each looks, [N]; the class enters by projection (arXiv 1802.05637)."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Float[Array, " images"]:
        features = Tower(self.width, 0, normalise=False, name="tower")(images, labels)
        maps = features.reshape(len(features), -1, channels(self.width, halvings(*images.shape[1:])))
        features = jnp.concatenate([features, spread_in_groups(maps)], axis=-1)
        features = nn.leaky_relu(nn.Dense(8 * self.width, name="features")(features), 0.2)
        wanted = nn.Embed(self.classes, features.shape[-1], name="label")(labels)
        return nn.Dense(1, name="score")(features)[:, 0] + jnp.sum(wanted * features, axis=-1)


def spread_in_groups(maps: Float[Array, "images places channels"]) -> Float[Array, "images channels"]:
    """Standard deviation of each channel within `GROUP` neighbours (all, where N is no multiple), the mean over places.

    A critic that sees images one by one cannot tell that they are all alike (arXiv 1710.10196, section 3).
    """
    size = GROUP if len(maps) % GROUP == 0 else len(maps)
    spread = jnp.sqrt(jnp.var(maps.reshape(-1, size, *maps.shape[1:]), axis=1) + EPSILON)
    return jnp.repeat(jnp.mean(spread, axis=1), size, axis=0)


def disturb(images: Images, key: jax.Array) -> jax.Array:
    """Images moved by up to a side over `SHIFT`, and each with a hole of half its sides (arXiv 2006.10738): real and drawn alike.

    A critic of 100 images learns them by heart otherwise. Gradients flow through; what is not seen is 0.
    """
    return jax.vmap(_disturb)(images, jax.random.split(key, len(images)))


def _disturb(image: jax.Array, key: jax.Array) -> jax.Array:
    keys = jax.random.split(key)
    most = jnp.array(image.shape) // SHIFT
    shift = jax.random.randint(keys[0], (2,), 0, 2 * most + 1)
    middle = jax.random.randint(keys[1], (2,), 0, jnp.array(image.shape) + 1)
    moved = jax.lax.dynamic_slice(jnp.pad(image, [(side // SHIFT,) * 2 for side in image.shape]), shift, image.shape)
    near = [jnp.abs(jnp.arange(side) - middle[axis]) < side // 4 for axis, side in enumerate(image.shape)]
    return jnp.where(near[0][:, None] & near[1][None], 0, moved)


def start_vectors(params: Any, key: jax.Array) -> Any:
    """A random unit vector [out] for each kernel and embedding of `params`, a zero for other leaves: for `normalise`."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [_start(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def _start(leaf: jax.Array, key: jax.Array) -> jax.Array:
    return _unit(jax.random.normal(key, leaf.shape[-1:])) if leaf.ndim > 1 else jnp.zeros(1)


def normalise(params: Any, vectors: Any) -> tuple[Any, Any]:
    """Every kernel with the largest singular value `GAIN`, by one step of power iteration (arXiv 1802.05957, algorithm 1).

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
    return leaf if leaf.ndim < 2 else leaf * (GAIN / (jnp.linalg.norm(_matrix(leaf) @ vector) + EPSILON))


def _unit(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + EPSILON)
