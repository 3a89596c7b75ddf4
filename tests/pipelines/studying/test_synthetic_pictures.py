"""The table of synthetic pictures: copies are found out, and so are pictures unlike real ones; test pictures are neither."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.audio.synth import write_dataset
from beats_jax.config.schema import SyntheticConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.evaluation.report.page import Figure, Paragraph, Table
from beats_jax.pipelines.generating.quality import Vectors, compare
from beats_jax.pipelines.studying.arms import Arms
from beats_jax.pipelines.studying.pictures import Pictures
from beats_jax.pipelines.studying.rows import prepare_rows
from beats_jax.pipelines.studying.settings import StudySettings
from beats_jax.pipelines.studying.store import ALL, Fit, Store
from beats_jax.pipelines.studying.synthetic import CLASSES, COPIES, DISTANCES, LEAST, SHARES, synthetic_sections


def _arms(folder, clips: int) -> Arms:
    """Two classes of smooth noise, each with a mean of its own."""
    calls = SyntheticConfig(num_classes=2, clips_per_class=clips, seconds=0.25, sample_rate=2000, seed=1)
    write_dataset(folder / "data", calls)
    settings = StudySettings(data=str(folder / "data"), background="none")
    rows = prepare_rows(settings, ErrorLog(folder / "errors.csv", False))
    number, random = len(rows.manifest), np.random.default_rng(0)
    coarse = random.normal(size=(number, 8, 8)) + rows.labels[:, None, None]
    images = np.kron(coarse, np.ones((8, 8))).astype(np.float16).astype(np.float32)
    blank = np.zeros((number, 1), np.float32)
    return Arms(settings, rows, Pictures(images, blank, blank, blank, np.ones(number, bool)), lambda *_: None, print)


def test_copies_and_strangers_are_told_from_real_pictures(tmp_path):
    arms, store = _arms(tmp_path, 80), Store(tmp_path / "arms")
    real = arms.real(ALL, 0)
    store.write_samples(Fit(ALL, "oversampled", 1.0, 0), arms.pictures.images[real], arms.rows.labels[real])
    strange = np.random.default_rng(1).normal(size=(60, 64, 64)).astype(np.float32)
    store.write_samples(Fit(10, "vae", 1.0, 0), strange, np.arange(60) % 2)
    tables = [one for one in synthetic_sections(arms, store, [10, ALL])[0].blocks if isinstance(one, Table)]
    value = {}
    for table, columns in zip(tables, (DISTANCES, SHARES, COPIES, CLASSES), strict=True):
        assert [row[0] for row in table.rows] == ["real, test part", "oversampled, all", "vae, 10"]
        value |= {(row[0], name): cell.value for row in table.rows for name, cell in zip(columns, row[2:], strict=True)}
    tested = len(arms.usable("test"))
    assert [row[1] for row in tables[0].rows] == [tested] * 3
    assert value["real, test part", "copies"] < 0.1 < 0.9 < value["oversampled, all", "copies"]
    assert value["vae, 10", "copies"] == 0
    assert value["real, test part", "tell_apart"] < value["vae, 10", "tell_apart"] > 0.95
    assert value["vae, 10", "frechet"] > 5 * value["real, test part", "frechet"]
    assert value["oversampled, all", "label_fidelity"] > value["vae, 10", "label_fidelity"] + 0.2


def test_too_few_test_clips_are_said_instead_of_figures(tmp_path):
    arms, store = _arms(tmp_path, 12), Store(tmp_path / "arms")
    assert len(arms.usable("test")) < LEAST
    assert synthetic_sections(arms, store, [ALL]) == []
    real = arms.real(ALL, 0)
    store.write_samples(Fit(ALL, "jitter", 1.0, 0), arms.pictures.images[real], arms.rows.labels[real])
    (section,) = synthetic_sections(arms, store, [ALL])
    assert not any(isinstance(one, Table) for one in section.blocks)
    assert any(isinstance(one, Paragraph) and "not measured" in str(one) for one in section.blocks)


def test_of_a_handful_of_training_clips_nothing_is_measured(tmp_path):
    arms, store = _arms(tmp_path, 60), Store(tmp_path / "arms")
    real = arms.real(2, 0)
    store.write_samples(
        Fit(2, "oversampled", 4.0, 0), arms.pictures.images[np.repeat(real, 4)], np.repeat(arms.rows.labels[real], 4)
    )
    (section,) = synthetic_sections(arms, store, [2])
    assert [type(one) for one in section.blocks] == [Figure, Paragraph]


@pytest.mark.parametrize(("classes", "there"), [(10, True), (12, False), (1, False)])
def test_figures_of_classes_need_two_pictures_of_each(classes, there, recwarn):
    made, held, train = np.random.default_rng(0).normal(size=(3, 20, 4))
    labels = np.arange(20) % classes
    found = compare(made, Vectors(made, held, train, train), labels, (labels, labels), 0)
    assert all((name in found) == there for name in CLASSES)
    assert set(found) >= {*DISTANCES, *SHARES, *COPIES}
    assert not recwarn.list


@pytest.mark.parametrize("missing", ["jitter", "vae"])
def test_samples_of_an_arm_that_was_never_fitted_are_none(tmp_path, missing):
    assert Store(tmp_path).samples(ALL, missing) is None
