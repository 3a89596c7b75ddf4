"""Novelty is a share: uniform where new sounds are like the reference, 1 where they are far from all of it."""

import numpy as np
import pytest
from scipy.stats import kstest

from beats_jax.evaluation.embeddings import novelty as module
from beats_jax.evaluation.embeddings.novelty import novelty


def test_of_sounds_like_the_reference_each_share_is_as_frequent_as_it_says():
    draw = np.random.default_rng(0).normal
    reference, new = draw(size=(3000, 6)), draw(size=(2000, 6))
    found = novelty(new, reference, np.arange(3000))
    assert kstest(found, "uniform").pvalue > 0.01
    assert abs((found >= 0.95).mean() - 0.05) < 0.02


def test_a_known_vector_has_none_and_a_far_one_all():
    reference = np.eye(8)[np.repeat(np.arange(4), 10)] + np.random.default_rng(1).normal(0, 0.05, (40, 8))
    found = novelty(np.stack([reference[3], np.eye(8)[6]]), reference, np.arange(40))
    assert found.tolist() == [0.0, 1.0]


def test_calibration_leaves_out_the_own_recording(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)  # several blocks give what one gives
    draw = np.random.default_rng(2)
    centres = draw.normal(size=(12, 5))
    groups = np.repeat([f"night {k}.wav" for k in range(12)], 5)
    reference = np.repeat(centres, 5, axis=0) + draw.normal(0, 1e-3, (60, 5))
    new = draw.normal(size=(200, 5))  # another draw of centres
    assert 0.3 < novelty(new, reference, groups).mean() < 0.75
    assert novelty(new, reference, np.arange(60)).min() > 0.9  # within a recording all are near: everything else is new


def test_a_reference_of_one_recording_leaves_out_single_rows():
    reference = np.random.default_rng(3).normal(size=(50, 4))
    same = novelty(reference + 0.01, reference, np.array(["a.wav"] * 50))
    np.testing.assert_array_equal(same, novelty(reference + 0.01, reference, np.arange(50)))
    with pytest.raises(ValueError, match="fewer than two"):
        novelty(reference, reference[:1], np.arange(1))
