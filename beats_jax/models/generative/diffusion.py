"""Diffusion of spectrograms by EDM (Karras et al., arXiv 2206.00364): a small U-Net, its preconditioning, and samplers.

Everything here is in units in which images have the standard deviation `SPREAD`; noise levels sigma are in the same units.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.generative.layers import Images, Labels, Maps, convolution, fold, group_norm, unfold

SPREAD = 0.5  # EDM's sigma_data
LOWEST, HIGHEST, RHO = 0.002, 80.0, 7.0  # noise levels of sampling, and how they are spaced (2206.00364, table 1)

Denoise = Callable[[Images, jax.Array], Images]  # (noisy images, sigma []) → clean images


class Residual(nn.Module):
    """Two convolutions and a residual; `condition` [N, E] scales and shifts what lies between them."""

    features: int

    @nn.compact
    def __call__(self, x: Maps, condition: Float[Array, "images _"]) -> Maps:
        y = convolution(self.features, "conv1")(nn.silu(group_norm(x, "norm1")))
        scale, shift = jnp.split(nn.Dense(2 * self.features, name="condition")(condition)[:, None, None], 2, axis=-1)
        y = nn.silu(group_norm(y, "norm2") * (1 + scale) + shift)
        y = convolution(self.features, "conv2", 0.0)(y)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, name="skip")(x)
        return x + y


class UNet(nn.Module):
    """Noisy images, ln(sigma) / 4 [N] and classes [N] (`classes` = hidden) → images [N, bands, frames].

    The first two foldings have no block of their own: on a CPU the outer resolutions cost most and carry least.
    """

    width: int
    blocks: int
    classes: int

    @nn.compact
    def __call__(self, images: Images, noise_level: Float[Array, " images"], labels: Labels) -> Images:
        width = self.width
        condition = nn.Dense(2 * width, name="noise")(waves(noise_level, width))
        condition = condition + nn.Embed(self.classes + 1, 2 * width, name="label")(labels)
        condition = nn.silu(nn.Dense(2 * width, name="condition")(nn.silu(condition)))
        x = fine = convolution(width // 2, "fine")(fold(images[..., None]))  # half the side
        x = convolution(width, "quarter")(fold(x))
        kept = []
        for level, features in enumerate((width, 2 * width)):
            if level:
                x = convolution(features, f"down{level}")(fold(x))
            for block in range(self.blocks):
                x = Residual(features, name=f"in{level}_{block}")(x, condition)
                kept.append(x)
        x = Attention(name="attention")(x)
        for level, features in ((1, 2 * width), (0, width)):
            for block in range(self.blocks):
                x = Residual(features, name=f"out{level}_{block}")(jnp.concatenate([x, kept.pop()], axis=-1), condition)
            if level:
                x = unfold(convolution(4 * width, f"up{level}")(x))
        x = unfold(convolution(2 * width, "half")(nn.silu(group_norm(x, "last"))))
        x = nn.silu(group_norm(jnp.concatenate([x, fine], axis=-1), "whole"))
        return unfold(convolution(4, "image", 0.0)(x))[..., 0]


class Attention(nn.Module):
    """Self-attention of one head over all places, with a residual that starts at zero."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        n, h, w, c = x.shape
        tokens = group_norm(x, "norm").reshape(n, h * w, 1, c)
        query, key, value = jnp.split(nn.Dense(3 * c, name="qkv")(tokens), 3, axis=-1)
        mixed = jax.nn.dot_product_attention(query, key, value).reshape(n, h, w, c)
        return x + nn.Dense(c, kernel_init=nn.initializers.zeros_init(), name="out")(mixed)


def waves(values: Float[Array, " images"], count: int) -> Float[Array, "images count"]:
    """Cosines and sines of the values at `count` / 2 frequencies from 1 to 1000 (arXiv 1706.03762, for continuous values)."""
    frequencies = jnp.exp(jnp.linspace(0.0, jnp.log(1000.0), count // 2))
    angles = values[:, None] * frequencies[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def preconditioned(
    network: Callable[[Images, jax.Array], Images], noisy: Images, sigma: Float[Array, " images"]
) -> Float[Array, "images bands frames"]:
    """The clean images D(x; sigma) that a network F(x', ln(sigma) / 4) estimates (2206.00364, equation 7 and table 1)."""
    total = jnp.sqrt(jnp.square(sigma) + SPREAD**2)
    keep, out, into = SPREAD**2 / jnp.square(total), sigma * SPREAD / total, 1 / total
    column = lambda x: x[:, None, None]  # noqa: E731
    return column(keep) * noisy + column(out) * network(column(into) * noisy, jnp.log(sigma) / 4)


def loss_weight(sigma: Float[Array, " images"]) -> Float[Array, " images"]:
    """1 / c_out^2, with which every noise level's loss starts at 1."""
    return (jnp.square(sigma) + SPREAD**2) / jnp.square(sigma * SPREAD)


def noise_levels(steps: int) -> Float[Array, " steps_and_zero"]:
    """sigma of each step of sampling, falling, and 0 behind them (2206.00364, equation 5)."""
    highest, lowest = HIGHEST ** (1 / RHO), LOWEST ** (1 / RHO)
    return jnp.append((highest + jnp.arange(steps) / (steps - 1) * (lowest - highest)) ** RHO, 0.0)


def sample_heun(denoise: Denoise, noise: Images, steps: int) -> Images:
    """Images from standard normal `noise` by Heun's second-order steps along the probability flow (2206.00364, algorithm 1)."""
    sigmas = noise_levels(steps)

    def step(x: Images, pair: jax.Array) -> tuple[Images, None]:
        now, after = pair[0], pair[1]
        slope = (x - denoise(x, now)) / now
        ahead = x + (after - now) * slope
        corrected = (slope + (ahead - denoise(ahead, after)) / after) / 2
        return x + (after - now) * corrected, None

    x, _ = jax.lax.scan(step, noise * sigmas[0], jnp.stack([sigmas[:-2], sigmas[1:-1]], axis=1))
    return denoise(x, sigmas[-2])  # the last step ends at sigma 0, where there is no slope: Euler's


def sample_ddim(denoise: Denoise, noise: Images, steps: int) -> Images:
    """The same by DDIM (arXiv 2010.02502), which in these units is Euler's method (2206.00364, section 3)."""
    sigmas = noise_levels(steps)

    def step(x: Images, pair: jax.Array) -> tuple[Images, None]:
        now, after = pair[0], pair[1]
        return x + (after - now) * (x - denoise(x, now)) / now, None

    return jax.lax.scan(step, noise * sigmas[0], jnp.stack([sigmas[:-1], sigmas[1:]], axis=1))[0]


def guided(plain: Images, hidden: Images, guidance: float) -> Images:
    """Estimates with the class and without it, mixed: `guidance` 1 = with, above 1 beyond it (arXiv 2207.12598)."""
    return hidden + guidance * (plain - hidden)
