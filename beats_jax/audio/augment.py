"""Augmentation inside the jitted step: gain, roll, noise, backgrounds, mixup on waveforms; SpecAugment masks on the filterbank.

    waveforms f32 [B, S], lengths i32 [B] (real samples), keys [B]  ->  waveforms f32 [B, S]
    fbank f32 [B, F, M], frame_mask bool [B, F], keys [B]  ->  fbank f32 [B, F, M]

`keys[i]` (`jax.random.key`, one per example) alone decides example i, so neither its place in the batch nor the number of devices
matters; only the partners of mixup and backgrounds come from the key of the step. Each part has its own branch of the key:
switching one off leaves the others unchanged. Padding past a clip's length is never moved, filled or counted.
The settings (`AugmentConfig`) are static under `jax.jit`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import AugmentConfig

NOISE_BLOCK_SECONDS = 0.032  # coloured noise follows 1/f^a down to 31 Hz and is flat below
WAVEFORM_BRANCH, MIXUP_BRANCH, MASK_BRANCH, BACKGROUND_BRANCH, SHIFT_BRANCH = 0, 1, 2, 3, 4  # of an example's key
STEEPEST_NOISE = 2.0  # power 1/f^a with a in [0, 2]: white, pink, red (wind, traffic, flow noise)


def augment_waveforms(
    keys: jax.Array, waveforms: jax.Array, lengths: jax.Array, config: AugmentConfig, sample_rate: int
) -> jax.Array:
    """Rolls each clip, adds noise and changes its level, as `config` asks; f32 [B, S].

    `sample_rate` (Hz) sets the lowest frequency down to which noise is coloured.
    """

    def one_clip(key: jax.Array, waveform: jax.Array, length: jax.Array) -> jax.Array:
        roll_key, noise_key, gain_key = jax.random.split(jax.random.fold_in(key, WAVEFORM_BRANCH), 3)
        if config.roll:
            waveform = roll(roll_key, waveform, length)
        if config.noise_probability > 0:
            chance_key, noise_key = jax.random.split(noise_key)
            low, high = config.noise_snr_db_low, config.noise_snr_db_high
            noisy = add_noise(noise_key, waveform, length, low, high, sample_rate)
            waveform = jnp.where(jax.random.bernoulli(chance_key, config.noise_probability), noisy, waveform)
        if config.gain_db > 0:
            decibels = jax.random.uniform(gain_key, minval=-config.gain_db, maxval=config.gain_db)
            waveform = jnp.where(_real(waveform, length), waveform * 10 ** (decibels / 20), waveform)
        return waveform

    return jax.vmap(one_clip)(keys, waveforms, lengths)


def roll(key: jax.Array, waveform: jax.Array, length: jax.Array) -> jax.Array:
    """Turns a clip [S] in a circle by 0 to length - 1 of its real samples; the padding stays at the end."""
    length = jnp.maximum(length, 1)
    shift = _uniform_integers(key, (), length)
    place = jnp.arange(waveform.shape[0])
    return waveform[jnp.where(place < length, (place - shift) % length, place)]


def add_noise(
    key: jax.Array,
    waveform: jax.Array,
    length: jax.Array,
    snr_db_low: float | jax.Array,
    snr_db_high: float | jax.Array,
    sample_rate: int,
) -> jax.Array:
    """Adds noise of power 1/f^a, a uniform in [0, 2], to a clip [S], at a ratio of powers uniform in dB between two bounds.

    The ratio is exact: both powers are measured on the real samples. Silence has no power and stays silent.
    """
    noise_key, slope_key, snr_key = jax.random.split(key, 3)
    slope = jax.random.uniform(slope_key, maxval=STEEPEST_NOISE)
    noise = coloured_noise(noise_key, waveform.shape[0], sample_rate, slope)
    return _over(waveform, length, noise, jax.random.uniform(snr_key, minval=snr_db_low, maxval=snr_db_high))


def add_backgrounds(
    key: jax.Array, keys: jax.Array, waveforms: jax.Array, lengths: jax.Array, allowed: jax.Array, config: AugmentConfig
) -> jax.Array:
    """Adds another clip of the batch as background, repeated from a random place until the clip is full; f32 [B, S].

    As in `add_noise` the ratio of powers is exact and uniform in dB. The label stays, because field recordings always have other
    sounds behind the one they are labelled with (BYOL-A, arXiv 2103.06695, mixes spectrograms for the same reason).

    Args:
      key: the key of the step; draws the partners.
      allowed: bool [B], False = it is no background: it could not be read, or is of another class than backgrounds are.
    """
    partners = jax.random.permutation(key, waveforms.shape[0])
    if config.background_class:
        # The n-th clip takes the n-th allowed one in random order, so that none goes without where few may serve.
        order = partners[jnp.argsort(~allowed[partners], stable=True)]
        partners = order[jnp.arange(len(order)) % jnp.maximum(jnp.sum(allowed), 1)]

    def one_clip(
        key: jax.Array, waveform: jax.Array, length: jax.Array, other: jax.Array, samples: jax.Array, usable: jax.Array
    ) -> jax.Array:
        chance_key, start_key, snr_key = jax.random.split(jax.random.fold_in(key, BACKGROUND_BRANCH), 3)
        samples = jnp.maximum(samples, 1)
        background = other[(jnp.arange(other.shape[0]) + _uniform_integers(start_key, (), samples)) % samples]
        low, high = config.background_snr_db_low, config.background_snr_db_high
        mixed = _over(waveform, length, background, jax.random.uniform(snr_key, minval=low, maxval=high))
        return jnp.where(usable & jax.random.bernoulli(chance_key, config.background_probability), mixed, waveform)

    usable = allowed[partners] & (partners != jnp.arange(len(partners)))
    return jax.vmap(one_clip)(keys, waveforms, lengths, waveforms[partners], lengths[partners], usable)


def coloured_noise(key: jax.Array, samples: int, sample_rate: int, slope: float | jax.Array) -> jax.Array:
    """f32 [samples] of stationary Gaussian noise with power 1/f^slope at an arbitrary level; padding does not change it.

    Blocks of random spectra become sound by a matrix product and overlap by half under sine windows, whose squares add up to one.
    """
    # not one FFT over the clip: XLA does not split FFTs over devices, and odd lengths are slow
    hop = max(1, round(sample_rate * NOISE_BLOCK_SECONDS / 2))
    blocks = samples // hop + 2
    number = np.arange(1, hop + 1)  # multiples of the lowest frequency, up to Nyquist
    place = np.arange(2 * hop)
    angles = np.pi / hop * (number[:, None] * place[None, :] % (2 * hop))
    window = np.sin(np.pi * (place + 0.5) / (2 * hop))
    amplitude = jnp.exp(-0.5 * slope * jnp.asarray(np.log(number), jnp.float32))[None, None, :]
    cosines, sines = jnp.moveaxis(jax.random.normal(key, (blocks, 2, hop)) * amplitude, 1, 0)
    sound = cosines @ jnp.asarray(np.cos(angles) * window, jnp.float32) + sines @ jnp.asarray(
        np.sin(angles) * window, jnp.float32
    )
    overlapped = sound[1:, :hop] + sound[:-1, hop:]
    return overlapped.reshape(-1)[:samples]


def mixup_plan(key: jax.Array, keys: jax.Array, batch_size: int, config: AugmentConfig) -> tuple[jax.Array, jax.Array]:
    """Draws the partners (by `key`, of the step) and weights (by `keys`, [B]) of mixup.

    Returns:
      partners: i32 [B], a permutation of the batch (an example may be its own partner).
      weights: f32 [B] in [0, 1], the share of the example's own clip: Beta(alpha, alpha), or 1 where it is not mixed.
    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", with a weight per example.
    """
    if config.mixup_probability == 0:
        return jnp.arange(batch_size), jnp.ones(batch_size)

    def weight(example_key: jax.Array) -> jax.Array:
        chance_key, weight_key = jax.random.split(jax.random.fold_in(example_key, MIXUP_BRANCH))
        mixed = jax.random.bernoulli(chance_key, config.mixup_probability)
        return jnp.where(mixed, jax.random.beta(weight_key, config.mixup_alpha, config.mixup_alpha), 1.0)

    return jax.random.permutation(key, batch_size), jax.vmap(weight)(keys)


def mix(x: jax.Array, partners: jax.Array, weights: jax.Array) -> jax.Array:
    """weights * x + (1 - weights) * x[partners], for the plan of `mixup_plan`; rows with weight 1 stay exactly the same.

    `x` is floating point [B, ...]: waveforms (zeros past their lengths), fbank, or label targets [B, C].

    Raises:
      TypeError: x is not floating point (class numbers cannot be mixed: make one-hot targets of them).
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"cannot mix values of type {x.dtype}: labels must be floating point targets [B, C]")
    share = weights.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(share < 1, share * x + (1 - share) * x[partners], x)


def mixed_lengths(lengths: jax.Array, partners: jax.Array, weights: jax.Array) -> jax.Array:
    """i32 [B]: real samples of mixed waveforms: those of the longer clip where two are mixed."""
    return jnp.where(weights < 1, jnp.maximum(lengths, lengths[partners]), lengths)


def mixed_frame_mask(frame_mask: jax.Array, partners: jax.Array, weights: jax.Array) -> jax.Array:
    """bool [B, F]: real frames of mixed filterbanks: those of either clip where two are mixed."""
    return frame_mask | (frame_mask[partners] & (weights < 1)[:, None])


def mask_fbank(keys: jax.Array, fbank: jax.Array, frame_mask: jax.Array, config: AugmentConfig) -> jax.Array:
    """SpecAugment: fills spans of frames and of mel bins with `config.mask_value`, in real frames only; f32 [B, F, M].

    `fbank` is normalised; the real frames of `frame_mask` come first.
    Source: Park et al. 2019, "SpecAugment", without time warping; widths uniform from 0 to the widest.
    """
    if config.time_masks == 0 and config.frequency_masks == 0:
        return fbank

    def one_clip(key: jax.Array, fbank_FM: jax.Array, real: jax.Array) -> jax.Array:
        time_key, frequency_key = jax.random.split(jax.random.fold_in(key, MASK_BRANCH))
        hidden = jnp.zeros(fbank_FM.shape, bool)
        if config.time_masks:
            frames = spans(time_key, len(real), jnp.sum(real), config.time_masks, config.time_mask_fraction)
            hidden |= frames[:, None]
        if config.frequency_masks:
            bands = fbank_FM.shape[1]
            bins = spans(frequency_key, bands, jnp.asarray(bands), config.frequency_masks, config.frequency_mask_fraction)
            hidden |= bins[None, :]
        return jnp.where(hidden & real[:, None], config.mask_value, fbank_FM)

    return jax.vmap(one_clip)(keys, fbank, frame_mask)


def shift_frequencies(keys: jax.Array, fbank: jax.Array, config: AugmentConfig) -> jax.Array:
    """Moves each clip up or down by a uniform number of bins, f32 [B, F, M]; the outermost bin fills what becomes free."""
    if config.frequency_shift_bins == 0:
        return fbank
    widest, bands = config.frequency_shift_bins, fbank.shape[2]

    def one_clip(key: jax.Array, fbank_FM: jax.Array) -> jax.Array:
        shift = _uniform_integers(jax.random.fold_in(key, SHIFT_BRANCH), (), jnp.asarray(2 * widest + 1)) - widest
        padded = jnp.pad(fbank_FM, ((0, 0), (widest, widest)), mode="edge")
        return jax.lax.dynamic_slice_in_dim(padded, widest + shift, bands, axis=1)

    return jax.vmap(one_clip)(keys, fbank)


def spans(key: jax.Array, size: int, available: jax.Array, count: int, fraction: float) -> jax.Array:
    """bool [size], True = hidden: `count` spans of 0 .. floor(fraction * available) places, among the first `available`."""
    width_key, start_key = jax.random.split(key)
    # the small addition keeps floor(0.3 * 10) at 3 in float32
    widest = jnp.floor(fraction * available + 1e-4).astype(jnp.int32)
    widths = _uniform_integers(width_key, (count,), widest + 1)
    starts = _uniform_integers(start_key, (count,), available - widths + 1)
    place = jnp.arange(size)[None, :]
    return jnp.any((place >= starts[:, None]) & (place < (starts + widths)[:, None]), axis=0)


def _uniform_integers(key: jax.Array, shape: tuple[int, ...], below: jax.Array) -> jax.Array:
    """i32 in 0 .. below - 1; half the random bits, and half the compile time, of `jax.random.randint` (below < 2**23)."""
    return jnp.minimum((jax.random.uniform(key, shape) * below).astype(jnp.int32), below - 1)


def _over(waveform: jax.Array, length: jax.Array, noise: jax.Array, snr_db: jax.Array) -> jax.Array:
    """Adds noise [S] to a clip [S] at an exact ratio of powers over its real samples; adds nothing to silence."""
    real = _real(waveform, length)
    noise = jnp.where(real, noise, 0.0)
    signal_power = jnp.sum(jnp.where(real, waveform, 0.0) ** 2)
    noise_power = jnp.sum(noise**2)
    wanted = signal_power * 10 ** (-snr_db / 10) / jnp.where(noise_power > 0, noise_power, 1.0)
    # the inner where keeps the gradient of the root finite at 0
    level = jnp.where(wanted > 0, jnp.sqrt(jnp.where(wanted > 0, wanted, 1.0)), 0.0)
    return waveform + level * noise


def _real(waveform: jax.Array, length: jax.Array) -> jax.Array:
    return jnp.arange(waveform.shape[0]) < length
