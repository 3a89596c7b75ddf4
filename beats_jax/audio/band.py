"""Compares the frequencies that a front-end reads with those of the recordings: a mismatch costs accuracy without any error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from beats_jax.audio.filterbank import BEATS, fft_samples, mel_matrix
from beats_jax.config.schema import FilterbankConfig

EMPTY_SHARE = 1 / 3  # of the mel bands above what recordings hold: 8 kHz leaves a quarter of BEATs' empty, 2 kHz two thirds
ULTRASOUND_RATE = 100_000  # Hz: recorders of audible sound stop at 96 kHz; faster ones are for ultrasound
AUDIBLE_RATE = 16_000  # Hz: a front-end that reads less was chosen for low sounds
DOCUMENT = "docs/frequencies.md"


def band_warnings(sample_rates: Mapping[int, int], config: FilterbankConfig) -> tuple[str, ...]:
    """One sentence, with the remedy, for each mismatch of recordings and front-end, and one for empty mel bands.

    Args:
      sample_rates: files per rate in Hz, before any resampling.
    Raises:
      UserError: the front-end's band is empty (`filterbank.mel_matrix`).
    """
    return (*rate_warnings(sample_rates, config), *_too_narrow(config))


def rate_warnings(sample_rates: Mapping[int, int], config: FilterbankConfig) -> tuple[str, ...]:
    """The `band_warnings` that concern the recordings, for a model whose front-end is fixed."""
    total = sum(sample_rates.values())
    low, high = band_hz(config)
    warnings = []
    if slow := {rate: n for rate, n in sample_rates.items() if unreached_share(rate, config) >= EMPTY_SHARE}:
        share, top = max(unreached_share(rate, config) for rate in slow), max(slow)
        warnings.append(
            f"{_files(slow, total)}: nothing above {top / 2:g} Hz, while the front-end reads {low:g} to {high:g} Hz, so that "
            f"{share:.0%} of its mel bands stay empty; use --config low_frequency:{top} or a front-end of your own ({DOCUMENT})"
        )
    if fast := {rate: n for rate, n in sample_rates.items() if _drops_ultrasound(rate, config)}:
        warnings.append(
            f"{_files(fast, total)}, but the front-end reads {low:g} to {high:g} Hz and nothing above; for bats and other "
            f"ultrasound use --config ultrasound:{min(fast)} or a front-end of your own ({DOCUMENT})"
        )
    return tuple(warnings)


def band_hz(config: FilterbankConfig) -> tuple[float, float]:
    """Lowest and highest frequency that the front-end reads."""
    return config.low_hz, config.high_hz if config.high_hz > 0 else config.sample_rate / 2 + config.high_hz


def empty_bands(config: FilterbankConfig) -> np.ndarray:
    """bool [M]: mel bands whose triangle lies between two bins of the FFT, so that they are constant."""
    return ~np.any(mel_matrix(config), axis=0)


def unreached_share(sample_rate: int, config: FilterbankConfig) -> float:
    """Share of the mel bands wholly above half of `sample_rate`, where resampling a recording up adds nothing."""
    if config.kind == "floor" or config.is_image:
        return float(np.mean(np.linspace(*band_hz(config), config.num_mel_bins) > sample_rate / 2))
    matrix = mel_matrix(config)
    hz = np.arange(len(matrix)) * config.sample_rate / fft_samples(config)
    return float(np.mean(matrix.any(axis=0) & ~matrix[hz <= sample_rate / 2].any(axis=0)))


def _drops_ultrasound(sample_rate: int, config: FilterbankConfig) -> bool:
    """Whether a front-end for audible sound reads less than a quarter of the band of an ultrasound recorder."""
    return sample_rate > ULTRASOUND_RATE and config.sample_rate >= AUDIBLE_RATE and sample_rate >= 8 * band_hz(config)[1]


def _too_narrow(config: FilterbankConfig) -> list[str]:
    if config.kind == "floor" or config.is_image:  # it reads frequencies, not bands
        return []
    empty = int(empty_bands(config).sum())
    if not empty or _geometry(config) == _geometry(BEATS):  # whose models learnt with its one empty band
        return []
    resolved = config.sample_rate / fft_samples(config)
    bins = config.num_mel_bins
    while bins > 1 and empty_bands(replace(config, num_mel_bins=bins)).any():
        bins -= 1
    longer = config
    while empty_bands(longer).any():
        longer = replace(longer, frame_length_ms=2 * longer.frame_length_ms)
    return [
        f"{empty} of {config.num_mel_bins} mel bands hold no frequency: frames of {config.frame_samples} samples resolve "
        f"{resolved:.3g} Hz; set audio.filterbank.num_mel_bins to at most {bins}, or frame_length_ms to "
        f"{longer.frame_length_ms:g} ({DOCUMENT})"
    ]


def _geometry(config: FilterbankConfig) -> tuple[float, ...]:
    return (config.sample_rate, config.num_mel_bins, fft_samples(config), *band_hz(config))


def _files(rates: Mapping[int, int], total: int) -> str:
    listed = ", ".join(f"{rate} Hz" for rate in sorted(rates))
    return f"{sum(rates.values())} of {total} files were recorded at {listed}"
