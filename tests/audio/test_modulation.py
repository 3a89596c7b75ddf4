"""Modulation spectra against numpy's transform, and what must not change them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from beats_jax.audio.modulation import BLOCK, NUM_MODULATIONS, RATES, SCALES, STEP, modulation_blocks


def _blocks(fbank: np.ndarray, frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    mask = np.arange(fbank.shape[0]) < (fbank.shape[0] if frames is None else frames)
    found, there = modulation_blocks(jnp.asarray(fbank[None], jnp.float32), jnp.asarray(mask[None]))
    return np.asarray(found[0]), np.asarray(there[0])


def test_modulations_are_numpys_transform_of_what_is_above_the_floor() -> None:
    fbank = np.random.default_rng(0).normal(size=(100, 128))
    found, there = _blocks(fbank)
    assert found.shape == (1 + (100 - BLOCK) // STEP, NUM_MODULATIONS + 256)
    assert there.all()
    floor = np.sort(fbank, axis=0)[int(0.2 * 99)]
    excess = np.maximum(fbank - floor, 0).reshape(100, 32, 4).mean(axis=2)
    window = np.hanning(BLOCK)[:, None]
    expected = np.abs(np.fft.fft2(excess[STEP : STEP + BLOCK] * window))[:RATES]
    expected = np.concatenate([expected[:, -SCALES:], expected[:, : SCALES + 1]], axis=1)
    np.testing.assert_allclose(found[1, :NUM_MODULATIONS].reshape(RATES, -1), np.log1p(expected), atol=2e-4)
    block = fbank[STEP : STEP + BLOCK]
    np.testing.assert_allclose(found[1, NUM_MODULATIONS:], 3 * np.r_[block.mean(axis=0), block.std(axis=0)], atol=1e-4)


def test_noise_floor_and_pitch_change_no_modulation() -> None:
    call = np.zeros((BLOCK, 128))
    for place in range(20):  # a rising whistle
        call[10 + place, 40 + place : 44 + place] = 3.0
    floor = np.random.default_rng(0).normal(size=128)
    higher = np.roll(call, 32, axis=1)
    plain, noisy, moved = (_blocks(each)[0][0, :NUM_MODULATIONS] for each in (call, call + floor, higher))
    np.testing.assert_allclose(plain, noisy, atol=1e-4)
    np.testing.assert_allclose(plain, moved, atol=1e-4)
    falling = _blocks(call[::-1])[0][0, :NUM_MODULATIONS]
    assert np.abs(plain - falling).max() > 0.5, "upwards and downwards differ"


def test_padding_counts_for_nothing_and_short_sounds_have_one_block() -> None:
    fbank = np.random.default_rng(0).normal(size=(100, 128))
    padded = np.concatenate([fbank, np.full((60, 128), 9.0)])
    (alone, _), (behind, there) = _blocks(fbank), _blocks(padded, frames=100)
    assert there.sum() == len(alone)
    np.testing.assert_allclose(behind[there], alone, atol=1e-5)
    short, kept = _blocks(padded, frames=20)
    assert kept.sum() == 1
    np.testing.assert_allclose(short[0], _blocks(fbank[:20])[0][0], atol=1e-5)
    nothing, none = _blocks(padded, frames=0)
    assert not none.any()
    assert np.isfinite(nothing).all()
