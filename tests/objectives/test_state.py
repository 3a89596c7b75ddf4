"""The state: the average's recurrence, and loaded weights entering it strictly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from beats_jax.errors import UserError
from beats_jax.objectives.state.state import apply_gradients, create, with_parameters


def make_state(average=True):
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "head": {"bias": jnp.ones(3)}}
    return create(params, jax.random.key(0), optax.sgd(0.1), average=average)


def test_average_follows_the_recurrence():
    optimizer, decay, state = optax.sgd(0.1), 0.3, make_state()
    param, ema = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)
    for t in range(6):
        state = apply_gradients(state, jax.tree.map(jnp.ones_like, state.params), optimizer, decay)
        param = param - 0.1
        d = min(decay, (1 + t) / (10 + t))  # 0.1, 0.18, 0.25, then 0.3
        ema = d * ema + (1 - d) * param
    np.testing.assert_allclose(state.params["a"]["kernel"], param, rtol=1e-6)
    np.testing.assert_allclose(state.ema["a"]["kernel"], ema, rtol=1e-6)
    assert int(state.step) == 6
    assert state.weights is state.ema


def test_without_an_average_the_parameters_are_the_weights():
    state = make_state(average=False)
    assert state.ema is None
    assert state.weights is state.params


def test_loaded_weights_replace_a_part_and_the_average():
    loaded = {"a": {"kernel": np.full((2, 3), 7.0)}}
    state = with_parameters(make_state(), loaded)
    for tree in (state.params, state.ema):
        np.testing.assert_array_equal(tree["a"]["kernel"], np.full((2, 3), 7.0))
        np.testing.assert_array_equal(tree["head"]["bias"], np.ones(3))


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ({"a": {"kernel": np.zeros((3, 2))}}, r"a/kernel have shape \(3, 2\), the model needs \(2, 3\)"),
        ({"b": {"kernel": np.zeros((2, 3))}}, "1 loaded weights have no place in the model: b/kernel"),
    ],
)
def test_other_weights_are_refused(loaded, message):
    with pytest.raises(UserError, match=message):
        with_parameters(make_state(), loaded)
