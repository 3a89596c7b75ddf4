"""Recall at a rate of false alarms, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.evaluation.metrics.false_alarms import recall_at_rate

TRUTH = np.array([True, True, True, True, False, False, False, False])
SCORES = np.array([0.9, 0.7, 0.5, 0.1, 0.8, 0.6, 0.3, 0.2])


@pytest.mark.parametrize(("per_hour", "allowed", "recall"), [(0.4, 0, 0.25), (0.5, 1, 0.5), (1.0, 2, 0.75), (9.0, 18, 1.0)])
def test_each_false_alarm_that_is_allowed_lowers_the_threshold(per_hour: float, allowed: int, recall: float):
    found = recall_at_rate(TRUTH, SCORES, np.full(8, 1800.0), per_hour)  # two hours of background
    assert (found.allowed, found.recall, found.hours) == (allowed, recall, 2.0)


def test_a_score_equal_to_a_forbidden_one_is_not_found():
    assert recall_at_rate(np.array([True, False]), np.array([0.5, 0.5]), np.full(2, 10.0)).recall == 0.0


def test_without_background_or_without_positives_it_is_undefined():
    for truth in (np.ones(3, bool), np.zeros(3, bool)):
        assert recall_at_rate(truth, np.arange(3.0), np.full(3, 10.0)).recall is None
    with pytest.raises(ValueError, match="positive"):
        recall_at_rate(TRUTH, SCORES, np.ones(8), 0.0)
