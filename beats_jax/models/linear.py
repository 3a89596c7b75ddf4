"""The linear layer of every encoder: compute precision in, float32 out; and the initialisations that BEATs takes from PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.models.contraction import contract

Initializer = Callable[..., jax.Array]


def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: Any) -> jax.Array:
    """x @ kernel + bias: `x` [..., in], `kernel` [in, out], `bias` [out] → float32 [..., out]; the product in `dtype`."""
    flat = x.reshape(-1, x.shape[-1])
    y = contract("ni,io->no", flat, kernel, dtype)
    if bias is not None:
        y = y + bias[None, :]
    return y.reshape(*x.shape[:-1], kernel.shape[1])


def xavier_normal(gain: float) -> Initializer:
    """Normal of variance 2 gain² / (in + out), `torch.nn.init.xavier_normal_`."""
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "normal")


def torch_kernel() -> Initializer:
    """Uniform in ±1/sqrt(in): the default of `torch.nn.Linear` and `torch.nn.Conv2d`."""
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """Uniform in ±1/sqrt(fan_in): the default bias of the same layers."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Linear(nn.Module):
    """Linear layer with parameters `kernel` [in, features] and `bias` [features], both float32; returns float32."""

    features: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.normal(0.02)
    bias_init: Initializer = nn.initializers.zeros_init()
    use_bias: bool = True
    learn_bias: bool = True  # False: the bias is used and never learnt

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        if bias is not None and not self.learn_bias:
            bias = jax.lax.stop_gradient(bias)
        return linear(x, kernel, bias, self.dtype)
