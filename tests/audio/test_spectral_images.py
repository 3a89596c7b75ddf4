"""Images of darksound: against its own numbers, and its parts against scipy and closed forms."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import median_filter

from beats_jax.audio.spectral_images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    V1,
    V2,
    ImageVersion,
    as_published,
    at_size,
    centred,
    darksound_images,
    faded,
    harmonic_percussive,
    median_along,
    median_network,
    mel_power,
)

RATE = 48_000
VERSIONS = {"v1": V1, "v2": V2}


@pytest.fixture(scope="module")
def golden(golden_files: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden_files / "mel_hpss.npz"))


def clip_of(golden: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
    """The clip with noise behind its end, which must not matter."""
    sound = golden["clip_int16"].astype(np.float32) / 32768
    behind = np.random.default_rng(0).uniform(-1, 1, 7001).astype(np.float32)
    return jnp.asarray(np.concatenate([sound, behind]))[None], jnp.array([len(sound)])


def columns(ours: jax.Array, kept: np.ndarray) -> np.ndarray:
    """The frames of ours that the golden file keeps."""
    return np.asarray(ours)[..., :: -(-ours.shape[-1] // kept.shape[-1])]


def test_waveform_is_faded_and_centred(golden: dict[str, np.ndarray]) -> None:
    waveforms, lengths = clip_of(golden)
    sound = np.asarray(faded(waveforms, lengths, 4800))[0, : int(lengths[0])]
    np.testing.assert_allclose(sound[:4800], golden["waveform_fade_in"], atol=1e-7)
    np.testing.assert_allclose(sound[-4800:], golden["waveform_fade_out"], atol=1e-7)
    padded = np.asarray(centred(faded(waveforms, lengths, 4800), lengths, 3 * RATE))[0]
    assert np.flatnonzero(padded)[[0, -1]].tolist() == golden["waveform_nonzero_range"].tolist()
    np.testing.assert_allclose([padded.sum(), np.abs(padded).sum()], golden["waveform_check"], rtol=1e-5)


@partial(jax.jit, static_argnames="version")
def every_stage(waveforms: jax.Array, lengths: jax.Array, version: ImageVersion) -> dict[str, jax.Array]:
    mel = mel_power(centred(faded(waveforms, lengths, 4800), lengths, 3 * RATE)[0], RATE, version)
    harmonic, percussive = harmonic_percussive(mel[::-1])
    image = darksound_images(waveforms, lengths, RATE, version)[0]
    return {"mel": mel, "harmonic": harmonic, "percussive": percussive, "image": image}


@pytest.mark.parametrize("name", VERSIONS)
def test_images_are_upstreams(golden: dict[str, np.ndarray], name: str) -> None:
    waveforms, lengths = clip_of(golden)
    for stage, ours in every_stage(waveforms, lengths, VERSIONS[name]).items():
        theirs = golden[f"{name}_{stage}"]
        bound = 1e-3 if stage == "image" else 1e-4 * theirs.max()
        np.testing.assert_allclose(columns(ours, theirs), theirs, atol=bound, err_msg=stage)
    silent = every_stage(jnp.zeros_like(waveforms), lengths, VERSIONS[name])["image"]
    assert np.isfinite(silent).all()
    assert not np.asarray(silent).any()


def test_the_network_finds_every_median() -> None:
    """By the 0-1 principle (Knuth 5.3.4 Z): a network that is right for all zeros and ones is right for all values."""
    values = [np.array([n >> bit & 1 for n in range(2**11)]) for bit in range(11)]
    for low, high in median_network(11):
        values[low], values[high] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    np.testing.assert_array_equal(values[5], [n.bit_count() >= 6 for n in range(2**11)])


@pytest.mark.parametrize("axis", [0, 1])
def test_running_median_is_scipys(axis: int) -> None:
    image = np.random.default_rng(axis).exponential(size=(37, 45)).astype(np.float32)
    size = (31, 1) if axis == 0 else (1, 31)
    np.testing.assert_array_equal(median_along(jnp.asarray(image), axis), median_filter(image, size=size, mode="reflect"))


@pytest.mark.parametrize("samples", [1, 150, 2999, 3000, 3001, 5000])
def test_padding_is_one_longer_before_the_sound(samples: int) -> None:
    sound = np.arange(1, samples + 1, dtype=np.float32)
    missing = max(0, 3000 - samples)
    expected = np.pad(sound, (-(-missing // 2), missing // 2))[:3000]
    found = centred(jnp.pad(jnp.asarray(sound), (0, 9))[None], jnp.array([samples]), 3000)
    np.testing.assert_array_equal(np.asarray(found)[0, : len(expected)], expected)


def test_sizes_and_colours() -> None:
    """A plane stays a plane under bilinear resizing, so that every value of the crop is known."""
    rows, columns_ = np.mgrid[0:128, 0:282].astype(np.float32)
    plane = np.broadcast_to(0.001 * (rows + 0.5) + 0.002 * (columns_ + 0.5), (1, 3, 128, 282))
    published, whole = as_published(jnp.asarray(plane)), at_size(jnp.asarray(plane), 224, 112)
    assert published.shape == (1, 224, 224, 3)
    assert whole.shape == (1, 224, 112, 3)
    colour = (np.asarray(published)[0] * IMAGENET_STD + IMAGENET_MEAN).transpose(2, 0, 1)
    at = np.arange(224) + 0.5
    expected = 0.001 * (at[:, None] + 16) / 2 + 0.002 * (at[None] + 170) / 2  # the middle of 256 x 564
    np.testing.assert_allclose(colour, np.broadcast_to(expected, (3, 224, 224)), atol=1e-4)
