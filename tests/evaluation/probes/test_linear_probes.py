"""Logistic and ridge regression against scikit-learn on the same objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from beats_jax.evaluation.probes.linear import ridge_values, standardise
from beats_jax.evaluation.probes.logistic import logistic_logits, logistic_path

STRENGTHS = (1e-3, 1e-1, 1.0, 10.0)


def problem(examples, width, classes, seed=0):
    """Overlapping classes, dimensions of unequal size: standardised training and test embeddings, labels of the training."""
    draw = np.random.default_rng(seed)
    labels = np.arange(examples + 20) % classes
    sizes = (1 + np.arange(width)) ** -0.7
    rows = (draw.standard_normal((classes, width))[labels] + 3 * draw.standard_normal((examples + 20, width))) * sizes + 5
    rows = rows.astype(np.float32)
    train, test = standardise(jnp.asarray(rows[:examples]), jnp.ones(examples), jnp.asarray(rows[examples:]))
    return np.asarray(train), np.asarray(test), labels[:examples]


def one_hot(labels, classes):
    return jnp.asarray(np.eye(classes, dtype=np.float32)[labels])


def answers(path, place, test):
    """Probabilities of the test examples."""
    return np.asarray(jax.nn.softmax(test @ path.coefficients[place].T + path.intercepts[place][None], axis=1))


@pytest.mark.parametrize(("examples", "width"), [(120, 20), (40, 90)])
def test_multinomial_solutions_are_those_of_scikit_learn(examples, width):
    """More examples than dimensions, and fewer: there the axes come from the other Gram matrix."""
    train, test, labels = problem(examples, width, 4)
    path = logistic_path(train, one_hot(labels, 4), jnp.ones(examples), jnp.array(STRENGTHS), tolerance=1e-6)
    for i, strength in enumerate(STRENGTHS):
        truth = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(train.astype(float), labels)
        np.testing.assert_allclose(path.coefficients[i], truth.coef_, atol=1e-4)
        np.testing.assert_allclose(path.intercepts[i], truth.intercept_, atol=1e-4)
        np.testing.assert_allclose(answers(path, i, test), truth.predict_proba(test), atol=1e-4)


def test_the_sweeps_tolerance_is_tight_enough():
    train, test, labels = problem(40, 90, 4, seed=1)
    path = logistic_path(train, one_hot(labels, 4), jnp.ones(40), jnp.array(STRENGTHS))
    for i, strength in enumerate(STRENGTHS):
        truth = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(train.astype(float), labels)
        np.testing.assert_allclose(answers(path, i, test), truth.predict_proba(test), atol=5e-3)
    logits = logistic_logits(train, one_hot(labels, 4), jnp.ones(40), test, jnp.array(STRENGTHS), False)
    np.testing.assert_allclose(jax.nn.softmax(logits[2], axis=1), answers(path, 2, test), atol=1e-5)


def test_several_labels_are_one_binary_problem_each():
    train = problem(40, 90, 4)[0]
    targets = (np.random.default_rng(2).random((40, 4)) < (0.2, 0.4, 0.5, 0.7)).astype(np.float32)
    path = logistic_path(train, targets, jnp.ones(40), jnp.array(STRENGTHS), multi_label=True, tolerance=1e-6)
    for i, strength in enumerate(STRENGTHS):
        for k in range(4):
            truth = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(train.astype(float), targets[:, k])
            np.testing.assert_allclose(path.coefficients[i, k], truth.coef_[0], atol=1e-4)
            np.testing.assert_allclose(path.intercepts[i, k], truth.intercept_[0], atol=1e-4)


def test_padding_is_no_example():
    train, test, labels = problem(40, 90, 4)
    garbage = np.concatenate([train + 2.0, np.full((6, 90), 1e3, np.float32)])
    targets = jnp.concatenate([one_hot(labels, 4), jnp.ones((6, 4))])
    weights = jnp.concatenate([jnp.ones(40), jnp.zeros(6)])
    padded, moved = standardise(jnp.asarray(garbage), weights, jnp.asarray(test + 2.0))
    np.testing.assert_allclose(padded[:40], train, atol=1e-5)
    np.testing.assert_array_equal(padded[40:], 0)
    found = logistic_path(padded, targets, weights, jnp.array(STRENGTHS), tolerance=1e-6)
    expected = logistic_path(train, one_hot(labels, 4), jnp.ones(40), jnp.array(STRENGTHS), tolerance=1e-6)
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-4)
    alphas = jnp.array([0.1, 1.0, 100.0])
    ridge = ridge_values(train, one_hot(labels, 4), jnp.ones(40), test, alphas)
    np.testing.assert_allclose(ridge_values(padded, targets, weights, moved, alphas), ridge, atol=1e-4)


def test_a_class_without_examples_is_improbable_and_harms_nobody():
    train, test, labels = problem(40, 90, 3)
    ones, strengths = jnp.ones(40), jnp.array(STRENGTHS)
    path = logistic_path(train, one_hot(labels, 4), ones, strengths, tolerance=1e-6)
    assert answers(path, 2, test)[:, 3].max() < 1e-5
    without = logistic_path(train, one_hot(labels, 3), ones, strengths, tolerance=1e-6)
    np.testing.assert_allclose(path.coefficients[:3, :3], without.coefficients[:3], atol=1e-3)
    several = logistic_path(train, one_hot(labels, 4), ones, strengths, multi_label=True, tolerance=1e-6)
    logits = test @ several.coefficients[2].T + several.intercepts[2][None]
    assert jax.nn.sigmoid(logits)[:, 3].max() < 1e-5


@pytest.mark.parametrize(("examples", "width"), [(120, 20), (40, 90)])
def test_ridge_is_that_of_scikit_learn(examples, width):
    train, test, labels = problem(examples, width, 4)
    alphas = (0.1, 1.0, 100.0)
    found = ridge_values(train, one_hot(labels, 4), jnp.ones(examples), test, jnp.array(alphas))
    for values, alpha in zip(found, alphas, strict=True):
        truth = Ridge(alpha=alpha).fit(train.astype(float), np.eye(4)[labels])
        np.testing.assert_allclose(values, truth.predict(test), atol=1e-4)


def test_standardising_survives_constants_and_far_means():
    rows = np.random.default_rng(0).normal(1e4, 0.1, (50, 3)).astype(np.float32)
    rows[:, 1] = 1e4
    train, test = standardise(jnp.asarray(rows), jnp.ones(50), jnp.asarray(rows))
    expected = (rows.astype(float) - rows.mean(0, dtype=float)) / np.maximum(rows.std(0, dtype=float), 1e-30)
    np.testing.assert_allclose(train[:, [0, 2]], expected[:, [0, 2]], atol=0.02)
    np.testing.assert_array_equal(train[:, 1], 0)
    np.testing.assert_array_equal(test[:, 1], 0)
