"""Calibration: scikit-learn's scores, a temperature put in and found again, the optimum's closed forms, and odd inputs."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from beats_jax.evaluation.metrics.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    calibration_scores,
    fit_temperature,
    logits_of,
    reliability_table,
    scaled_probabilities,
)


def make_logits(num_examples, temperature, multi_label, num_classes=4):
    """Labels drawn from the probabilities of logits, and these logits times `temperature`: too sure by that factor."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(num_examples, num_classes))
    if multi_label:
        return logits * temperature, (rng.random(logits.shape) < expit(logits)).astype(int)
    return logits * temperature, (softmax(logits, axis=1).cumsum(axis=1) < rng.random((num_examples, 1))).sum(axis=1)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_finds_the_temperature_that_was_put_in(temperature, multi_label):
    logits, labels = make_logits(20_000, temperature, multi_label)
    found = fit_temperature(logits, labels, multi_label=multi_label)
    assert found.value == pytest.approx(temperature, rel=0.03)
    assert not found.at_limit
    before, after = (
        calibration_scores(logits, labels, multi_label=multi_label, temperature=value) for value in (1.0, found.value)
    )
    assert after.nll <= before.nll
    assert after.ece < 0.01
    if temperature != 1:
        assert (after.brier, after.ece) < (before.brier, before.ece)


@pytest.mark.parametrize("multi_label", [False, True])
def test_gradient_is_zero_at_the_optimum(multi_label):
    logits, labels = make_logits(300, 2.5, multi_label)
    found = fit_temperature(logits, labels, multi_label=multi_label).value
    step = 1e-4
    nll = [
        calibration_scores(logits, labels, multi_label=multi_label, temperature=found + change).nll for change in (-step, 0, step)
    ]
    assert nll[1] < min(nll[0], nll[2])
    assert (nll[2] - nll[0]) / (2 * step) == pytest.approx(0, abs=1e-6)


def test_closed_form_of_two_equal_logits():
    """Logits (a, 0), right in a share r: the optimum says r, so a / T = log(r / (1 - r))."""
    labels = np.array([0] * 8 + [1] * 2)
    logits = np.tile([[5.0, 0.0]], (10, 1))
    assert fit_temperature(logits, labels, multi_label=False).value == pytest.approx(5 / np.log(4), rel=1e-10)
    marks = (1 - labels)[:, None]
    assert fit_temperature(logits[:, :1], marks, multi_label=True).value == pytest.approx(5 / np.log(4), rel=1e-10)


def test_scores_equal_scikit_learn():
    logits, labels = make_logits(200, 1.5, False)
    probabilities = softmax(logits, axis=1)
    found = calibration_scores(logits, labels, multi_label=False)
    assert found.nll == pytest.approx(oracle.log_loss(labels, probabilities), abs=1e-9)
    assert found.brier == pytest.approx(((probabilities - np.eye(4)[labels]) ** 2).sum(axis=1).mean(), abs=1e-12)
    logits, marks = make_logits(200, 1.5, True)
    found = calibration_scores(logits, marks, multi_label=True)
    assert found.nll == pytest.approx(oracle.log_loss(marks.ravel(), expit(logits).ravel()), abs=1e-9)
    assert found.brier == pytest.approx(oracle.brier_score_loss(marks.ravel(), expit(logits).ravel()), abs=1e-9)
    outcome, confidence = calibration_curve(marks.ravel(), expit(logits).ravel(), n_bins=10)
    table = reliability_table(expit(logits), marks, multi_label=True, bins=10)
    filled = table.counts > 0
    np.testing.assert_allclose(table.outcome[filled], outcome, atol=1e-12)
    np.testing.assert_allclose(table.confidence[filled], confidence, atol=1e-12)


def test_ece_by_hand():
    # confidences 0.9 (right), 0.9 (wrong), 0.6 (right), 0.5 on the edge of two bins (right): it belongs to the lower
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    table = reliability_table(probabilities, np.array([0, 1, 1, 0]), multi_label=False, bins=2)
    assert table.counts.tolist() == [1, 3]
    np.testing.assert_allclose(table.confidence, [0.5, 0.8])
    np.testing.assert_allclose(table.outcome, [1, 2 / 3])
    assert table.ece == pytest.approx(0.25 * 0.5 + 0.75 * (0.8 - 2 / 3))
    edges = reliability_table(np.array([[0.0, 1.0]]), np.array([[0, 1]]), multi_label=True, bins=4)
    assert edges.counts.tolist() == [1, 0, 0, 1]
    assert edges.ece == 0
    assert np.isnan(edges.outcome[1])


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_of_probabilities_give_them_back(multi_label):
    logits, labels = make_logits(50, 3.0, multi_label)
    probabilities = scaled_probabilities(logits, 1.0, multi_label)
    again = logits_of(probabilities, multi_label)
    np.testing.assert_allclose(scaled_probabilities(again, 1.0, multi_label), probabilities, atol=1e-7)
    expected = fit_temperature(logits, labels, multi_label=multi_label).value
    assert fit_temperature(again, labels, multi_label=multi_label).value == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]]), multi_label)).all()


def test_where_there_is_no_optimum_the_limit_is_given():
    logits = np.array([[2.0, 0.0], [0.0, 3.0]])
    right, wrong, even = (fit_temperature(logits, np.array(labels), multi_label=False) for labels in ([0, 1], [1, 0], [0, 0]))
    assert (right.value, right.at_limit) == (LOWEST_TEMPERATURE, True)
    assert (wrong.value, wrong.at_limit) == (HIGHEST_TEMPERATURE, True)
    assert even.value == HIGHEST_TEMPERATURE  # more wrong than right by logits
    constant = fit_temperature(np.ones((5, 3)), np.array([0, 1, 2, 0, 0]), multi_label=False)
    assert (constant.value, constant.at_limit) == (1.0, False)
    one_class = fit_temperature(np.zeros((4, 1)), np.zeros(4, int), multi_label=False)
    assert one_class.value == 1.0


def test_nothing_and_nonsense():
    nothing = calibration_scores(np.zeros((0, 3)), np.zeros(0, int), multi_label=False)
    assert (nothing.nll, nothing.brier, nothing.ece) == (None, None, None)
    assert nothing.reliability.counts.sum() == 0
    with pytest.raises(ValueError, match="no example"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int), multi_label=False)
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.nan, 0]]), np.array([0]), multi_label=False)
    with pytest.raises(ValueError, match="2 labels"):
        fit_temperature(np.zeros((3, 2)), np.zeros(2, int), multi_label=False)
    with pytest.raises(ValueError, match="between 0 and 1"):
        logits_of(np.array([[1.5, 0.0]]), False)
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability_table(np.array([[1.5, 0.0]]), np.array([0]), multi_label=False)
    with pytest.raises(ValueError, match="0 bins"):
        reliability_table(np.array([[0.5, 0.5]]), np.array([0]), multi_label=False, bins=0)
