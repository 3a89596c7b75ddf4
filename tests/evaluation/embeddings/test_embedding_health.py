"""Rank, spread, drift and pictures of embeddings against closed forms and another library."""

import numpy as np
import pytest

from beats_jax.evaluation.embeddings.health import drift, effective_rank, principal_points, spread
from beats_jax.evaluation.report.figures.curves import block_curves, embedding_pictures, has_block_curves
from beats_jax.evaluation.report.pretraining import findings


@pytest.fixture
def cloud():
    return np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)


def orthogonal(size, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def test_rank_counts_directions(cloud):
    basis = orthogonal(12)[:, :3]
    whitened = np.linalg.qr(cloud[:, :3] - cloud[:, :3].mean(0))[0]  # three directions of equal strength
    assert effective_rank(100 + whitened @ basis.T) == pytest.approx(3, rel=1e-4)
    assert effective_rank(np.outer(cloud[:, 0], basis[:, 0])) == pytest.approx(1, abs=1e-4)
    assert effective_rank(np.full((20, 5), 3.0)) == 0
    assert 11 < effective_rank(cloud) <= 12


def test_spread_is_the_share_that_differs(cloud):
    centred = cloud - cloud.mean(0)
    assert spread(centred) == pytest.approx(1)
    assert spread(centred + 3) == pytest.approx(np.square(centred).mean() / (np.square(centred).mean() + 9), rel=1e-4)
    assert spread(np.ones((4, 3))) == 0
    assert spread(np.zeros((4, 3))) == 0


def test_drift_is_blind_to_rotation_scale_and_shift_only(cloud):
    assert drift(cloud, 5 * cloud @ orthogonal(12) - 2) == pytest.approx(0, abs=1e-6)
    other = np.random.default_rng(5).standard_normal((200, 30))
    x, y = cloud - cloud.mean(0), other - other.mean(0)
    by_features = np.square(y.T @ x).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)  # Kornblith et al., eq. 5
    assert drift(cloud, other) == pytest.approx(1 - by_features, rel=1e-5)
    assert drift(cloud, np.ones((200, 3))) == 1


def test_points_are_the_directions_of_largest_variance(cloud):
    stretched = cloud * np.array([10.0, 5.0] + [0.1] * 10)
    found = principal_points(stretched)
    assert found.explained.sum() > 0.98
    correlation = np.abs(np.corrcoef(found.places.T, stretched[:, :2].T)[:2, 2:])
    assert np.diag(correlation).min() > 0.95
    assert np.isfinite(principal_points(np.ones((9, 4))).explained).all()


def test_pictures_show_every_step_and_group(cloud):
    groups = np.array(["wren", "owl"] * 100)
    picture = embedding_pictures([(0, principal_points(cloud), groups), (500, principal_points(cloud), groups)])
    assert picture.startswith("data:image/svg+xml")


def rows(first, last):
    return [{"step": 0, **first}, {"step": 10, "train/loss": 2.0}, {"step": 20, "train/loss": 1.0, **last}]


def test_a_run_that_makes_things_worse_says_so():
    def told(before, after):
        return " ".join(findings(rows({"val/probe_accuracy": before}, {"val/probe_accuracy": after, "val/drift": 0.4})))

    assert "Alarm: the encoder has become worse on the labelled clips. accuracy of a linear probe: 0.900" in told(0.9, 0.7)
    assert "Alarm" not in told(0.7, 0.9)
    assert "moved by 0.40" in told(0.7, 0.9)


def test_collapse_is_an_alarm():
    collapsed = findings(rows({"val/feature_rank": 30.0}, {"val/feature_rank": 1.2, "train/embedding_spread": 0.9}))
    assert any(line.startswith("Alarm: features have collapsed") for line in collapsed)
    line = findings(rows({}, {"train/embedding_spread": 0.9, "train/embedding_rank": 1.0}))
    assert any(line.startswith("Alarm: embeddings have collapsed") for line in line)
    healthy = findings(rows({}, {"train/embedding_spread": 0.9, "train/embedding_rank": 20.0, "val/feature_rank": 9.0}))
    assert not any("Alarm" in line for line in healthy)


def test_the_gradient_of_every_block_is_drawn():
    history = [{"step": step, **{f"train/block_{n:02d}_gradient_norm": 1.0 + n for n in range(12)}} for step in (10, 20)]
    assert block_curves(history, "gradient_norm").startswith("data:image/svg+xml")
    assert has_block_curves(history, "gradient_norm")
    assert not has_block_curves([{"step": 1, "train/loss": 1.0}], "gradient_norm")
