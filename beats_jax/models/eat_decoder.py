"""EAT's decoder of pre-training: grouped convolutions over the grid of patches (EAT models/modules.py `Decoder2d`).

[N, H * W, D] → `layers` times (convolution, LayerNorm without parameters, GELU, plus the input where widths agree) → Linear
→ [N, H * W, D]. It is thrown away afterwards.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.models.contraction import contract
from beats_jax.models.elementwise import gelu, standardise
from beats_jax.models.forms import AUTO, Forms
from beats_jax.models.linear import Linear, torch_bias, torch_kernel

EPSILON = 1e-5  # of the decoder's norms; the encoder's is 1e-6


def grouped_conv(x: jax.Array, kernel: jax.Array, *, groups: int, form: str, dtype: Any) -> jax.Array:
    """Grouped 2-D convolution of the same size.

    Args:
      x: [N, H, W, I].
      kernel: [K, K, I / groups, O], K odd.
      groups: number of independent channel groups.
      form: `grouped` = one convolution; `split` = one product of all taps for each group, for CPUs, where the gradient of a
        grouped convolution is 20 to 30 times slower; `portable` = whichever the platform wants (see `models.forms`).
      dtype: precision of the inputs.
    Returns:
      float32 [N, H, W, O].
    """
    if form == "portable":
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, kernel: _by_groups(x, kernel, groups, dtype),
            default=lambda x, kernel: _convolve(x, kernel, groups, dtype),
        )
    return (_convolve if form == "grouped" else _by_groups)(x, kernel, groups, dtype)


def _convolve(x: jax.Array, kernel: jax.Array, groups: int, dtype: Any) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y.astype(jnp.float32)


def _by_groups(x: jax.Array, kernel: jax.Array, groups: int, dtype: Any) -> jax.Array:
    size, _, inputs, outputs = kernel.shape
    batch, height, width, _ = x.shape
    apart = x.reshape(batch, height, width, groups, inputs).transpose(3, 0, 1, 2, 4)
    margin = (size // 2, size // 2)
    padded = jnp.pad(apart, ((0, 0), (0, 0), margin, margin, (0, 0)))
    taps = [padded[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    columns = jnp.concatenate(taps, axis=-1).reshape(groups, -1, size * size * inputs)
    weights = kernel.reshape(size * size * inputs, groups, -1).transpose(1, 0, 2)
    y = contract("gni,gio->gno", columns, weights, dtype).reshape(groups, batch, height, width, -1)
    return y.transpose(1, 2, 3, 0, 4).reshape(batch, height, width, outputs)


class ConvLayer(nn.Module):
    """One layer with parameters `kernel` [K, K, I / groups, width] and `bias` [width], started as PyTorch starts them."""

    width: int
    kernel_size: int
    groups: int
    dtype: Any
    forms: Forms

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, I] → [N, H, W, width]."""
        fan_in = self.kernel_size**2 * x.shape[-1] // self.groups
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.width)
        kernel = self.param("kernel", torch_kernel(), shape)
        bias = self.param("bias", torch_bias(fan_in), (self.width,))
        y = grouped_conv(x, kernel, groups=self.groups, form=self.forms.conv_position_here(), dtype=self.dtype)
        y: jax.Array = gelu(standardise(y + bias[None, None, None], self.dtype, EPSILON), self.dtype)  # type: ignore[assignment]
        return x + y if x.shape == y.shape else y


class Decoder(nn.Module):
    """Parameters `layers_0`.. and `proj`; `outputs` is the width of the encoder, whose features it estimates."""

    outputs: int
    width: int
    layers: int
    kernel_size: int
    groups: int
    dtype: Any = jnp.float32
    forms: Forms = AUTO

    @nn.compact
    def __call__(self, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """tokens [N, H * W, D], time-major, and (H, W) → float32 [N, H * W, outputs]."""
        batch, count, _ = tokens.shape
        x = tokens.reshape(batch, *grid, -1)
        for i in range(self.layers):
            x = ConvLayer(self.width, self.kernel_size, self.groups, self.dtype, self.forms, name=f"layers_{i}")(x)
        start = torch_bias(self.width)
        return Linear(self.outputs, self.dtype, torch_kernel(), start, name="proj")(x.reshape(batch, count, -1))
