"""The network of the arms: it learns, repeats to the bit, and says when its loss runs away."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.pipelines.studying.classifier import Pool, Recipe, fit, predict
from beats_jax.pipelines.studying.networks import CNN, MLP

RECIPE = Recipe(MLP, 2, steps=40, batch_size=16)


def _pool(rows: int = 60, seed: int = 0) -> Pool:
    """Class 1 has a brighter corner."""
    rng = np.random.default_rng(seed)
    images, labels = rng.normal(0, 1, (rows, 16, 16)).astype(np.float32), np.arange(rows) % 2
    images[:, :4, :4] += 1.5 * labels[:, None, None]
    return Pool(images, labels, np.ones(2, np.float32))


@pytest.mark.slow
def test_it_learns_what_is_there_to_learn_and_repeats():
    pool, new = _pool(), _pool(seed=1)
    weights = fit(pool, RECIPE, seed=3)
    found = predict(weights, MLP, 2, new.images)
    assert (found.argmax(axis=1) == new.labels).mean() > 0.9
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    again = predict(fit(pool, RECIPE, seed=3), MLP, 2, new.images)
    np.testing.assert_array_equal(found, again)
    other = predict(fit(pool, RECIPE, seed=4), MLP, 2, new.images)
    assert np.abs(found - other).max() > 0
    np.testing.assert_array_equal(predict(weights, MLP, 2, new.images[:7]), found[:7])  # alone as in a full batch


def test_a_loss_that_runs_away_is_named():
    pool = _pool()
    broken = Pool(np.where(pool.images > 2, np.inf, pool.images).astype(np.float32), pool.labels, pool.class_weights)
    with pytest.raises(FloatingPointError, match="not finite at step"):
        fit(broken, RECIPE, seed=0)


@pytest.mark.slow
def test_the_cnn_learns_augmented_pictures():
    rng = np.random.default_rng(0)
    images, labels = rng.normal(0, 1, (80, 64, 64)).astype(np.float32), np.arange(80) % 2
    images[:, :, 20:24] += 1.0 * labels[:, None, None]  # a band that shifting in time leaves
    pool = Pool(images, labels, np.ones(2, np.float32), augmented=True)
    found = predict(fit(pool, Recipe(CNN, 2, 60, 16, augmented=True), 0), CNN, 2, images)
    assert (found.argmax(axis=1) == labels).mean() > 0.9
