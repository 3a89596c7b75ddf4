"""EAT's decoder of pre-training: grouped convolutions over the grid of patches (EAT models/modules.py `Decoder2d`).

[N, H * W, D] → `layers` times (convolution, LayerNorm without parameters, GELU, plus the input where widths agree) → Linear
→ [N, H * W, D]. It is thrown away afterwards.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from beats_jax.models.cpu import Form, block_class, convolve_2d_by_groups, pick
from beats_jax.models.layers import Linear, gelu, standardise, torch_bias, torch_kernel

EPSILON = 1e-5  # of the decoder's norms; the encoder's is 1e-6


def grouped_conv(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "taps taps group_inputs outputs"],
    *,
    groups: int,
    form: Form,
    dtype: DTypeLike,
) -> Float[Array, "batch height width outputs"]:
    """Grouped 2-D convolution of the same size (odd number of taps); `dtype` is the precision of its inputs."""
    options = {"groups": groups, "dtype": dtype}
    return pick(form, cpu=partial(convolve_2d_by_groups, **options), plain=partial(_convolve, **options))(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array, groups: int, dtype: DTypeLike) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y.astype(jnp.float32)


class ConvLayer(nn.Module):
    """One layer with parameters `kernel` [K, K, I / groups, width] and `bias` [width], started as PyTorch starts them."""

    width: int
    kernel_size: int
    groups: int
    dtype: DTypeLike
    form: Form

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width outputs"]:
        fan_in = self.kernel_size**2 * x.shape[-1] // self.groups
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.width)
        kernel = self.param("kernel", torch_kernel(), shape)
        bias = self.param("bias", torch_bias(fan_in), (self.width,))
        y = grouped_conv(x, kernel, groups=self.groups, form=self.form, dtype=self.dtype)
        y = gelu(standardise(y + bias[None, None, None], self.dtype, EPSILON), self.dtype)
        return x + y if x.shape == y.shape else y


class Decoder(nn.Module):
    """Parameters `layers_0`.. and `proj`; `outputs` is the width of the encoder, whose features it estimates."""

    outputs: int
    width: int
    layers: int
    kernel_size: int
    groups: int
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "batch patches width"], grid: tuple[int, int]
    ) -> Float[Array, "batch patches outputs"]:
        """Estimates the encoder's features from `tokens`, time-major on the grid (H, W)."""
        batch, count, _ = tokens.shape
        x = tokens.reshape(batch, *grid, -1)
        layer = block_class(ConvLayer, self.form)
        for i in range(self.layers):
            x = layer(self.width, self.kernel_size, self.groups, self.dtype, self.form, name=f"layers_{i}")(x)
        start = torch_bias(self.width)
        return Linear(self.outputs, self.dtype, torch_kernel(), start, name="proj")(x.reshape(batch, count, -1))
