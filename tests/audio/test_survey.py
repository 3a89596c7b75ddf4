"""The run of levels of a whole recording against numpy on the samples themselves."""

import itertools

import numpy as np
import pytest
import soundfile

from beats_jax.audio.survey import LEVELS, SAMPLES_A_LEVEL, survey


@pytest.mark.parametrize("samples", [LEVELS * SAMPLES_A_LEVEL, 50_000, 400_003])
def test_levels_are_the_power_of_equal_parts_without_their_mean(tmp_path, samples):
    rng = np.random.default_rng(samples)
    waveform = (0.1 * rng.standard_normal(samples) * np.abs(np.sin(np.arange(samples) / 9_000)) + 0.05).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", waveform, 16_000, subtype="FLOAT")
    bounds = [k * samples // LEVELS for k in range(LEVELS + 1)]
    expected = [np.var(waveform[a:b].astype(np.float64)) for a, b in itertools.pairwise(bounds)]
    np.testing.assert_allclose(survey(tmp_path / "x.wav").levels, 10 * np.log10(expected), atol=1e-3)


def test_short_recordings_have_no_levels(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).uniform(-1, 1, LEVELS * SAMPLES_A_LEVEL - 1), 16_000)
    assert np.isnan(survey(tmp_path / "x.wav").levels).all()
    assert survey(tmp_path / "x.wav").sound is None
