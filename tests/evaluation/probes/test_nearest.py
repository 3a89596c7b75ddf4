"""Neighbours and class means against scikit-learn, and what ties do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from beats_jax.errors import UserError
from beats_jax.evaluation.probes.nearest import knn_logits, prototype_logits

DRAW = np.random.default_rng(0)
LABELS = np.arange(60) % 3
TRAIN = (DRAW.standard_normal((3, 8))[LABELS] + 1.5 * DRAW.standard_normal((60, 8))).astype(np.float32)
TEST = DRAW.standard_normal((25, 8)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[LABELS]


def test_neighbours_are_those_of_scikit_learn():
    counts = (1, 5, 9)
    logits = knn_logits(TRAIN, TARGETS, jnp.ones(60), TEST, counts)
    for answer, count in zip(logits, counts, strict=True):
        truth = KNeighborsClassifier(count, metric="cosine").fit(TRAIN, LABELS).predict_proba(TEST)
        np.testing.assert_allclose(jax.nn.softmax(answer, axis=1), truth, atol=1.1e-3)
    several = np.stack([LABELS == 0, LABELS != 1], axis=1).astype(np.float32)
    shares = jax.nn.sigmoid(knn_logits(TRAIN, several, jnp.ones(60), TEST, (5,), multi_label=True))[0]
    truth = KNeighborsClassifier(5, metric="cosine").fit(TRAIN, several).predict_proba(TEST)
    np.testing.assert_allclose(shares, np.stack([column[:, 1] for column in truth], axis=1), atol=1.1e-3)


def test_ties_and_padding():
    train = jnp.array([[1.0, 0.2], [1.0, 0.1], [1.0, 0.1], [1.0, 9.0]])
    targets = jnp.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 0, 0]])
    test = jnp.array([[1.0, 0.0]])
    one, two, three = knn_logits(train, targets, jnp.ones(4), test, (1, 2, 3))
    assert int(one[0].argmax()) == 1  # rows 1 and 2 are equally near: the first
    assert int(two[0].argmax()) == 1
    assert int(three[0].argmax()) == 1  # one vote each: the most similar voter, of equals the first class
    hidden = knn_logits(train, targets, jnp.array([1.0, 0.0, 0.0, 1.0]), test, (3,))[0, 0]
    np.testing.assert_allclose(jax.nn.softmax(hidden), [1, 0, 0], atol=1e-6)
    with pytest.raises(UserError, match="k is 5; there are 4 training examples"):
        knn_logits(train, targets, jnp.ones(4), test, (1, 5))


def test_class_means_are_those_of_scikit_learn():
    cosine, euclid = prototype_logits(TRAIN, TARGETS, jnp.ones(60), TEST, ("cosine", "euclid"))
    truth = NearestCentroid().fit(TRAIN, LABELS)
    np.testing.assert_array_equal(np.asarray(euclid).argmax(1), truth.predict(TEST))
    means = truth.centroids_ / np.linalg.norm(truth.centroids_, axis=1, keepdims=True)
    similarity = TEST @ means.T / np.linalg.norm(TEST, axis=1, keepdims=True)
    np.testing.assert_allclose(0.1 * cosine, similarity, atol=1e-5)
    larger = prototype_logits(100 * TRAIN, TARGETS, jnp.ones(60), 100 * TEST, ("euclid",))[0]
    np.testing.assert_allclose(larger, euclid, rtol=1e-3, atol=1e-3)


def test_class_means_of_one_or_no_example():
    targets = np.eye(4, dtype=np.float32)[:3]
    logits = prototype_logits(TRAIN[:3], targets, jnp.ones(3), TEST, ("cosine", "euclid"))
    assert np.isfinite(np.asarray(logits)).all()
    assert np.asarray(jax.nn.softmax(logits, axis=2))[:, :, 3].max() == 0
    with pytest.raises(UserError, match="manhattan"):
        prototype_logits(TRAIN[:3], targets, jnp.ones(3), TEST, ("manhattan",))
