"""Losses against scikit-learn, optax and the published formula in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import log_loss

from beats_jax.errors import UserError
from beats_jax.objectives.losses.classification import balanced_weights, sigmoid_losses, softmax_losses

C = 5
RANDOM = np.random.default_rng(0)
LOGITS = jnp.asarray(RANDOM.normal(size=(7, C)).astype(np.float32) * 3)
LABELS = RANDOM.integers(C, size=7)
ONE_HOT = jnp.eye(C)[LABELS]
MULTI = jnp.asarray(RANDOM.integers(2, size=(7, C)), jnp.float32)
WEIGHTS = jnp.asarray(RANDOM.uniform(0.5, 2, size=C), jnp.float32)
ONES = jnp.ones(C)


def test_softmax_with_class_weights_is_sklearns_log_loss():
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    losses = softmax_losses(LOGITS, ONE_HOT, class_weights=WEIGHTS)
    row_weights = np.asarray(WEIGHTS)[LABELS]
    expected = log_loss(LABELS, p / p.sum(1, keepdims=True), sample_weight=row_weights, labels=np.arange(C))
    np.testing.assert_allclose(losses.sum() / row_weights.sum(), expected, rtol=1e-5)


def test_label_smoothing_is_optaxs():
    expected = optax.softmax_cross_entropy(LOGITS, optax.smooth_labels(ONE_HOT, 0.1))
    np.testing.assert_allclose(softmax_losses(LOGITS, ONE_HOT, class_weights=ONES, label_smoothing=0.1), expected, rtol=1e-5)


def test_focal_softmax_is_equation_4_of_the_paper():
    odds = np.exp(np.asarray(LOGITS, np.float64))
    p = odds / odds.sum(1, keepdims=True)
    p_true = p[np.arange(7), LABELS]
    losses = softmax_losses(LOGITS, ONE_HOT, class_weights=ONES, focal_gamma=2.0)
    np.testing.assert_allclose(losses, -((1 - p_true) ** 2) * np.log(p_true), rtol=1e-4, atol=1e-7)


def test_sigmoid_and_its_focal_form_are_optaxs():
    plain = optax.sigmoid_binary_cross_entropy(LOGITS, MULTI).mean(-1)
    np.testing.assert_allclose(sigmoid_losses(LOGITS, MULTI, class_weights=ONES), plain, rtol=1e-5)
    focal = optax.sigmoid_focal_loss(LOGITS, MULTI, gamma=1.5).mean(-1)
    np.testing.assert_allclose(sigmoid_losses(LOGITS, MULTI, class_weights=ONES, focal_gamma=1.5), focal, rtol=1e-4)


def test_smoothed_sigmoid_is_lowest_at_the_smoothed_probability():
    logit = np.log(0.95 / 0.05).astype(np.float32)  # q = 0.9 * 1 + 0.05
    target = jnp.ones((1, 1))
    slope = jax.grad(lambda x: sigmoid_losses(x.reshape(1, 1), target, class_weights=jnp.ones(1), label_smoothing=0.1).sum())
    np.testing.assert_allclose(slope(jnp.asarray(logit)), 0, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("function", [softmax_losses, sigmoid_losses])
def test_gradient_is_finite_where_the_answer_is_certain(function, gamma):
    logits = ONE_HOT * 2000 - 1000
    gradient = jax.grad(lambda x: function(x, ONE_HOT, class_weights=ONES, focal_gamma=gamma).sum())(logits)
    assert np.all(np.isfinite(gradient))


def test_balanced_weights_are_sklearns_scaled_to_mean_one():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat(np.arange(4), [10, 20, 5, 65])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(balanced_weights(np.bincount(labels)), expected / expected.mean(), rtol=1e-6)


def test_balanced_weights_refuse_an_empty_class():
    with pytest.raises(UserError, match="classes number 1 have no training rows"):
        balanced_weights(np.array([3, 0, 2]))


def test_generalised_cross_entropy_lies_between_cross_entropy_and_absolute_error():
    """Zhang and Sabuncu 2018, eq. 6; at q = 1 it is 1 - p, and the gradient of a clip falls by p^q."""
    p = np.asarray(jax.nn.softmax(LOGITS))[np.arange(len(LOGITS)), np.argmax(ONE_HOT, axis=1)]
    for q in (0.4, 1.0):
        np.testing.assert_allclose(softmax_losses(LOGITS, ONE_HOT, class_weights=ONES, q=q), (1 - p**q) / q, rtol=1e-5)
    plain = softmax_losses(LOGITS, ONE_HOT, class_weights=ONES)
    np.testing.assert_allclose(softmax_losses(LOGITS, ONE_HOT, class_weights=ONES, q=1e-3), plain, rtol=1e-2)
    yes = np.asarray(jax.nn.sigmoid(LOGITS))
    truth = np.where(np.asarray(MULTI) > 0, yes, 1 - yes)
    np.testing.assert_allclose(
        sigmoid_losses(LOGITS, MULTI, class_weights=ONES, q=0.7), ((1 - truth**0.7) / 0.7).mean(1), rtol=1e-5
    )
    gradients = [jax.grad(lambda x, q=q: softmax_losses(x, ONE_HOT, class_weights=ONES, q=q).sum())(LOGITS) for q in (0.0, 0.5)]
    np.testing.assert_allclose(gradients[1], gradients[0] * p[:, None] ** 0.5, rtol=1e-4, atol=1e-7)
