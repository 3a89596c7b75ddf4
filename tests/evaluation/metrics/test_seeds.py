"""Comparisons over seeds, against normal theory and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.evaluation.metrics.seeds import SeedDifference, compare_seeds, verdict


def _drawn(values: np.ndarray, spread: float, seed: int = 0, resamples: int = 20_000) -> np.ndarray:
    """[S, R]: the same test recordings for every seed, so that they move together."""
    return values[:, None] + np.random.default_rng(seed).normal(0, spread, resamples)[None]


def test_equal_arms_have_no_difference():
    values = np.array([0.9, 0.91, 0.92])
    found = compare_seeds(values, values, _drawn(values, 0.01), _drawn(values, 0.01))
    assert found is not None
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_interval_holds_both_recordings_and_seeds():
    rng = np.random.default_rng(3)
    shifts = rng.normal(0.02, 0.01, 25)
    first = np.full(25, 0.9)
    noise = rng.normal(0, 0.004, 20_000)[None]  # of the difference, by the drawn recordings
    found = compare_seeds(first, first + shifts, np.repeat(first[:, None], 20_000, 1), (first + shifts)[:, None] + noise)
    assert found is not None
    deviation = np.sqrt(np.var(shifts) / 25 + 0.004**2)  # independent parts add
    assert found.difference == pytest.approx(shifts.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    assert found.inner_high - found.inner_low == pytest.approx(2 * 1.645 * deviation, rel=0.05)
    assert found.low < found.inner_low < found.inner_high < found.high


def test_an_undefined_metric_has_no_comparison():
    values = np.array([0.9, np.nan])
    assert compare_seeds(values, values, _drawn(values, 0.1), _drawn(values, 0.1)) is None
    assert verdict(None, float("nan"), 0.005, 1000) == "open"


def _difference(low: float, high: float, base: float = 0.9) -> SeedDifference:
    middle, half = (low + high) / 2, (high - low) / 2 * 0.84
    return SeedDifference(base, base + middle, middle, low, high, middle - half, middle + half, 0.01, (middle,))


@pytest.mark.parametrize(
    ("low", "high", "p", "word"),
    [
        (0.01, 0.03, 0.01, "gain"),
        (-0.03, -0.01, 0.01, "loss"),
        (0.01, 0.03, 0.2, "open"),  # not after correction
        (-0.02, 0.03, 0.7, "open"),
        (-0.003, 0.004, 0.9, "equivalent"),
        (0.001, 0.004, 0.01, "equivalent"),  # sure, and too small to matter
    ],
)
def test_the_words(low: float, high: float, p: float, word: str):
    assert verdict(_difference(low, high), p, 0.005, fewest=1000) == word


def test_at_the_ceiling_few_test_clips_show_no_equivalence():
    nothing = _difference(0.0, 0.0, base=1.0)
    assert verdict(nothing, 1.0, 0.005, fewest=9) == "open"  # 3 / 9 of the clips may be wrong unseen
    assert verdict(nothing, 1.0, 0.005, fewest=700) == "equivalent"
    assert verdict(_difference(0.0, 0.0, base=0.6), 1.0, 0.005, fewest=9) == "equivalent"  # errors were seen, and drawn
