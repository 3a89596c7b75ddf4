"""Precision by threshold from reviewed detections, against scipy's intervals and by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.precision_table import (
    PrecisionRow,
    precision_above,
    precision_table,
    read_precision_table,
    threshold_for,
    wilson_interval,
    write_precision_table,
)


@pytest.mark.parametrize(("right", "reviewed"), [(0, 1), (1, 1), (3, 10), (10, 10), (0, 50), (49, 50), (500, 1000)])
def test_interval_is_wilsons(right, reviewed):
    expected = binomtest(right, reviewed).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson_interval(right, reviewed), (expected.low, expected.high), atol=1e-12)


def test_by_hand():
    table = precision_table(
        ["a"] * 5 + ["=b"], np.array([0.9, 0.8, 0.8, 0.6, 0.5, 0.7]), np.array([True, True, False, False, True, False])
    )
    assert table == {
        "=b": (PrecisionRow(0.7, 0, 1),),
        "a": (PrecisionRow(0.5, 3, 5), PrecisionRow(0.6, 2, 4), PrecisionRow(0.8, 2, 3), PrecisionRow(0.9, 1, 1)),
    }
    assert threshold_for(table["a"], 0.6) == 0.5
    assert threshold_for(table["a"], 0.66) == 0.8
    assert threshold_for(table["a"], 1.0) == 0.9
    assert threshold_for(table["=b"], 0.1) is None
    assert threshold_for(table["a"], 0.9, sure=True) is None
    assert precision_above(table["a"], 0.55) == PrecisionRow(0.6, 2, 4)
    assert precision_above(table["a"], 0.95) is None


@pytest.mark.parametrize("seed", range(5))
def test_against_counting(seed):
    draw = np.random.default_rng(seed)
    labels, scores, right = draw.choice(list("ab"), 150).tolist(), np.round(draw.random(150), 2), draw.random(150) < 0.5
    for label, rows in precision_table(labels, scores, right).items():
        own = np.array(labels) == label
        assert [row.threshold for row in rows] == sorted(set(scores[own].tolist()))
        for row in rows:
            above = own & (scores >= row.threshold)
            assert (row.right, row.reviewed) == (right[above].sum(), above.sum())


def test_it_comes_back_and_is_bounded(tmp_path):
    draw = np.random.default_rng(0)
    table = precision_table(['=x, "y"'] * 5000, draw.random(5000), draw.random(5000) < 0.5)
    assert len(next(iter(table.values()))) == 200
    write_precision_table(table, tmp_path / "precision.csv")
    assert read_precision_table(tmp_path / "precision.csv") == table


def test_what_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        precision_table(["a"], np.array([np.nan]), np.array([True]))
    with pytest.raises(UserError, match="wanted precision"):
        threshold_for((), 1.5)
    path = tmp_path / "p.csv"
    path.write_text("label,threshold,right,reviewed\na,0.5,3,2\n")
    with pytest.raises(UserError, match="line 2"):
        read_precision_table(path)
    path.write_text("label,threshold,right,reviewed\na,x,1,2\n")
    with pytest.raises(UserError, match="line 2: the threshold"):
        read_precision_table(path)
    path.write_text("label,score\na,1\n")
    with pytest.raises(UserError, match="no column 'threshold'"):
        read_precision_table(path)
