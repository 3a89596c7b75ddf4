"""Calls cut out and mixed: place, band and ratio are those that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from beats_jax.audio.scenes import band_pass, cut_call, mix, quiet_background

RATE = 4000


def _clip(snr: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(clip, its noise) of 2 s with a tone of 600 Hz from 0.8 to 1.2 s."""
    noise = np.random.default_rng(seed).normal(0, 0.01, 2 * RATE).astype(np.float32)
    time = np.arange(2 * RATE) / RATE
    tone = np.where((time >= 0.8) & (time < 1.2), snr * 0.01 * np.sin(2 * np.pi * 600 * time), 0)
    return (noise + tone).astype(np.float32), noise


def test_a_call_is_cut_in_time_and_frequency():
    call = cut_call(_clip(3.0)[0], RATE)
    assert call is not None
    assert call.low_hz < 600 < call.high_hz
    assert call.high_hz - call.low_hz < 200
    assert 0.35 < len(call.waveform) / RATE < 0.75
    spectrum = np.abs(np.fft.rfft(call.waveform, 4 * RATE))
    assert np.argmax(spectrum) / 4 == pytest.approx(600, abs=5)
    louder = cut_call(_clip(30.0)[0], RATE)
    assert louder is not None
    assert 10 < louder.snr_db - call.snr_db < 26  # 20 dB louder, in a wider band


def test_nothing_is_cut_where_nothing_rises():
    assert cut_call(np.zeros(2 * RATE, np.float32), RATE) is None
    steady = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)
    assert cut_call(steady, RATE) is None


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 12.0])
def test_a_mixture_has_the_ratio_in_the_band_of_the_call(snr_db: float):
    call = cut_call(_clip(10.0)[0], RATE)
    assert call is not None
    background = np.random.default_rng(5).normal(0, 0.02, 2 * RATE).astype(np.float32)
    mixed = mix(call, background, RATE, snr_db, np.random.default_rng(1))
    assert mixed.shape == background.shape
    added = mixed.astype(np.float64) - background
    stretch = np.flatnonzero(np.abs(added) > 1e-9)
    stretch = slice(stretch[0], stretch[0] + len(call.waveform))
    noise = band_pass(background, RATE, call.low_hz, call.high_hz)[stretch]
    assert 10 * np.log10(np.mean(added[stretch] ** 2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.2)


def test_a_quiet_background_has_the_level_and_colour_of_the_quiet_stretches():
    clip, noise = _clip(30.0)
    found = quiet_background(band_pass(clip, RATE, 0, 1000).astype(np.float32), np.random.default_rng(2))
    low = band_pass(noise, RATE, 0, 1000)
    assert 20 * np.log10(found.std() / low.std()) == pytest.approx(0, abs=2)
    assert band_pass(found, RATE, 1200, 2000).std() < 0.1 * found.std()


def test_a_loud_call_in_silence_is_cut_with_all_its_frequencies():
    """As clips that were padded with zeros: whatever rises over nothing by 80 dB is not narrowed to its strongest cells."""
    clip = np.zeros(2 * RATE, np.float32)
    clip[3000:5000] = np.random.default_rng(0).normal(0, 0.1, 2000)
    clip[3000:5000] += np.sin(2 * np.pi * 600 * np.arange(2000) / RATE)
    call = cut_call(clip, RATE)
    assert call is not None
    assert call.low_hz < 50
    assert call.high_hz > 1900
    assert np.isfinite(call.snr_db)
    assert 0.4 < len(call.waveform) / RATE < 0.8
    mixed = mix(call, quiet_background(_clip(0.0)[1], np.random.default_rng(1)), RATE, 20.0, np.random.default_rng(2))
    assert np.abs(np.fft.rfft(mixed)).argmax() / 2 == pytest.approx(600, abs=5)
