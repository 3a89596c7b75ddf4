"""Batch normalisation by each row's own values."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import AudioConfig, CNNConfig
from beats_jax.inference.program import Architecture, ModelProgram, Outputs, forward
from beats_jax.models import registry

CONFIG = CNNConfig(widths=(4, 6), predictor_class=2)
EVERY_LAYER = jax.jit(partial(forward, layers=True), static_argnums=0)


@pytest.fixture(scope="module")
def params():
    fbank = jnp.zeros((1, 32, 128))
    return jax.jit(registry.build(CONFIG).init)(jax.random.key(0), fbank)["params"]


@pytest.fixture(scope="module")
def sounds():
    waveforms = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32) * np.array([[0.01], [0.1], [1.0]], np.float32)
    return jnp.asarray(waveforms), jnp.array([8000, 6000, 8000])


def test_every_row_is_a_batch_of_its_own(params, sounds):
    waveforms, lengths = sounds
    own = Architecture(CONFIG, AudioConfig(), own_statistics=True)
    many = EVERY_LAYER(own, params, {"waveforms": waveforms, "lengths": lengths})
    usual = EVERY_LAYER(Architecture(CONFIG, AudioConfig()), params, {"waveforms": waveforms, "lengths": lengths})
    assert many.layers.shape == usual.layers.shape
    for row in range(3):
        alone = EVERY_LAYER(own, params, {"waveforms": waveforms[row : row + 1], "lengths": lengths[row : row + 1]})
        np.testing.assert_allclose(many.logits[row], alone.logits[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(many.layers[:, row], alone.layers[:, 0], rtol=1e-4, atol=1e-4)
    assert np.abs(many.logits - usual.logits).max() > 1e-3


def test_it_is_the_training_mode_of_a_single_row(params, sounds):
    """What darksound's extraction computes: the module by its batch, which is one recording."""
    fbank = jax.random.normal(jax.random.key(1), (1, 40, 128))
    program = EVERY_LAYER(Architecture(CONFIG, AudioConfig(), own_statistics=True), params, {"fbank": fbank})
    module = jax.jit(partial(registry.build(CONFIG).apply, batch_statistics=True))({"params": params}, fbank)
    np.testing.assert_allclose(program.features, module.features, rtol=1e-5, atol=1e-5)


def test_programs_of_both_ways_have_identities_of_their_own(params):
    usual, own = (
        ModelProgram(Architecture(CONFIG, AudioConfig(), own_statistics=way), params, Outputs(("mean",))).identity()
        for way in (False, True)
    )
    assert own == {**usual, "own_statistics": True}
