"""Modulation spectra of a filterbank: how fast and at which intervals of pitch a sound's energy comes and goes.

    fbank [B, F, M] ─ minus the floor of each band ─> 32 bands ─ blocks of 64 frames ─ |2-D Fourier transform| ─> 289 ┐
                    └ blocks of 64 frames ─ mean and deviation of each mel band ─> 2 M ───────────────────────────────┴> [B, T, D]

The magnitude does not change when a call comes later or at another pitch, and the floor takes the noise of the place away: kinds
of calls come apart that the mean of each band mixes up (docs/discovery_methods.md). Without weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

BANDS = 32  # neighbouring mel bands are joined to so many
BLOCK, STEP = 64, 16  # frames: 0.64 s, four blocks of it overlap
RATES = 17  # modulation rates from 0 to 25 Hz, at 100 frames a second
SCALES = 8  # spectral modulations up to 8 cycles over all bands, upwards and downwards, and none
FLOOR_SHARE = 0.2  # of a band's frames that are at its floor or below
NUM_MODULATIONS = RATES * (2 * SCALES + 1)
BAND_WEIGHT = 3.0  # makes the bands about as long a vector as the modulations: 21 to 6 over regions of birds


def modulation_blocks(fbank: jax.Array, frame_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features of overlapping blocks of frames.

    Args:
      fbank: float32 [B, F, M], log energies, M at least `BANDS`. frame_mask: bool [B, F], True for frames of real sound.
    Returns:
      float32 [B, T, NUM_MODULATIONS + 2 M]: log(1 + magnitude), and `BAND_WEIGHT` times the mean and deviation of each mel band;
      bool [B, T], True for blocks of real frames alone. T = 1 + max(0, F - BLOCK) // STEP. A sound shorter than a block has one,
      with silence behind it.
    """
    real = jnp.sum(frame_mask, axis=1)
    excess = _bands(_above_floor(fbank, frame_mask, real))
    frames = max(BLOCK, fbank.shape[1])
    starts = np.arange(0, frames - BLOCK + 1, STEP)
    places = starts[:, None] + np.arange(BLOCK)

    def cut(values: jax.Array) -> jax.Array:
        return jnp.pad(values, ((0, 0), (0, frames - values.shape[1]), (0, 0)))[:, places]  # [B, T, BLOCK, ...]

    blocks = cut(excess)
    window = jnp.asarray(np.hanning(BLOCK), excess.dtype)[None, None, :, None]
    rates = np.arange(RATES)[:, None] * np.arange(BLOCK) / BLOCK
    scales = np.arange(-SCALES, SCALES + 1)[:, None] * np.arange(BANDS) / BANDS
    # Only a quarter of the transform's values are kept: two small matrices instead of an FFT
    along, across = (jnp.asarray(np.exp(-2j * np.pi * each), jnp.complex64) for each in (rates, scales))
    spectrum = jnp.abs(jnp.einsum("rf,btfm,sm->btrs", along, (blocks * window).astype(jnp.complex64), across))
    modulations = jnp.log1p(spectrum).reshape(*spectrum.shape[:2], NUM_MODULATIONS)
    sound = cut(frame_mask[:, :, None])
    mean, deviation = _statistics(cut(fbank), sound)
    there = (starts[None, :] + BLOCK <= jnp.maximum(real, BLOCK)[:, None]) & (real > 0)[:, None]
    return jnp.concatenate([modulations, BAND_WEIGHT * mean, BAND_WEIGHT * deviation], axis=2), jnp.asarray(there)


def _statistics(blocks: jax.Array, sound: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation [B, T, M] over the frames [B, T, BLOCK, M] with sound."""
    number = jnp.maximum(jnp.sum(sound, axis=2), 1)
    mean = jnp.sum(jnp.where(sound, blocks, 0), axis=2) / number
    squares = jnp.where(sound, jnp.square(blocks - mean[:, :, None]), 0)
    return mean, jnp.sqrt(jnp.sum(squares, axis=2) / number)


def _above_floor(fbank: jax.Array, frame_mask: jax.Array, real: jax.Array) -> jax.Array:
    """What each band has above its own floor, 0 where there is no sound."""
    ordered = jnp.sort(jnp.where(frame_mask[:, :, None], fbank, jnp.inf), axis=1)
    place = jnp.floor(FLOOR_SHARE * jnp.maximum(real - 1, 0)).astype(jnp.int32)
    floor = jnp.take_along_axis(ordered, place[:, None, None], axis=1)
    return jnp.where(frame_mask[:, :, None], jnp.maximum(fbank - floor, 0), 0)


def _bands(excess: jax.Array) -> jax.Array:
    """[B, F, M] → [B, F, BANDS], means of neighbouring bands; the last M % BANDS are left out."""
    joined = excess.shape[2] // BANDS
    return excess[:, :, : joined * BANDS].reshape(*excess.shape[:2], BANDS, joined).mean(axis=3)
