"""The layers of every encoder: [..., D] → [..., features], float32 in and out, products in the compute precision.

GELU and LayerNorm have derivatives written out, because plain differentiation keeps several arrays of the layer's width. GELU
keeps its derivative and LayerNorm its normalised input, both in the compute precision: 12 % and 7 % less memory in a step.
In float32 everything here can also be differentiated forwards (`jax.jvp`); in bfloat16 `contract` knows reverse mode only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-5  # PyTorch's; Flax would take 1e-6

Initializer = Callable[..., jax.Array]


def contract(subscripts: str, left: Float[Array, " ..."], right: Float[Array, " ..."], dtype: DTypeLike) -> Float[Array, " ..."]:
    """`einsum` of two arrays whose inputs are rounded to `dtype`; sums and result are float32, forwards and backwards.

    Args:
      subscripts: two-operand einsum without ellipsis; every index of an operand occurs in the other one or in the result.
      dtype: float32, or bfloat16 for both operands of the product and of its two gradient products.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
    return _rounded_contract(subscripts, jnp.dtype(dtype), left, right)


# XLA's CPU backend uses the bfloat16 dot instructions only when the result is float32. Plain differentiation would mix a float32
# cotangent with bfloat16 operands, which falls back to a float32 product; hence this gradient rule.
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rounded_contract(subscripts, dtype, left, right):
    return jnp.einsum(subscripts, left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32)


def _rounded_contract_forward(subscripts, dtype, left, right):
    low_left, low_right = left.astype(dtype), right.astype(dtype)
    result = jnp.einsum(subscripts, low_left, low_right, preferred_element_type=jnp.float32)
    # Empty arrays carry the operands' own dtypes, which their cotangents must have.
    return result, (low_left, low_right, jnp.zeros((0,), left.dtype), jnp.zeros((0,), right.dtype))


def _rounded_contract_backward(subscripts, dtype, saved, cotangent):
    low_left, low_right, like_left, like_right = saved
    operands, result = subscripts.split("->")
    left, right = operands.split(",")
    low = cotangent.astype(dtype)
    left_cotangent = jnp.einsum(f"{result},{right}->{left}", low, low_right, preferred_element_type=jnp.float32)
    right_cotangent = jnp.einsum(f"{left},{result}->{right}", low_left, low, preferred_element_type=jnp.float32)
    return left_cotangent.astype(like_left.dtype), right_cotangent.astype(like_right.dtype)


_rounded_contract.defvjp(_rounded_contract_forward, _rounded_contract_backward)


def linear(
    x: Float[Array, "*rows inputs"],
    kernel: Float[Array, "inputs features"],
    bias: Float[Array, " features"] | None,
    dtype: DTypeLike,
) -> Float[Array, "*rows features"]:
    """x @ kernel + bias in float32; the product is taken in `dtype`."""
    y = contract("ni,io->no", x.reshape(-1, x.shape[-1]), kernel, dtype)
    if bias is not None:
        y = y + bias[None, :]
    return y.reshape(*x.shape[:-1], kernel.shape[1])


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def gelu(x: Float[Array, " ..."], dtype: DTypeLike) -> Float[Array, " ..."]:
    """x Φ(x), Φ the exact normal distribution function (by erf); the derivative is kept in `dtype`."""
    return x * _normal_cdf(x)


def _normal_cdf(x):
    return 0.5 * (1.0 + jax.lax.erf(x * 0.5**0.5))


@gelu.defjvp
def _gelu_jvp(dtype, primals, tangents):
    (x,) = primals
    cdf = _normal_cdf(x)
    density = jnp.exp(-0.5 * x * x) * (2 * jnp.pi) ** -0.5
    derivative = (cdf + x * density).astype(dtype).astype(x.dtype)
    return x * cdf, tangents[0] * derivative


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardise(x: Float[Array, "*rows width"], dtype: DTypeLike, epsilon: float) -> Float[Array, "*rows width"]:
    """(x - mean) / sqrt(variance + epsilon) over the last axis, in two passes; what the derivative needs is kept in `dtype`."""
    centred, scale = _centre(x, epsilon)
    return centred * scale


def _centre(x, epsilon):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred, jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)


@standardise.defjvp
def _standardise_jvp(dtype, epsilon, primals, tangents):
    centred, scale = _centre(primals[0], epsilon)
    y = centred * scale
    kept = y.astype(dtype).astype(y.dtype)
    scaled = tangents[0] * scale
    along = jnp.mean(scaled * kept, axis=-1, keepdims=True)
    return y, scaled - jnp.mean(scaled, axis=-1, keepdims=True) - kept * along


def whole(parameter: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """A parameter gathered on every device, where it is split over them; itself outside `jax.set_mesh`.

    For small ones: XLA would rather split what they are multiplied with, and exchange that.
    """
    split = jax.sharding.get_abstract_mesh().axis_names
    return jax.lax.with_sharding_constraint(parameter, jax.sharding.PartitionSpec()) if split else parameter


def scale_gradient(x: Float[Array, " ..."], factor: float) -> Float[Array, " ..."]:
    """Returns finite `x` unchanged, with its derivative times `factor` (unilm/beats/modules.py `GradMultiply`)."""
    constant = jax.lax.stop_gradient(x)
    return constant + factor * (x - constant)


def depth_of(path: str, block: str, layers: int, *after: str) -> int:
    """Depth of a parameter for layer-wise rates: 0 = before the blocks, i + 1 = block i, L + 1 = behind them.

    Args:
      path: names joined by "/", such as `encoder/layers_3/fc1/kernel`. block: start of the paths of blocks, before their number.
      after: starts of the paths of what follows the blocks.
    """
    number = re.match(rf"{block}(\d+)/", path)
    return int(number[1]) + 1 if number else (layers + 1 if path.startswith(after) else 0)


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
    """Linear layer [..., in] → [..., features] with float32 parameters `kernel` [in, features] and `bias` [features]."""

    features: int
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.normal(0.02)
    bias_init: Initializer = nn.initializers.zeros_init()
    use_bias: bool = True
    learn_bias: bool = True  # False: the bias is used and never learnt

    @nn.compact
    def __call__(self, x: Float[Array, "*rows inputs"]) -> Float[Array, "*rows features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        if bias is not None and not self.learn_bias:
            bias = jax.lax.stop_gradient(bias)
        return linear(x, kernel, bias, self.dtype)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, [..., D] → [..., D], with parameters `scale` and `bias` [D]; `dtype` as in `standardise`."""

    dtype: DTypeLike = jnp.float32
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        return standardise(x, self.dtype, self.epsilon) * scale.reshape(shape) + bias.reshape(shape)


def larger(x: jax.Array, y: jax.Array) -> jax.Array:
    """The larger of two numbers, whose gradient always arrives at one of them.

    Those of `jnp.maximum` and `jnp.max` go where a number equals the result. XLA computes numbers anew for gradients and may
    round otherwise; then none is equal, and in a small network half of the gradient was lost.
    """
    return jnp.where(x > y, x, y)
