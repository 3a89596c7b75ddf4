"""Matrix products in the compute precision, accumulated and returned in float32, forwards and backwards.

XLA's CPU backend uses the bfloat16 dot instructions only when the result is float32, and plain differentiation would mix a
float32 cotangent with bfloat16 operands, which falls back to a float32 product. Hence the gradient rule written out below.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def contract(subscripts: str, left: jax.Array, right: jax.Array, dtype: DTypeLike) -> jax.Array:
    """`einsum` of two arrays whose inputs are rounded to `dtype`.

    Args:
      subscripts: two-operand einsum without ellipsis; every index of an operand occurs in the other one or in the result.
      left, right: float arrays.
      dtype: float32, or bfloat16 for both operands of the product and of its two gradient products.
    Returns:
      float32.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
    return _rounded_contract(subscripts, jnp.dtype(dtype), left, right)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rounded_contract(subscripts: str, dtype: jnp.dtype, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32)


def _forward(subscripts, dtype, left, right):
    low_left, low_right = left.astype(dtype), right.astype(dtype)
    result = jnp.einsum(subscripts, low_left, low_right, preferred_element_type=jnp.float32)
    # Empty arrays carry the operands' own dtypes, which their cotangents must have.
    return result, (low_left, low_right, jnp.zeros((0,), left.dtype), jnp.zeros((0,), right.dtype))


def _backward(subscripts, dtype, saved, cotangent):
    low_left, low_right, like_left, like_right = saved
    operands, result = subscripts.split("->")
    left, right = operands.split(",")
    low = cotangent.astype(dtype)
    left_cotangent = jnp.einsum(f"{result},{right}->{left}", low, low_right, preferred_element_type=jnp.float32)
    right_cotangent = jnp.einsum(f"{left},{result}->{right}", low_left, low, preferred_element_type=jnp.float32)
    return left_cotangent.astype(like_left.dtype), right_cotangent.astype(like_right.dtype)


_rounded_contract.defvjp(_forward, _backward)
