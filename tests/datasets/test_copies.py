"""One sound stored twice, at another level, rate or format, lies on one side of a split and is reported; likenesses are not."""

import json

import numpy as np
import pytest
import soundfile
import soxr

from beats_jax.audio.survey import survey
from beats_jax.config import AudioConfig, DataConfig
from beats_jax.datasets.copies import copies, likeness
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.roles import require_apart
from beats_jax.datasets.splits import assign_splits, group_codes
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError

RATE = 22_050


def calls(seed: int) -> np.ndarray:
    """Three seconds with the same three calls in time, of noise of the seed's own."""
    samples = np.arange(3 * RATE)
    loud = np.exp(-((samples[:, None] / RATE - [0.4, 1.3, 2.2]) ** 2) / 0.02).sum(1)
    noise = soxr.resample(np.random.default_rng(seed).standard_normal(3 * 4_000), 4_000, RATE)
    return (0.2 * loud * noise).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The first sound five times, and two others with calls at the same times."""
    folder = tmp_path_factory.mktemp("copies")
    sound = calls(0)
    soundfile.write(folder / "a.wav", sound, RATE)
    soundfile.write(folder / "a_turned.wav", -0.3 * sound + 0.1, RATE, subtype="PCM_24")
    soundfile.write(folder / "a_slow.wav", soxr.resample(sound, RATE, 16_000), 16_000)
    soundfile.write(folder / "a_coded.mp3", sound, RATE)
    soundfile.write(folder / "a_vorbis.ogg", sound, RATE)
    for seed in (1, 2):
        soundfile.write(folder / f"other_{seed}.wav", calls(seed), RATE)
    return sorted(map(str, folder.iterdir()))


def test_copies_are_told_from_what_only_runs_alike(files):
    surveys = [survey(path) for path in files]
    levels, seconds = np.stack([s.levels for s in surveys]), np.array([s.info.seconds for s in surveys])
    found = copies(np.array(files, np.dtypes.StringDType()), levels, seconds)
    assert set(found) == {(a, b) for b in range(5) for a in range(b)}
    shifted = seconds + np.arange(len(files))  # other durations: not even candidates
    assert copies(np.array(files, np.dtypes.StringDType()), levels, shifted) == []


def test_likeness_is_that_of_the_waveforms(files, tmp_path):
    assert likeness(files[0], files[0]) == pytest.approx(1.0, abs=1e-5)
    assert likeness(files[0], files[5]) < 0.5
    soundfile.write(tmp_path / "late.wav", np.concatenate([np.zeros(441, np.float32), calls(0)]), RATE)
    assert likeness(files[0], str(tmp_path / "late.wav")) > 0.99


def test_steady_sounds_are_no_candidates(tmp_path):
    tone = 0.5 * np.sin(np.arange(3 * RATE))
    for name, gain in (("a", 1.0), ("b", 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", gain * tone, RATE)
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    levels = np.stack([survey(path).levels for path in paths])
    assert copies(np.array(paths, np.dtypes.StringDType()), levels, np.full(2, 3.0)) == []


def test_validation_reports_copies_and_splits_keep_them_together(files):
    manifest = Manifest.from_columns(files, [["x"]] * 5 + [["y"]] * 2)
    report = validate(manifest, DataConfig(), AudioConfig())
    assert len(set(group_codes(report.manifest)[:5])) == 1
    assert len(set(group_codes(report.manifest))) == 3
    assert any("10 pairs of files are one sound at another level, rate or format" in line for line in report.warnings)
    assert len(json.loads(report.to_json())["copied_files"]) == 10
    drawn = assign_splits(report.manifest, DataConfig(train_split=0.6, val_split=0.0, test_split=0.4))
    assert len(set(drawn.splits[:5].tolist())) == 1
    given = validate(
        manifest.with_splits(["train", "test", "train", "train", "train", "train", "test"]), DataConfig(), AudioConfig()
    )
    assert [(leak.kind, leak.splits) for leak in given.leaks] == [("content", ("train", "test"))]
    by_header = validate(manifest, DataConfig(check="header"), AudioConfig())
    assert by_header.copied_files == ()


def test_a_copy_cannot_be_positive_and_negative(files):
    roles = np.array(["positive", "negative"] + ["unlabeled"] * 5, np.dtypes.StringDType())
    manifest = Manifest.from_columns(files, [[]] * 7).with_metadata(role=roles)
    report = validate(manifest, DataConfig(), AudioConfig(), min_classes=0)
    with pytest.raises(UserError, match="1 recordings are both positive and negative, with the same sound"):
        require_apart(report.manifest)


def test_among_too_many_files_none_is_looked_for_and_that_is_said(files, monkeypatch):
    monkeypatch.setattr("beats_jax.datasets.validation.MOST_FILES", 6)
    report = validate(Manifest.from_columns(files, [["x"]] * 5 + [["y"]] * 2), DataConfig(), AudioConfig())
    assert report.copied_files == ()
    assert any("were not looked for: 7 files, at most 6" in line for line in report.warnings)
