"""Recordings of every kind: which are studied, how they are read, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beats_jax.audio.filterbank import num_frames
from beats_jax.audio.io import write_wav
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.pipelines.studying.pictures import fit_length, load_pictures, make_pictures, samples_of, save_pictures
from beats_jax.pipelines.studying.rows import picture_filterbank, prepare_rows
from beats_jax.pipelines.studying.settings import StudySettings

RATE = 2000


def _noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def _folder(root: Path, counts: dict[str, int], seconds: float = 0.5) -> Path:
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            write_wav(root / name / f"{i:02d}.wav", _noise(seed, seconds), RATE)
            seed += 1
    return root


def _prepared(root: Path, **changes):
    return prepare_rows(StudySettings(data=str(root), **changes), ErrorLog(root.parent / "errors.csv", False))


@pytest.mark.parametrize("frames", [64, 128])
@pytest.mark.parametrize(("rate", "seconds"), [(2000, 2.0), (32_000, 8.0), (44_100, 0.3), (500, 10.0)])
def test_a_picture_has_its_frames_at_any_rate(rate: int, seconds: float, frames: int):
    config = picture_filterbank(rate, round(seconds * rate) / rate, frames)
    assert num_frames(round(seconds * rate), config) == frames
    assert config.frame_samples >= 2 * int(config.hop_samples) - 1


def test_the_front_end_at_2_khz_is_that_of_the_recipe_for_low_sounds():
    from beats_jax.command_line import read_experiment

    assert picture_filterbank(2000, 2.0, 64, 30, 500) == read_experiment("low_frequency", []).audio.filterbank


@pytest.mark.slow
def test_copies_stay_together_and_unequal_lengths_are_read(tmp_path: Path):
    root = _folder(tmp_path / "data", {"noise": 12, "owl": 12})
    for i in range(4):  # the same sound under another name
        write_wav(root / "owl" / f"copy_{i}.wav", _noise(12), RATE)
    write_wav(root / "owl" / "short.wav", _noise(99, 0.2), RATE)
    rows = _prepared(root)
    copies = [i for i, file in enumerate(rows.manifest.files.tolist()) if "copy_" in file or file.endswith("owl/00.wav")]
    assert len(copies) == 5
    assert len({str(split) for split in rows.manifest.splits[copies]}) == 1
    assert len(np.unique(rows.groups[copies])) == 1
    assert (rows.background, rows.seconds) == (0, 0.5)
    pictures = make_pictures(rows, lambda error: pytest.fail(str(error)), lambda done, total: None)
    assert pictures.images.shape == (29, 64, 64)
    assert np.isfinite(pictures.images).all()
    save_pictures(tmp_path / "pictures.npz", pictures)
    found = load_pictures(tmp_path / "pictures.npz", 29)
    assert found is not None
    np.testing.assert_allclose(found.images, pictures.images, atol=0.02)
    with pytest.raises(UserError, match="30 clips"):
        load_pictures(tmp_path / "pictures.npz", 30)


def test_a_short_clip_is_repeated(tmp_path: Path):
    np.testing.assert_array_equal(fit_length(np.array([1.0, 2.0, 3.0], np.float32), 7), [1, 2, 3, 1, 2, 3, 1])


def test_a_class_of_three_clips_is_studied(tmp_path: Path):
    rows = _prepared(_folder(tmp_path / "data", {"noise": 20, "owl": 20, "rare": 3}))
    assert rows.wanted == [1, 2]
    assert (rows.labels[rows.of_split("train")] == 2).sum() >= 1
    assert samples_of(rows) == 1000


def test_what_cannot_be_studied_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="2"):
        _prepared(_folder(tmp_path / "one" / "data", {"owl": 9}))
    with pytest.raises(UserError, match=r"part has \d classes of 2"):
        _prepared(_folder(tmp_path / "few" / "data", {"noise": 2, "owl": 2}))
    silent = tmp_path / "silent" / "data"
    _folder(silent, {"noise": 8})
    (silent / "owl").mkdir()
    for i in range(8):
        write_wav(silent / "owl" / f"{i}.wav", np.zeros(1000, np.float32), RATE)
    with pytest.raises(UserError, match="usable class"):
        _prepared(silent)
    with pytest.raises(UserError, match="'owls'"):
        _prepared(_folder(tmp_path / "named" / "data", {"noise": 8, "owl": 8}), background="owls")


def test_a_folder_with_a_table_of_labels_is_read_by_any_column(tmp_path: Path):
    root = tmp_path / "data"
    _folder(root / "audio", {"a": 8, "b": 8})
    table = [f"audio/{kind}/{i:02d}.wav,{name}" for kind, name in (("a", "noise"), ("b", "owl")) for i in range(8)]
    for kind in ("a", "b"):
        for i in range(8):
            (root / "audio" / kind / f"{i:02d}.wav").rename(root / "audio" / f"{kind}{i:02d}.wav")
        (root / "audio" / kind).rmdir()
    text = "\n".join(line.replace("/a/", "/a").replace("/b/", "/b") for line in table)
    (root / "labels.csv").write_text(f"filename,species\n{text}\n")
    rows = _prepared(root, label_column="species")
    assert rows.vocabulary.names == ("noise", "owl")
    assert len(rows.manifest) == 16
