"""GELU and LayerNorm against jax's own, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.models.layers import LayerNorm, gelu

X = jnp.asarray(np.random.default_rng(0).normal(0, 2, (5, 7, 32)), jnp.float32)
COTANGENT = jnp.asarray(np.random.default_rng(1).normal(0, 1, X.shape), jnp.float32)


def value_and_gradients(function, *arguments):
    value, back = jax.vjp(function, *arguments)
    return value, *back(COTANGENT)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_gelu(dtype, bound):
    value, gradient = value_and_gradients(lambda x: gelu(x, dtype), X)
    expected, expected_gradient = value_and_gradients(lambda x: jax.nn.gelu(x, approximate=False), X)
    np.testing.assert_allclose(value, expected, atol=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=bound)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-6), ("bfloat16", 3e-2)])
def test_layer_norm(dtype, bound):
    """An offset of 1e3 shows a one-pass variance."""
    params = {"scale": jnp.linspace(0.5, 1.5, 32), "bias": jnp.linspace(-1, 1, 32)}
    peer = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    for offset in (0.0, 1e3):
        with jax.numpy_rank_promotion("allow"):
            expected = value_and_gradients(lambda p, x: peer.apply({"params": p}, x), params, X + offset)
        found = value_and_gradients(lambda p, x: LayerNorm(dtype).apply({"params": p}, x), params, X + offset)
        np.testing.assert_allclose(found[0], expected[0], atol=3e-6 if offset == 0 else 2e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=20 * bound), found[1], expected[1])
        np.testing.assert_allclose(found[2], expected[2], atol=bound if offset == 0 else 1e-3 + bound)
