"""Recordings without labels: found anywhere, heard evenly by recorded time, silence left out."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from coded_audio import RATE, coded_waveform, decode_window
from scipy import stats

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.loader import Batch, steps_per_epoch, training_batches
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.datasets.windows import training_stretches
from beats_jax.errors import UserError

AUDIO = AudioConfig()
DATA = DataConfig(source="recordings", window_seconds=0.25, batch_size=8, draw="time")


def draw(manifest: Manifest, data: DataConfig, steps: int, **settings: int) -> list[Batch]:
    return list(islice(training_batches(manifest, None, data, AUDIO, **{"seed": 3, **settings}), steps))


def write(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, waveform.astype(np.float32), RATE, "FLOAT")


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 0.2, 1 and 4 s in different depths."""
    root = tmp_path_factory.mktemp("forest")
    for number, (name, seconds) in enumerate([("a.wav", 0.2), ("site/b.wav", 1.0), ("site/2020/c.WAV", 4.0)]):
        write(root / name, coded_waveform(number, seconds))
    (root / "notes.txt").write_text("rain")
    return root


@pytest.fixture(scope="module")
def manifest(forest: Path) -> Manifest:
    data = replace(DATA, root=str(forest))
    return validate(load_manifest(data, workdir=forest), data, AUDIO, min_classes=0).manifest


def test_every_recording_is_found_and_has_no_label(manifest: Manifest) -> None:
    assert [Path(name).name for name in manifest.files] == ["a.wav", "c.WAV", "b.wav"]
    assert manifest.labels.counts() == {}
    assert set(assign_splits(manifest, replace(DATA, train_split=0.5, val_split=0.5, test_split=0.0)).splits) == {"train", "val"}


def test_the_report_counts_rows_of_splits_where_there_are_no_labels(manifest: Manifest) -> None:
    data = replace(DATA, train_split=0.67, val_split=0.33, test_split=0.0)
    report = validate(manifest, data, AUDIO, min_classes=0)
    assert "no labels" in report.summary().splitlines()
    assert "no labels; rows: train 2, val 1, test 0" in report.with_splits(assign_splits(manifest, data)).summary().splitlines()


def test_an_empty_folder_and_a_wrong_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no audio file"):
        load_manifest(replace(DATA, root=str(tmp_path)), workdir=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_manifest(replace(DATA, root=str(tmp_path / "none")), workdir=tmp_path)


def test_batches_have_no_labels(manifest: Manifest) -> None:
    (batch,) = draw(manifest, DATA, 1)
    assert set(batch.arrays) == {"waveforms", "lengths", "positions", "rows", "example_mask"}


def test_an_epoch_hears_recordings_by_their_length(manifest: Manifest) -> None:
    assert len(training_stretches(manifest, DATA)) == 1 + 16 + 4
    assert steps_per_epoch(manifest, DATA) == 3
    batches = draw(manifest, DATA, 21)  # 168 examples = 8 epochs
    assert Counter(np.concatenate([b.arrays["rows"] for b in batches]).tolist()) == {0: 8, 1: 8 * 16, 2: 8 * 4}
    rows = replace(DATA, draw="rows")
    assert steps_per_epoch(manifest, rows) == 1


def test_every_place_of_a_recording_is_as_likely(manifest: Manifest) -> None:
    long = manifest.take([1])
    starts = [decode_window(w)[1] / RATE for b in draw(long, DATA, 40) for w in b.arrays["waveforms"]]
    assert stats.kstest(starts, stats.uniform(0, 3.75).cdf).pvalue > 0.01
    assert all(np.histogram(starts, np.linspace(0, 3.75, 17))[0] == 20)  # each epoch each of the sixteen shares once


def test_any_step_and_any_host_see_the_same_stream(manifest: Manifest) -> None:
    whole = draw(manifest, DATA, 4)
    late = draw(manifest, DATA, 2, start_step=2)
    for one, two in zip(whole[2:], late, strict=True):
        np.testing.assert_array_equal(one.arrays["waveforms"], two.arrays["waveforms"])
    halves = [draw(manifest, DATA, 1, host_index=i, host_count=2)[0].arrays["waveforms"] for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), whole[0].arrays["waveforms"])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One recording that is silent for its first half, one with a constant offset and nothing else but one click."""
    root = tmp_path_factory.mktemp("quiet")
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    write(root / "half.wav", noise * (np.arange(2 * RATE) >= RATE))
    write(root / "offset.wav", np.where(np.arange(2 * RATE) == 5, 0.31, 0.3))
    data = replace(DATA, root=str(root))
    return validate(load_manifest(data, workdir=root), data, AUDIO, min_classes=0).manifest


def test_silent_windows_are_drawn_anew_and_then_left_out(quiet: Manifest) -> None:
    data = replace(DATA, reject_below_dbfs=-60.0)
    batches = draw(quiet, data, 8)
    rows = np.concatenate([b.arrays["rows"] for b in batches])
    heard = np.concatenate([b.arrays["example_mask"] for b in batches])
    levels = np.concatenate([b.arrays["waveforms"] for b in batches]).std(axis=1)
    assert set(rows[~heard]) == {1}  # only the offset is given up, although half of the other file is silent
    assert not heard[rows == 1].any()
    assert (levels[heard] > 1e-3).all()
    assert not any(b.errors for b in batches)
    everything = draw(quiet, DATA, 8)
    assert np.concatenate([b.arrays["example_mask"] for b in everything]).all()
    assert (np.concatenate([b.arrays["waveforms"] for b in everything]).std(axis=1) < 1e-3).any()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        DataConfig(draw="time", balanced=True)
    with pytest.raises(UserError, match="it must be at most 0"):
        DataConfig(reject_below_dbfs=60.0)
