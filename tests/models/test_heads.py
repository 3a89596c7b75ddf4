"""Pooling over real tokens against numpy on each clip's own tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.models.heads import masked_mean, pool

DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(4, 6, 3)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
RULES = {
    "mean": lambda x: x.mean(0),
    "max": lambda x: x.max(0),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "std": lambda x: x.std(0),
}


@pytest.mark.parametrize("pooling", list(RULES))
def test_only_real_tokens_count(pooling):
    garbage = np.where(MASK[:, :, None], FEATURES, np.nan)
    pooled = np.asarray(pool(jnp.asarray(garbage), jnp.asarray(MASK), pooling))
    for i in range(3):
        np.testing.assert_allclose(pooled[i], RULES[pooling](FEATURES[i][MASK[i]]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pooled[3], 0)


def test_mean_of_nothing_is_zero_and_unknown_poolings_are_told():
    assert not np.asarray(masked_mean(jnp.asarray(FEATURES), jnp.zeros((4, 6), bool))).any()
    with pytest.raises(UserError, match="median"):
        pool(FEATURES, MASK, "median")
