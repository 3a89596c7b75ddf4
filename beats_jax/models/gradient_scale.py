"""Identity whose gradient is multiplied (unilm/beats/modules.py `GradMultiply`)."""

from __future__ import annotations

from functools import partial
from typing import cast

import jax


def scale_gradient(x: jax.Array, factor: float) -> jax.Array:
    """Returns `x`; what flows back through it is multiplied by `factor`."""
    return cast(jax.Array, _scaled(x, factor))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scaled(x: jax.Array, factor: float) -> jax.Array:
    del factor
    return x


def _forward(x, factor):
    return _scaled(x, factor), None


def _backward(factor, saved, cotangent):
    del saved
    return (cotangent * factor,)


_scaled.defvjp(_forward, _backward)
