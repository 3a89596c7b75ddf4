"""Layers that all generators share, channels last, in forms that are fast on CPUs.

Every convolution is 3 x 3 with stride 1: resolution changes by folding 2 x 2 pixels into channels and back (arXiv 1609.05158).
XLA's CPU gradients of strided, transposed and grouped convolutions and of max pooling are several times slower.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from beats_jax.config.generative import SMALLEST_SIDE
from beats_jax.config.rules import require

Maps = Float[Array, "_ _ _ _"]  # images, height, width, channels
Images = Float[Array, "images bands frames"]
Labels = Int[Array, " images"]
MOST_DOUBLINGS = 3  # of the channels


def halvings(bands: int, frames: int) -> int:
    """How often an image of this size is folded: until its smaller side is `SMALLEST_SIDE` pixels, or odd.

    Raises:
      UserError: a side that cannot be halved twice.
    """
    count = 0
    while min(bands, frames) > SMALLEST_SIDE and bands % 2 == frames % 2 == 0:
        bands, frames, count = bands // 2, frames // 2, count + 1
    require(count >= 2, "images must have at least 16 bands and 16 frames, both multiples of 4")
    return count


def channels(width: int, level: int) -> int:
    """Channels after `level` foldings, the first of which gives `width`."""
    return width * 2 ** min(level - 1, MOST_DOUBLINGS)


def fold(x: Maps) -> Maps:
    """[N, H, W, C] → [N, H / 2, W / 2, 4 C]."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def unfold(x: Maps) -> Maps:
    """[N, H, W, 4 C] → [N, 2 H, 2 W, C], the inverse of `fold`."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)


def convolution(features: int, name: str | None = None, scale: float = 1.0) -> nn.Conv:
    """3 x 3, stride 1, same size; `scale` of the initial kernel's variance, 0 = zeros."""
    init = nn.initializers.variance_scaling(scale, "fan_in", "normal") if scale else nn.initializers.zeros_init()
    return nn.Conv(features, (3, 3), padding="SAME", kernel_init=init, name=name)


def group_norm(x: Maps, name: str | None = None) -> jax.Array:
    """Normalisation over groups of about 8 channels (arXiv 1803.08494)."""
    groups = max(1, x.shape[-1] // 8)
    while x.shape[-1] % groups:
        groups -= 1
    return nn.GroupNorm(groups, name=name)(x)


class Tower(nn.Module):
    """Images → float32 [N, D]: foldings and convolutions, the class as a vector beside the last maps (not with classes 0)."""

    width: int
    classes: int
    normalise: bool

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Float[Array, "images _"]:
        x = images[..., None]
        for level in range(1, halvings(*images.shape[1:]) + 1):
            x = convolution(channels(self.width, level), f"conv{level}", 2.0)(fold(x))
            x = nn.leaky_relu(group_norm(x, f"norm{level}") if self.normalise else x, 0.2)
        x = x.reshape(len(x), -1)
        if self.classes:
            x = jnp.concatenate([x, nn.Embed(self.classes, self.width, name="label")(labels)], axis=-1)
        return x


class Painter(nn.Module):
    """Codes [N, Z] and classes [N] → images [N, bands, frames]: the decoder of autoencoders."""

    width: int
    classes: int
    bands: int
    frames: int

    @nn.compact
    def __call__(self, codes: Float[Array, "images _"], labels: Labels) -> Images:
        levels = halvings(self.bands, self.frames)
        height, breadth, inner = self.bands >> levels, self.frames >> levels, channels(self.width, levels)
        label = nn.Embed(self.classes, codes.shape[-1], name="label", embedding_init=nn.initializers.normal(1.0))(labels)
        x = nn.Dense(height * breadth * inner, name="start")(jnp.concatenate([codes, label], axis=-1))
        x = x.reshape(-1, height, breadth, inner)
        for level in range(levels - 1, 0, -1):
            x = nn.relu(group_norm(x, f"norm{level}"))
            x = unfold(convolution(4 * channels(self.width, level), f"conv{level}", 2.0)(x))
        x = nn.relu(group_norm(x, "norm0"))
        return unfold(convolution(4, "conv0")(x))[..., 0]
