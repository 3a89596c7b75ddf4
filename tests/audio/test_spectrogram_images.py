"""Images of sound against scipy's transform, levels of known sounds, and sounds made of images again."""

from typing import Any

import numpy as np
import pytest
from scipy.signal import stft

from beats_jax.audio.spectrogram_images import Transform
from beats_jax.config import ImageConfig
from beats_jax.errors import UserError

LINEAR = Transform(ImageConfig(scale="linear", low_hz=8.0), 2000, 4000)
TIME = np.arange(4000) / 2000


def chirps():
    """Rising sweeps like up-calls, in noise, float32 [2, 4000]."""
    sweep = np.sin(2 * np.pi * (60 * TIME + 30 * TIME**2)) * np.exp(-((TIME - 1) ** 2) / 0.1)
    noise = np.random.default_rng(0).normal(size=(2, 4000))
    return (0.3 * sweep + 0.002 * noise).astype(np.float32)


def test_a_full_scale_sine_has_0_db():
    sine = np.sin(2 * np.pi * LINEAR.hz[20] * TIME)[None].astype(np.float32)
    image = LINEAR.images(sine)
    assert image.shape == (1, 64, 64)
    np.testing.assert_allclose(image[0, 20, 4:-4], 0, atol=0.01)
    assert image[0, 40, 30] < -60


def test_power_is_that_of_scipy():
    sounds = chirps()
    hop, size = LINEAR.hop, LINEAR.size
    before = (size - hop) // 2
    padded = np.pad(sounds[0], (0, hop * 64 - 4000))
    padded = np.pad(padded, (before, size - hop - before), mode="reflect")
    whole: Any = {"boundary": None, "padded": False}
    spectrum = np.abs(stft(padded, nperseg=size, noverlap=size - hop, window="hann", **whole)[2])
    decibels = 20 * np.log10(np.maximum(2 * spectrum[1:65], 1e-5))
    np.testing.assert_allclose(LINEAR.images(sounds)[0], decibels, atol=0.01)


def test_transform_and_inverse_give_the_sound_back():
    sounds = chirps()
    again = LINEAR._sound(LINEAR._spectra(sounds))
    np.testing.assert_allclose(again[:, 100:3900], sounds[:, 100:3900], atol=1e-5)


@pytest.mark.parametrize(("scale", "most"), [("linear", 0.15), pytest.param("mel", 0.45, marks=pytest.mark.slow)])
def test_sound_of_an_image_has_nearly_that_image(scale, most):
    transform = Transform(ImageConfig(scale=scale, bands=64 if scale == "linear" else 48), 2000, 4000)
    images = transform.images(chirps())
    sounds, convergence = transform.waveforms(images, iterations=40)
    assert sounds.shape == (2, 4000)
    assert (convergence < most).all()
    loud = images > images.max() - 20
    assert np.abs(transform.images(sounds) - images)[loud].mean() < 2.5
    again, _ = transform.waveforms(images, iterations=40)
    np.testing.assert_array_equal(sounds, again)


def test_silence_is_the_floor_and_sounds_silent():
    image = LINEAR.images(np.zeros((1, 1000), np.float32))
    assert (image == -100).all()
    sound, convergence = LINEAR.waveforms(image, iterations=2)
    assert (sound == 0).all()
    assert np.isfinite(convergence).all()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="has 62 bins"):
        Transform(ImageConfig(scale="linear", bands=128, low_hz=512), 2000, 4000)
    with pytest.raises(UserError, match="not below 1000 Hz"):
        Transform(ImageConfig(low_hz=1200), 2000, 4000)
    with pytest.raises(UserError, match="narrower than a bin"):
        Transform(ImageConfig(bands=128, high_hz=300), 2000, 4000).mel.shape  # noqa: B018
    with pytest.raises(UserError, match="multiple of 16"):
        ImageConfig(frames=60)
    with pytest.raises(UserError, match="for scale 'mel'"):
        ImageConfig(scale="linear", high_hz=100)
