"""Convolutional position embedding with weight normalisation (wav2vec 2.0; unilm/beats/backbone.py `pos_conv`, `SamePad`)."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config import BEATsConfig
from beats_jax.models.forms import Forms


def normalised_kernel(weight_v: jax.Array, weight_g: jax.Array) -> jax.Array:
    """g v / ||v|| with one norm per tap (`weight_norm(dim=2)` of PyTorch): v [K, in, out], g [K] → [K, in, out]."""
    norm = jnp.sqrt(jnp.sum(jnp.square(weight_v), axis=(1, 2), keepdims=True))
    return weight_v * (weight_g[:, None, None] / norm)


def conv_position(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, groups: int, form: str, dtype: Any) -> jax.Array:
    """Grouped 1-D convolution of the same length, before the GELU.

    Args:
      x: [B, T, D].
      kernel: [K, D / groups, D]; K//2 zeros on both sides, and for even K the last output is dropped.
      bias: [D].
      groups: number of independent channel groups.
      form: `grouped` = one grouped convolution; `split` = one dense convolution per group, for CPU; `portable` = split on CPUs,
        grouped elsewhere (see `models.forms`).
      dtype: precision of the convolution's inputs.
    Returns:
      float32 [B, T, D].
    """
    inputs, kernel = x.astype(dtype), kernel.astype(dtype)
    grouped, split = partial(_convolve, groups=groups), partial(_split, groups=groups)
    if form == "portable":
        y = jax.lax.platform_dependent(inputs, kernel, cpu=split, default=grouped)
    else:
        y = (grouped if form == "grouped" else split)(inputs, kernel)
    return y.astype(jnp.float32) + bias[None, None, :]


def _split(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """One dense convolution per group."""
    width, tokens = kernel.shape[0], x.shape[1]
    # XLA's CPU convolution is some 30 times slower where the sequence is shorter than the kernel, hence the zeros.
    x = jnp.pad(x, ((0, 0), (0, max(0, width - tokens)), (0, 0)))
    pairs = zip(jnp.split(x, groups, axis=2), jnp.split(kernel, groups, axis=2), strict=True)
    return jnp.concatenate([_dense(part, weights) for part, weights in pairs], axis=2)[:, :tokens]


def _convolve(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    width = kernel.shape[0]
    padding = (width // 2, width // 2 - (1 - width % 2))
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), (padding,), dimension_numbers=("NTC", "TIO", "NTC"), feature_group_count=groups
    )


@jax.custom_vjp
def _dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One ungrouped convolution, x [B, T, in], kernel [K, in, out], whose gradients are plain convolutions as well.

    XLA's CPU backend has a fast convolution for one order of the axes only, and brings the gradients that autodiff writes into
    that order everywhere but inside a loop (a scan over parts of a batch): there they doubled the time of a whole step.
    """
    return _convolve(x, kernel, 1)


def _dense_forward(x, kernel):
    return _convolve(x, kernel, 1), (x, kernel)


def _dense_backward(saved, cotangent):
    x, kernel = saved
    width = kernel.shape[0]
    before, after = width // 2, width // 2 - (1 - width % 2)
    # The barriers keep XLA from folding the transpositions back into the order of the convolution's axes.
    flipped, by_channel, taps = jax.lax.optimization_barrier(
        (kernel[::-1].transpose(0, 2, 1), x.transpose(2, 1, 0), cotangent.transpose(1, 0, 2))
    )
    axes = ("NTC", "TIO", "NTC")
    x_cotangent = jax.lax.conv_general_dilated(cotangent, flipped, (1,), ((after, before),), dimension_numbers=axes)
    by_input = jax.lax.conv_general_dilated(by_channel, taps, (1,), ((before, after),), dimension_numbers=axes)
    return x_cotangent, by_input.transpose(1, 0, 2)


_dense.defvjp(_dense_forward, _dense_backward)


class ConvPosition(nn.Module):
    """GELU of the position convolution; parameters `weight_v` [K, D/groups, D], `weight_g` [K], `bias` [D]."""

    config: BEATsConfig
    dtype: Any
    forms: Forms

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        width, taps, groups = config.encoder_embed_dim, config.conv_pos, config.conv_pos_groups
        spread = nn.initializers.normal((4.0 / (taps * width)) ** 0.5)
        weight_v = self.param("weight_v", spread, (taps, width // groups, width))
        weight_g = self.param("weight_g", lambda key, shape: jnp.sqrt(jnp.sum(jnp.square(weight_v), axis=(1, 2))), (taps,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        # XLA has no fast bfloat16 convolution on CPU: there it stays float32, 5 % of a forward pass.
        dtype = jnp.float32 if self.forms.on_cpu else self.dtype
        kernel = normalised_kernel(weight_v, weight_g)
        form = self.forms.conv_position_here()
        return jax.nn.gelu(conv_position(x, kernel, bias, groups=groups, form=form, dtype=dtype), approximate=False)
