"""The vector of loud frames against scipy's transform and matrix logarithm, and what must not change it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from beats_jax.audio.covariance import CEPSTRA, LAG, NUM_COVARIANCES, RIDGE, SIZE, loud_covariance


def _vector(fbank: np.ndarray, frames: int | None = None) -> np.ndarray:
    mask = np.arange(len(fbank)) < (len(fbank) if frames is None else frames)
    found, there = loud_covariance(jnp.asarray(fbank[None], jnp.float32), jnp.asarray(mask[None]))
    assert there.all() == bool(mask.any())
    return np.asarray(found[0, 0])


def _sound(frames: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(frames, 64)) + np.sin(np.arange(64) / 9)


def test_it_is_the_logarithm_of_the_moments_of_loud_frames() -> None:
    from scipy.fft import dct
    from scipy.linalg import expm

    fbank = _sound()
    cepstra = np.asarray(dct(fbank - fbank.max(), axis=1, norm="ortho"))[:, :CEPSTRA]
    points = np.c_[cepstra, cepstra[np.minimum(np.arange(60) + LAG, 59)] - cepstra, np.ones(60)]
    loud = points[np.argsort(-fbank.mean(axis=1))[:24]]
    moments = loud.T @ loud / 24 + RIDGE * np.eye(SIZE)
    found = _vector(fbank)
    assert found.shape == (NUM_COVARIANCES,)
    logarithm = np.zeros((SIZE, SIZE))
    logarithm[np.triu_indices(SIZE)] = found
    logarithm = (logarithm + logarithm.T) / np.where(np.eye(SIZE) > 0, 2, 2**0.5)
    np.testing.assert_allclose(expm(logarithm), moments, atol=1e-3 * moments.max())
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(np.log(np.linalg.eigvalsh(moments))), rtol=1e-4)


def test_level_and_padding_change_nothing_and_the_direction_of_time_does() -> None:
    fbank = _sound()
    plain = _vector(fbank)
    np.testing.assert_allclose(_vector(fbank + 2.0), plain, atol=2e-3)
    np.testing.assert_allclose(_vector(np.concatenate([fbank, np.full((40, 64), 9.0)]), frames=60), plain, atol=2e-3)
    rising = np.zeros((40, 64))
    rising[np.arange(40), np.arange(40) + 10] = 5.0
    assert np.abs(_vector(rising) - _vector(rising[::-1])).max() > 0.1


def test_short_silent_and_missing_sounds_have_numbers() -> None:
    one = _sound(1)
    np.testing.assert_allclose(_vector(np.concatenate([one, np.zeros((30, 64))]), frames=1), _vector(one), atol=2e-3)
    for fbank, frames in ((np.zeros((20, 64)), 20), (_sound(), 0), (np.full((5, 64), -2.0), 5)):
        assert np.isfinite(_vector(fbank, frames)).all()
