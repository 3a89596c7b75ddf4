"""Spectra above their own noise floor: the front-end of `filterbank.kind` "floor", for faint calls in steady noise.

    waveforms f32 [B, S], lengths i32 [B]  ->  f32 [B, F, M], standardised clip by clip

The clip at unit power; frames centred at (i + 1/2) hops, i = 0 .. F - 1, the sound reflected at both ends; power P at M even
frequencies from `low_hz` to `high_hz`; floor N = exp(mean over time of ln P) of each frequency; ln(1 + P / 2N), standardised by
clip. The floor takes away level, colour and hum of the noise, and the logarithm begins where a sound rises above it. Hops need
not be whole samples. A clip gives the same alone and in a padded batch.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config.schema import FilterbankConfig

LEAST_POWER = 1e-6  # beside the power of a frame of unit noise, some 100: digital silence has a logarithm
LEAST_SPREAD = 1e-6


def floor_spectrum(waveforms: jax.Array, lengths: jax.Array | None, config: FilterbankConfig) -> jax.Array:
    """Spectra of a batch, f32 [B, F, M], before `mean` and `std` of the config; frames behind a clip's end have no meaning."""
    batch, samples = waveforms.shape
    lengths = jnp.full(batch, samples, jnp.int32) if lengths is None else lengths.astype(jnp.int32)

    def one_clip(waveform: jax.Array, length: jax.Array) -> jax.Array:
        inside = jnp.arange(samples) < length
        count = jnp.maximum(length, 1)
        centred = jnp.where(inside, waveform - jnp.sum(jnp.where(inside, waveform, 0.0)) / count, 0.0)
        spread = jnp.sqrt(jnp.sum(centred * centred) / count)
        power = _power(centred / jnp.maximum(spread, 1e-12), length, config)
        real = (jnp.arange(power.shape[0]) < frames_in(length, config))[:, None]
        number = jnp.maximum(jnp.sum(real), 1)
        floor = jnp.exp(jnp.sum(jnp.where(real, jnp.log(power), 0.0), axis=0, keepdims=True) / number)
        shown = jnp.log1p(power / (2 * floor))
        shown = shown - jnp.sum(jnp.where(real, shown, 0.0)) / (number * shown.shape[1])
        variance = jnp.sum(jnp.where(real, shown * shown, 0.0)) / (number * shown.shape[1])
        return shown / jnp.maximum(jnp.sqrt(variance), LEAST_SPREAD)

    return jax.vmap(one_clip)(waveforms, lengths)


def frames_in(samples: int | jax.Array, config: FilterbankConfig) -> jax.Array | np.ndarray:
    """Frames of so many samples: the whole hops in them."""
    numbers = np if isinstance(samples, int) else jnp
    return numbers.floor(samples / hop_of(config) + 1e-4).astype(numbers.int32)


def hop_of(config: FilterbankConfig) -> float:
    """Samples from one frame to the next, not rounded."""
    return config.sample_rate * config.frame_shift_ms * 0.001


def _power(waveform: jax.Array, length: jax.Array, config: FilterbankConfig) -> jax.Array:
    """[S] -> [F, M]."""
    size, samples = config.frame_samples, waveform.shape[0]
    frames = int(frames_in(samples, config))
    starts = np.round((np.arange(frames) + 0.5) * hop_of(config) - size / 2).astype(np.int32)
    first, last = min(0, int(starts[0])), max(samples, int(starts[-1]) + size)
    place = np.arange(first, last)
    # Reflected at the first sample and at the last real one; a clip shorter than half a frame repeats its ends.
    mirrored = jnp.abs(place)
    mirrored = jnp.where(mirrored >= length, 2 * (length - 1) - mirrored, mirrored)
    extended = waveform[jnp.clip(mirrored, 0, jnp.maximum(length - 1, 0))]
    cut = jax.vmap(lambda start: jax.lax.dynamic_slice(extended, (start,), (size,)))(jnp.asarray(starts - first))
    waves = jnp.matmul(cut, jnp.asarray(_matrix(config)), precision=jax.lax.Precision.HIGHEST)
    bins = config.num_mel_bins
    return waves[:, :bins] ** 2 + waves[:, bins:] ** 2 + LEAST_POWER


@lru_cache(maxsize=64)
def _matrix(config: FilterbankConfig) -> np.ndarray:
    """f32 [frame, 2 M]: windowed cosines of the frequencies, then their sines."""
    size = config.frame_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    window = window**0.85 if config.window == "povey" else window
    high = config.high_hz if config.high_hz > 0 else config.sample_rate / 2 + config.high_hz
    angles = 2 * np.pi / config.sample_rate * np.arange(size)[:, None] * np.linspace(config.low_hz, high, config.num_mel_bins)
    return (window[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
