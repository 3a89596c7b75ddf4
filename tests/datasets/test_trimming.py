"""Digital silence at the ends of a file does not train anything: rows are cut to where the sound is."""

from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.io import AudioError, write_wav
from beats_jax.audio.survey import survey
from beats_jax.config import AudioConfig, DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.stream import window_batches

RATE = 8_000


@pytest.fixture
def manifest(tmp_path):
    """Sound from 1.0 to 1.5 s of 4 s, twice; and one file that is only whispered."""
    waveform = np.zeros(4 * RATE, np.float32)
    waveform[RATE : RATE + RATE // 2] = 0.5 * np.sin(np.arange(RATE // 2) + 1.5)
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", waveform, RATE, "FLOAT")
    write_wav(tmp_path / "quiet.wav", np.sin(np.arange(RATE)).astype(np.float32) * 1e-5, RATE, "FLOAT")
    files = [str(tmp_path / f"{name}.wav") for name in ("a", "b", "quiet")]
    return Manifest.from_columns(files, [["x"], ["y"], ["y"]])


def test_the_range_is_that_of_the_sound(manifest):
    sound = survey(str(manifest.files[0]), below_dbfs=-74.0).sound
    assert sound is not None
    start, end = sound
    assert start == pytest.approx(1.0, abs=2 / RATE)
    assert end == pytest.approx(1.5, abs=2 / RATE)
    with pytest.raises(AudioError, match="too quiet"):
        survey(str(manifest.files[2]), below_dbfs=-74.0)


def test_rows_are_cut_and_quiet_files_listed(manifest):
    data = DataConfig(trim_below_dbfs=-74.0, window_seconds=1.0, evaluation_window_seconds=2.0, batch_size=2)
    report = validate(manifest, data, AudioConfig())
    assert [error.path.name for error in report.errors] == ["quiet.wav"]
    np.testing.assert_allclose(report.manifest.starts, 1.0, atol=2 / RATE)
    np.testing.assert_allclose(report.manifest.ends, 1.5, atol=2 / RATE)
    (batch,) = window_batches(report.manifest, evaluation_grid(data, AudioConfig()), AudioConfig(), 2)
    assert batch.waveforms.shape == (2, 2 * 16_000)
    np.testing.assert_allclose(batch.lengths, 8_000, atol=4)
    untouched = validate(manifest, replace(data, trim_below_dbfs=0.0), AudioConfig())
    assert np.isnan(untouched.manifest.ends).all()


def test_a_row_within_the_sound_keeps_its_times_and_one_outside_stays(manifest):
    rows = Manifest.from_columns(
        [str(manifest.files[0])] * 2 + [str(manifest.files[1])],
        [["x"], ["x"], ["y"]],
        starts=[1.1, 2.0, 0.0],
        ends=[1.2, 3.0, 1.25],
    )
    report = validate(rows, DataConfig(trim_below_dbfs=-74.0), AudioConfig())
    np.testing.assert_allclose(report.manifest.starts, [1.1, 2.0, 1.0], atol=2 / RATE)
    np.testing.assert_allclose(report.manifest.ends, [1.2, 3.0, 1.25], atol=2 / RATE)


def test_trimming_needs_decoding():
    with pytest.raises(UserError, match="decode"):
        DataConfig(trim_below_dbfs=-74.0, check="header")
    with pytest.raises(UserError, match="it must be at most 0"):
        DataConfig(trim_below_dbfs=3.0)
