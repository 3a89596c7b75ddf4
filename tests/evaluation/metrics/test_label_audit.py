"""Suspect labels against planted errors, and the thresholds against their definition."""

import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.label_audit import find_suspects


def test_planted_errors_are_found_and_ranked_by_their_margin():
    random = np.random.default_rng(0)
    truth = random.integers(3, size=600)
    logits = 4 * np.eye(3)[truth] + random.normal(size=(600, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels, planted = truth.copy(), random.choice(600, 20, replace=False)
    labels[planted] = (truth[planted] + 1) % 3
    found = find_suspects(labels, probabilities)
    assert len(set(planted.tolist()) & set(found.rows[:12].tolist())) >= 11
    assert (np.diff(found.margins) >= 0).all()
    np.testing.assert_array_equal(found.suggested[:10], truth[found.rows[:10]])
    np.testing.assert_allclose(found.thresholds, [probabilities[labels == c, c].mean() for c in range(3)])


def test_a_class_of_low_confidence_has_a_lower_threshold():
    """0.4 is confident for a class that averages 0.35; below its threshold nothing is suspect."""
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.6, 0.4]])
    found = find_suspects(labels, probabilities)
    np.testing.assert_array_equal(found.rows, [1])  # row 2 is not surely of class 0, whose rows average 0.75
    with pytest.raises(UserError, match="no row"):
        find_suspects(np.zeros(4, int), probabilities)
