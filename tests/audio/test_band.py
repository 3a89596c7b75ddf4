"""Warnings where a front-end does not read what recordings hold, against the closed form of the mel scale."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.band import band_warnings, empty_bands, unreached_share
from beats_jax.audio.filterbank import AST, BEATS, EAT, filterbank
from beats_jax.command_line import read_experiment

WHALES = replace(BEATS, sample_rate=2000)  # the obvious remedy, which is none


def mel(hz):
    return 1127 * math.log(1 + hz / 700)


def edges(config, high_hz):
    """Left edge, centre and right edge of every band in mel."""
    low, high = mel(config.low_hz), mel(high_hz)
    step = (high - low) / (config.num_mel_bins + 1)
    return [(low + k * step, low + (k + 1) * step, low + (k + 2) * step) for k in range(config.num_mel_bins)]


@pytest.mark.parametrize(("config", "fft"), [(BEATS, 512), (WHALES, 64)])
def test_empty_bands_are_those_between_two_bins_of_the_fft(config, fft):
    bins = [mel(k * config.sample_rate / fft) for k in range(fft // 2)]
    expected = [not any(left < place < right for place in bins) for left, _, right in edges(config, config.sample_rate / 2)]
    assert empty_bands(config).tolist() == expected
    noise = np.random.default_rng(0).normal(size=(1, config.sample_rate)).astype(np.float32) * 0.1
    constant = np.ptp(np.asarray(filterbank(noise, None, replace(config, mean=0.0, std=0.5))[0])[0], axis=0) == 0
    assert constant.tolist() == expected  # the bands that are the same in every frame of noise


@pytest.mark.parametrize("rate", [500, 2000, 8000, 16_000, 48_000])
def test_the_unreached_share_is_that_of_bands_above_half_the_rate(rate):
    expected = np.mean([left >= mel(rate / 2) for left, _, _ in edges(BEATS, 8000)])
    assert unreached_share(rate, BEATS) == pytest.approx(expected, abs=1.5 / 128)  # a band that no bin below the limit touches
    assert (unreached_share(rate, BEATS) > 0) == (rate < 16_000)


def test_low_recordings_and_the_wrong_remedy_are_warned_of_and_the_recipe_is_not():
    (line,) = band_warnings({2000: 8, 16_000: 2}, BEATS)
    share = 1 - (mel(1000) - mel(20)) / (mel(8000) - mel(20))
    assert line.startswith("8 of 10 files were recorded at 2000 Hz: nothing above 1000 Hz")
    assert abs(int(re.search(r"(\d+)% of its mel bands stay empty", line)[1]) - 100 * share) <= 1
    assert "--config low_frequency:2000" in line
    (line,) = band_warnings({2000: 8}, WHALES)
    assert line.startswith("66 of 128 mel bands hold no frequency: frames of 50 samples resolve 31.2 Hz")
    assert not empty_bands(replace(WHALES, num_mel_bins=int(re.search(r"at most (\d+)", line)[1]))).any()
    assert not empty_bands(replace(WHALES, frame_length_ms=float(re.search(r"frame_length_ms to (\d+)", line)[1]))).any()
    for rate in ("", ":500", ":4000"):
        settings = read_experiment(f"low_frequency{rate}", []).audio.filterbank
        assert band_warnings({settings.sample_rate: 3, 48_000: 2}, settings) == ()


def test_ultrasound_is_warned_of_and_the_recipe_is_not():
    (line,) = band_warnings({256_000: 1, 384_000: 2}, BEATS)
    assert line.startswith("3 of 3 files were recorded at 256000 Hz, 384000 Hz, but the front-end reads 20 to 8000 Hz")
    assert "--config ultrasound:256000" in line
    for rate in ("", ":192000", ":384000", ":500000"):
        settings = read_experiment(f"ultrasound{rate}", []).audio.filterbank
        assert band_warnings({256_000: 1, 384_000: 2, 500_000: 1}, settings) == ()


@pytest.mark.parametrize("config", [BEATS, AST, EAT])
def test_what_the_published_models_were_trained_for_is_not_warned_of(config):
    assert band_warnings({8000: 1, 16_000: 5, 22_050: 1, 44_100: 9, 48_000: 2, 96_000: 1}, config) == ()
