"""Norms of gradients, whole and by block."""

import jax.numpy as jnp
import numpy as np

from beats_jax.objectives.metrics import gradient_norms


def test_norms_are_given_by_block_of_the_encoder_only():
    gradients = {
        "model": {
            "encoder": {"layers_0": {"fc1": {"kernel": jnp.full((2, 2), 3.0)}}, "layers_11": {"bias": jnp.asarray([1.0])}},
            "patch": jnp.asarray([8.0]),
        },
        "predictor": {"layers_0": {"kernel": jnp.asarray([100.0])}},
    }
    found = {name: float(total / count) for name, (total, count) in gradient_norms(gradients).items()}
    assert set(found) == {"gradient_norm", "block_00_gradient_norm", "block_11_gradient_norm"}
    np.testing.assert_allclose(found["block_00_gradient_norm"], 6.0)
    np.testing.assert_allclose(found["block_11_gradient_norm"], 1.0)
    np.testing.assert_allclose(found["gradient_norm"], (36 + 1 + 64 + 1e4) ** 0.5, rtol=1e-6)


def test_norms_without_an_encoder_have_no_blocks():
    assert set(gradient_norms({"layers_0": {"kernel": jnp.ones(2)}})) == {"gradient_norm"}
