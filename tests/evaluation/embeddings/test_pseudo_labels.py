"""Signal and noise among regions of a species: as bambird's calls of kneed and DBSCAN have them, and where there is little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beats_jax.evaluation.embeddings.pseudo_labels import SignalSettings, pseudo_labels, scale_features

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "regions.json").read_text())["pseudo_labels"]
NAMES = ["shp_001", "shp_002", "shp_003", "peak_f", "duration_t"]


@pytest.mark.parametrize("case", GOLDEN)
def test_signal_is_bambirds(case: dict) -> None:
    found = pseudo_labels(np.array(case["features"]), NAMES, ["owl"] * len(case["features"]), SignalSettings(knee="nearest"))
    assert found.signal.tolist() == case["signal"]


def two_species() -> tuple[np.ndarray, list[str]]:
    draw = np.random.default_rng(0)
    calls = [draw.normal(centre, 0.02, (40, 5)) for centre in (0.2, 0.8)]
    noise = draw.uniform(0, 1, (10, 5))
    return np.concatenate([*calls, noise]), ["owl"] * 40 + ["frog"] * 40 + ["owl", "frog"] * 5


@pytest.mark.parametrize("method", ["dbscan", "hdbscan"])
def test_each_species_has_its_own_signal(method: str) -> None:
    features, species = two_species()
    found = pseudo_labels(features, NAMES, species, SignalSettings(method=method, percentage_pts=10))
    assert found.signal[:80].mean() > 0.9
    assert found.signal[80:].mean() < 0.2


def test_every_group_may_be_kept() -> None:
    features = two_species()[0][:80]
    biggest, every = (
        pseudo_labels(features, NAMES, ["owl"] * 80, SignalSettings(min_pts=5, eps=0.3, keep=keep)) for keep in ("biggest", "all")
    )
    assert biggest.signal.sum() == 40
    assert every.signal.all()


def test_little_or_bad_input_is_noise() -> None:
    features = np.tile([0.1, 0.2, 0.3, 0.4, 0.5], (7, 1))
    features[4, 2] = np.nan
    species = ["few", "few", "same", "same", "same", "same", "alone"]
    found = pseudo_labels(features, NAMES, species)
    assert found.signal.tolist() == [False, False, True, True, False, True, False]
    assert found.group.tolist() == [-1, -1, 0, 0, -1, 0, -1]
    assert len(pseudo_labels(np.zeros((0, 5)), NAMES, []).signal) == 0


def test_the_shape_has_one_scale() -> None:
    scaled = scale_features(np.array([[0.0, 5, 10, 7, 1], [10.0, 5, 2, 9, 1]]), NAMES)
    np.testing.assert_allclose(scaled, [[0, 0.5, 1, 0, 0], [1, 0.5, 0.2, 1, 0]])
