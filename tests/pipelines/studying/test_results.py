"""From outcomes to words: a gain that was put in is found, none is made up, and the gate is stricter than the words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.pipelines.studying.gate import gate_record, recommended, sentence
from beats_jax.pipelines.studying.results import Measured, compare_arms, measure_arms
from beats_jax.pipelines.studying.store import ALL, Fit, Outcome, Store

ROWS, SEEDS = 1600, 5
LABELS = np.arange(ROWS) % 2
MEASURED = Measured(LABELS[:400], LABELS, np.arange(ROWS), np.full(ROWS, 2.0), (1,), 2)
COUNTS = {ALL: np.array([700, 700])}


def _scores(separation: float, seed: int, rows: int) -> np.ndarray:
    """Probabilities; the noise of the clips is the same for all arms, that of the training is not."""
    labels = np.arange(rows) % 2
    clips = np.random.default_rng(0).normal(0, 1, rows)
    own = np.random.default_rng([seed, round(1000 * separation)]).normal(0, 0.05, rows)
    one = 1 / (1 + np.exp(-(clips + own + separation * (2 * labels - 1))))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


def _store(folder: Path, arms: dict[tuple[str, float], float], seeds: int = SEEDS) -> tuple[Store, list[Fit]]:
    store, fits = Store(folder), []
    for (arm, ratio), separation in arms.items():
        for seed in range(seeds):
            fits.append(Fit(ALL, arm, ratio, seed))
            store.write(fits[-1], Outcome(_scores(separation, seed, 400), _scores(separation, seed, ROWS), 1.0))
    return store, fits


def _compared(store: Store, fits: list[Fit]):
    results = measure_arms(store, fits, MEASURED, 400)
    return compare_arms(results, ["noise", "owl"], COUNTS, MEASURED.wanted, 0.005, MEASURED.fewest)


def test_gains_losses_and_equals_are_told_apart(tmp_path: Path):
    arms = {("real", 0.0): 1.0, ("vae", 1.0): 1.3, ("gan", 1.0): 0.8, ("jitter", 1.0): 1.0}
    found = {one.result.arm: one for one in _compared(*_store(tmp_path, arms))}
    assert {arm: one.word for arm, one in found.items()} == {"vae": "gain", "gan": "loss", "jitter": "equivalent"}
    assert found["vae"].difference is not None
    assert found["vae"].difference.low > 0.02
    assert "it helps" in sentence(found["vae"], 0.005)
    assert "no difference beyond ±0.5 points" in sentence(found["jitter"], 0.005)
    record = gate_record(list(found.values()), COUNTS, (1,), {"classes": ["noise", "owl"]})
    assert record["decisions"] == [pytest.approx(record["decisions"][0])]
    assert (record["decisions"][0]["use"], record["decisions"][0]["arm"]) == (True, "vae")


def test_validation_chooses_the_ratio(tmp_path: Path):
    arms = {("real", 0.0): 1.0, ("vae", 1.0): 1.0, ("vae", 4.0): 1.2}
    (one,) = _compared(*_store(tmp_path, arms))
    assert one.result.ratio == 4.0


def test_a_gain_that_oversampling_gives_too_does_not_open_the_gate(tmp_path: Path):
    arms = {("real", 0.0): 1.0, ("vae", 1.0): 1.3, ("oversampled", 1.0): 1.3}
    found = _compared(*_store(tmp_path, arms))
    assert {one.result.arm: one.word for one in found} == {"vae": "gain", "oversampled": "gain"}
    assert recommended(found, ALL) is None


def test_few_seeds_do_not_open_the_gate(tmp_path: Path):
    found = _compared(*_store(tmp_path, {("real", 0.0): 1.0, ("vae", 1.0): 1.3}, seeds=3))
    assert found[0].word == "gain"
    assert recommended(found, ALL) is None


def test_an_arm_that_failed_is_reported_and_the_others_are_compared(tmp_path: Path):
    store, fits = _store(tmp_path, {("real", 0.0): 1.0, ("vae", 1.0): 1.3})
    fits.append(Fit(ALL, "gan", 1.0, 0))
    store.write(fits[-1], Outcome(None, None, 2.0, failure="gan diverged at step 7"))
    results = measure_arms(store, fits, MEASURED, 200)
    assert next(one for one in results if one.arm == "gan").failures == ("gan diverged at step 7",)
    assert [one.result.arm for one in compare_arms(results, ["noise", "owl"], COUNTS, (1,), 0.005, 800)] == ["vae"]


def test_outcomes_come_back_as_they_were_and_damaged_ones_are_named(tmp_path: Path):
    store, fits = _store(tmp_path, {("real", 0.0): 1.0}, seeds=1)
    found = store.read(fits[0])
    np.testing.assert_array_equal(found.test, _scores(1.0, 0, ROWS))
    assert store.fits() == fits
    store.path(fits[0]).write_bytes(b"torn")
    with pytest.raises(UserError, match="damaged"):
        store.read(fits[0])
