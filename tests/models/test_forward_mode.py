"""Forward-mode derivatives (`jax.jvp`): <cotangent, jvp(tangent)> = <vjp(cotangent), tangent>."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_beats import TINY_BEATS

from beats_jax.config import ResNetConfig
from beats_jax.models.beats import BEATs
from beats_jax.models.convnets import ResNet18
from beats_jax.models.cpu import Form
from beats_jax.models.layers import LayerNorm, gelu, scale_gradient, standardise

pytestmark = pytest.mark.slow  # gradients of whole networks


def check_transpose(function, x, rtol=1e-4):
    """Both sides of the identity for random directions; a tree of inputs is moved at once."""
    draw = np.random.default_rng(0)

    @jax.jit
    def both(x, tangent):
        value, moved = jax.jvp(function, (x,), (tangent,))
        cotangent = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
        (back,) = jax.vjp(function, x)[1](cotangent)
        return jnp.vdot(cotangent, moved), sum(map(jnp.vdot, jax.tree.leaves(back), jax.tree.leaves(tangent)))

    tangent = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), leaf.dtype), x)
    forward, backward = both(x, tangent)
    assert abs(forward) > 1e-3
    np.testing.assert_allclose(forward, backward, rtol=rtol)


def test_beats():
    fbank = jnp.asarray(np.random.default_rng(1).normal(size=(2, 32, 128)), jnp.float32)
    mask = jnp.ones((2, 16), bool).at[1, 8:].set(False)
    module = BEATs(TINY_BEATS, form=Form.PLAIN)
    params = jax.jit(module.init)(jax.random.key(0), fbank)["params"]
    check_transpose(lambda fbank: module.apply({"params": params}, fbank, mask).features, fbank)


def test_convnet():
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 32, 32, 3)), jnp.float32)
    module = ResNet18(ResNetConfig(width=4, predictor_class=3))
    variables = jax.jit(module.init)(jax.random.key(0), images)
    check_transpose(lambda images: module.apply(variables, images).logits, images)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: gelu(x, jnp.float32),
        lambda x: gelu(x, jnp.bfloat16),
        lambda x: standardise(x, jnp.float32, 1e-5),
        lambda x: scale_gradient(x, 0.5),
        lambda x: LayerNorm().apply({"params": {"scale": jnp.arange(6.0), "bias": jnp.ones(6)}}, x),
    ],
    ids=["gelu", "gelu of bfloat16", "standardise", "scale_gradient", "LayerNorm"],
)
def test_layers(layer):
    check_transpose(layer, jnp.asarray(np.random.default_rng(1).normal(size=(3, 6)), jnp.float32), rtol=1e-5)


def test_second_derivatives():
    """A Hessian forwards over reverse, against the closed form of x Φ(x): 2 φ(x) - x² φ(x)."""
    x = jnp.linspace(-2.0, 2.0, 5)
    hessian = jax.jit(jax.hessian(lambda x: jnp.sum(gelu(x, jnp.float32))))(x)
    density = np.exp(-0.5 * np.asarray(x) ** 2) / (2 * np.pi) ** 0.5
    np.testing.assert_allclose(hessian, np.diag(2 * density - np.asarray(x) ** 2 * density), atol=1e-6)
