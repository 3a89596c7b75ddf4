"""The noise-floor front-end against its formula in numpy, float64, frame by frame, and its promises."""

from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.band import band_warnings
from beats_jax.audio.filterbank import filterbank, num_frames
from beats_jax.config import FilterbankConfig
from beats_jax.errors import UserError

FLOOR = FilterbankConfig(
    kind="floor", sample_rate=2000, num_mel_bins=12, frame_length_ms=128, frame_shift_ms=31.25, window="hanning",
    low_hz=30.0, high_hz=500.0, mean=0.0, std=0.5,
)  # fmt: skip
DRAW = np.random.default_rng(0)


def reference(clip, config=FLOOR):
    size, hop = 256, 62.5
    x = (clip - clip.mean()) / clip.std()
    mirrored = np.pad(x, size, mode="reflect")
    frames = []
    for i in range(int(len(clip) / hop)):
        start = int(np.round((i + 0.5) * hop - size / 2)) + size
        frames.append(mirrored[start : start + size] * np.hanning(size))
    hz = np.linspace(30, 500, config.num_mel_bins)
    power = np.abs(np.array(frames) @ np.exp(-2j * np.pi * np.arange(size)[:, None] * hz / 2000)) ** 2 + 1e-6
    shown = np.log1p(power / (2 * np.exp(np.log(power).mean(axis=0))))
    return (shown - shown.mean()) / shown.std()


def test_it_follows_its_formula_alone_and_in_a_padded_batch():
    lengths = np.array([1600, 1111, 700], np.int32)
    clips = np.where(np.arange(1600) < lengths[:, None], DRAW.normal(size=(3, 1600)) + 0.3, 7.0).astype(np.float32)
    fbank, mask = filterbank(clips, lengths, FLOOR)
    assert fbank.shape == (3, num_frames(1600, FLOOR), 12) == (3, 25, 12)
    for i, length in enumerate(lengths):
        expected = reference(clips[i, :length].astype(np.float64))
        np.testing.assert_array_equal(mask[i], np.arange(25) < len(expected))
        np.testing.assert_allclose(fbank[i, : len(expected)], expected, atol=2e-3)
        assert not np.asarray(fbank[i, len(expected) :]).any()
    alone = filterbank(clips[1:2, :1111], None, FLOOR)[0]
    np.testing.assert_allclose(alone[0], fbank[1, : alone.shape[1]], atol=2e-3)


def test_level_and_colour_of_the_noise_do_not_matter():
    """A gain changes nothing; a tone of steady level, however loud, leaves the floor of its frequency and no more."""
    clips = DRAW.normal(size=(1, 4000)).astype(np.float32)
    plain = np.asarray(filterbank(clips, None, FLOOR)[0])
    np.testing.assert_allclose(filterbank(1e-3 * clips, None, FLOOR)[0], plain, atol=1e-3)
    hum = clips + 30 * np.sin(2 * np.pi * 244 * np.arange(4000) / 2000).astype(np.float32)
    raised = np.asarray(filterbank(hum, None, FLOOR)[0])[0]
    assert abs(raised[3:-3].mean(axis=0) - raised[3:-3].mean()).max() < 1.0
    silent = np.asarray(filterbank(np.zeros((1, 4000), np.float32), None, FLOOR)[0])
    assert np.isfinite(silent).all()


def test_wrong_bands_and_fixed_lengths_are_refused_and_low_recordings_told():
    for changes, words in ({"high_hz": 1200.0}, "0-1000 Hz"), ({"target_frames": 64}, "no fixed length"):
        with pytest.raises(UserError, match=words):
            replace(FLOOR, **changes)
    assert band_warnings({2000: 3}, FLOOR) == ()
    (line,) = band_warnings({500: 3}, FLOOR)
    assert "nothing above 250 Hz" in line
