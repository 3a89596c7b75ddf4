"""The pools of the arms: the same real examples, equal numbers of further ones, and nothing of validation or test."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.audio.synth import write_dataset
from beats_jax.config.schema import SyntheticConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.pipelines.studying.arms import Arms
from beats_jax.pipelines.studying.pictures import Pictures
from beats_jax.pipelines.studying.rows import StudyRows, prepare_rows
from beats_jax.pipelines.studying.settings import StudySettings
from beats_jax.pipelines.studying.store import ALL, Fit


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySettings, StudyRows, Pictures]:
    folder = tmp_path_factory.mktemp("calls")
    write_dataset(folder / "data", SyntheticConfig(num_classes=2, clips_per_class=20, seconds=0.5, sample_rate=2000, seed=1))
    settings = StudySettings(data=str(folder / "data"), background="", ratios=(1.0, 2.0))
    rows = prepare_rows(settings, ErrorLog(folder / "errors.csv", False))
    number = len(rows.manifest)  # a picture holds the number of its row
    images = np.broadcast_to(np.arange(number, dtype=np.float32)[:, None, None], (number, 64, 64)).copy()
    blank = np.zeros((number, 1), np.float32)
    return settings, rows, Pictures(images, blank, blank, blank, np.ones(number, bool))


def _arms(studied, generator=None, notes: list[str] | None = None) -> Arms:
    settings, rows, pictures = studied
    return Arms(settings, rows, pictures, generator or _forbidden, ([] if notes is None else notes).append)


def _forbidden(*_: object):
    raise AssertionError("no generator was asked for")


def test_smaller_sizes_are_parts_of_larger_ones_and_all_rows_train(studied):
    arms = _arms(studied)
    train = set(arms.usable("train").tolist())
    sets = [set(arms.real(size, 3).tolist()) for size in (2, 5, ALL)]
    assert sets[0] < sets[1] < sets[2] == train
    assert len(sets[0]) == 4
    assert set(arms.real(5, 4).tolist()) != sets[1]  # another seed draws others


@pytest.mark.parametrize("arm", ["oversampled", "jitter", "scenes", "vae"])
def test_every_arm_that_adds_has_as_many_of_each_class(studied, arm: str):
    seen: list[np.ndarray] = []

    def generator(kind: str, images: np.ndarray, labels: np.ndarray, classes: int, seed: int):
        seen.append(images[:, 0, 0])
        return lambda wanted, seed: np.full((len(wanted), 64, 64), -1.0, np.float32)

    arms = _arms(studied, generator)
    for ratio in (1.0, 2.0):
        pool, _ = arms.pool(Fit(5, arm, ratio, 0))
        assert np.bincount(pool.labels).tolist() == [5 * (1 + round(ratio))] * 2
    real = arms.real(5, 0)
    np.testing.assert_array_equal(pool.images[:10, 0, 0], real)  # pictures hold the numbers of their rows
    if arm == "vae":
        assert len(seen) == 1  # trained once for both ratios
        assert set(seen[0].astype(int).tolist()) == set(real.tolist())
    elif arm != "scenes":
        assert set(np.round(pool.images[10:].mean(axis=(1, 2))).astype(int).tolist()) <= set(real.tolist())


def test_a_generator_draws_twice_what_the_largest_ratio_needs(studied):
    arms = _arms(studied)
    assert arms.drawn(5) == 2 * 2 * 2 * 5  # two for each wanted one, of two classes, at a ratio of 2
    asked = []
    arms = _arms(
        studied, lambda *_: lambda wanted, seed: asked.append(len(wanted)) or np.zeros((len(wanted), 64, 64), np.float32)
    )
    arms.pool(Fit(5, "vae", 1.0, 0))
    assert asked == [arms.drawn(5)]


def test_controls_without_further_examples(studied):
    arms = _arms(studied)
    real, classic, weighted = (arms.pool(Fit(ALL, arm, 0.0, 0))[0] for arm in ("real", "classic", "weighted"))
    assert (real.augmented, classic.augmented) == (False, True)
    np.testing.assert_array_equal(real.labels, weighted.labels)
    assert real.class_weights.tolist() == [1.0, 1.0]


def test_a_generator_that_diverges_is_an_error_of_its_arm(studied):
    arms = _arms(studied, lambda *_: lambda wanted, seed: np.full((len(wanted), 64, 64), np.nan, np.float32))
    with pytest.raises(FloatingPointError, match="gan"):
        arms.pool(Fit(5, "gan", 1.0, 0))


def test_the_gate_keeps_what_it_recognises(studied, monkeypatch: pytest.MonkeyPatch):
    from beats_jax.pipelines.studying import arms as module

    monkeypatch.setattr(module, "fit", lambda pool, recipe, seed: None)
    monkeypatch.setattr(module, "predict", lambda weights, kind, classes, images: np.eye(2)[(images[:, 0, 0] > 0).astype(int)])

    def generator(kind: str, images: np.ndarray, labels: np.ndarray, classes: int, seed: int):
        # three of four are of their class
        return lambda wanted, seed: np.broadcast_to(
            np.where(np.arange(len(wanted)) % 4 == 0, 0.5 - wanted, wanted - 0.5)[:, None, None], (len(wanted), 64, 64)
        ).astype(np.float32)

    arms = _arms(studied, generator)
    pool, kept = arms.pool(Fit(5, "vae_gated", 2.0, 0))
    assert kept == pytest.approx(0.75)
    assert np.bincount(pool.labels).tolist() == [15, 15]
    assert ((pool.images[10:, 0, 0] > 0).astype(int) == pool.labels[10:]).all()
    monkeypatch.setattr(module, "predict", lambda weights, kind, classes, images: np.eye(2)[(images[:, 0, 0] < 0).astype(int)])
    empty = _arms(studied, lambda *_: lambda wanted, seed: np.broadcast_to((wanted - 0.5)[:, None, None], (len(wanted), 64, 64)))
    with pytest.raises(UserError, match="no synthetic example"):
        empty.pool(Fit(5, "gan_gated", 1.0, 0))
