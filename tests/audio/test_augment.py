"""Augmentation against closed forms (levels, ratios, widths, distributions) and its promises: keys decide, padding stays."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from beats_jax.audio import augment
from beats_jax.config import AugmentConfig
from beats_jax.errors import UserError

RATE = 16_000
EVERYTHING = AugmentConfig(gain_db=6.0, roll=True, noise_probability=0.7, noise_snr_db_low=0.0, noise_snr_db_high=20.0)
MASKS = AugmentConfig(time_masks=2, time_mask_fraction=0.3, frequency_masks=2, frequency_mask_fraction=0.25)


@lru_cache
def keys_of(count, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))


def clips(count, samples, lengths=None, seed=0):
    waveforms = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, samples)).astype(np.float32)
    lengths = np.full(count, samples, np.int32) if lengths is None else np.asarray(lengths, np.int32)
    return np.where(np.arange(samples)[None, :] < lengths[:, None], waveforms, 0).astype(np.float32), lengths


@partial(jax.jit, static_argnames="config")
def run(keys, waveforms, lengths, config):
    return augment.augment_waveforms(keys, waveforms, lengths, config, RATE)


# compiled whole: run step by step, every operation would be compiled by itself
plan = jax.jit(augment.mixup_plan, static_argnums=(2, 3))
mask_fbank = jax.jit(augment.mask_fbank, static_argnames="config")
spans = jax.jit(augment.spans, static_argnums=(1, 3, 4))
mix, mixed_lengths, mixed_frame_mask = (jax.jit(f) for f in (augment.mix, augment.mixed_lengths, augment.mixed_frame_mask))


def draws(function, keys):
    return np.asarray(jax.jit(jax.vmap(function))(keys))


def test_gain_is_uniform_in_decibels():
    waveforms, lengths = clips(512, 8)
    louder = np.asarray(run(keys_of(512), waveforms, lengths, AugmentConfig(gain_db=6.0)))
    factors = louder / waveforms
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones((1, 8)), rtol=1e-5)
    decibels = 20 * np.log10(factors[:, 0])
    assert decibels.min() >= -6.001
    assert decibels.max() <= 6.001
    assert abs(decibels.mean()) < 0.5  # standard error 12 / sqrt(12 * 512) = 0.15
    assert decibels.std() == pytest.approx(12 / np.sqrt(12), rel=0.07)


def test_roll_turns_the_real_samples_only():
    lengths = np.arange(64) % 17
    waveforms, lengths = clips(64, 20, lengths)
    waveforms = np.where(np.arange(20)[None, :] < lengths[:, None], waveforms, 7.0).astype(np.float32)  # marked padding
    rolled = np.asarray(run(keys_of(64), waveforms, lengths, AugmentConfig(roll=True)))
    shifts = set()
    for before, after, length in zip(waveforms, rolled, lengths, strict=True):
        turned = [s for s in range(max(1, length)) if np.array_equal(np.roll(before[:length], s), after[:length])]
        assert turned
        np.testing.assert_array_equal(after[length:], 7.0)
        shifts |= set(turned)
    assert len(shifts) > 8


def test_roll_is_uniform():
    waveforms = np.tile(np.arange(5, dtype=np.float32), (2000, 1))
    rolled = run(keys_of(2000), waveforms, np.full(2000, 5), AugmentConfig(roll=True))
    counts = np.bincount(np.asarray(rolled)[:, 0].astype(int), minlength=5)
    assert np.abs(counts - 400).max() < 80  # standard deviation 18


def test_noise_has_the_ratio_asked_for_on_the_real_samples():
    waveforms, lengths = clips(48, 2000, 500 + 30 * np.arange(48))
    add = jax.jit(jax.vmap(lambda k, w, n, low, high: augment.add_noise(k, w, n, low, high, RATE), (0, 0, 0, None, None)))

    def ratios(low, high):
        noise = np.asarray(add(keys_of(48), waveforms, lengths, low, high)) - waveforms
        assert all((row[n:] == 0).all() for row, n in zip(noise, lengths, strict=True))
        return 10 * np.log10((waveforms**2).sum(1) / (noise**2).sum(1))

    np.testing.assert_allclose(ratios(7.0, 7.0), 7.0, atol=2e-3)
    spread = ratios(3.0, 12.0)
    assert spread.min() > 2.99
    assert spread.max() < 12.01
    assert spread.mean() == pytest.approx(7.5, abs=1.5)  # standard error 0.38


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_noise_probability(probability, share):
    waveforms, lengths = clips(400, 600)
    noisy = np.asarray(run(keys_of(400), waveforms, lengths, AugmentConfig(noise_probability=probability)))
    changed = (noisy != waveforms).any(1).mean()
    assert changed == share if share in (0.0, 1.0) else changed == pytest.approx(share, abs=0.08)  # 3.5 standard deviations


def test_noise_follows_its_slope():
    """The spectrum over many draws falls by slope * 3.01 dB per octave, from 250 Hz to 8 kHz."""
    draw = jax.jit(jax.vmap(lambda key, slope: augment.coloured_noise(key, 16_384, RATE, slope), (0, None)))
    for slope in (0.0, 1.0, 2.0):
        sounds = np.asarray(draw(keys_of(16), slope))
        power = (np.abs(np.fft.rfft(sounds.reshape(-1, 1024) * np.hanning(1024))) ** 2).mean(0)
        octaves = [power[low : 2 * low].mean() for low in (16, 32, 64, 128, 256)]
        np.testing.assert_allclose(np.diff(10 * np.log10(octaves)), -3.0103 * slope, atol=0.35)
        levels = sounds.reshape(16, -1, 256).std(axis=(0, 2))
        assert slope > 0 or levels.std() / levels.mean() < 0.05  # no pulsing from block to block


def test_noise_slopes_are_spread():
    waveforms = np.full((48, 2000), 0.1, np.float32)
    add = jax.jit(jax.vmap(lambda k, w: augment.add_noise(k, w, jnp.asarray(2000), 0.0, 0.0, RATE)))
    power = np.abs(np.fft.rfft(np.asarray(add(keys_of(48), waveforms)) - waveforms)) ** 2
    tilt = np.log10(power[:, 16:128].mean(1) / power[:, 512:].mean(1))  # 0 for white noise, 2.1 for the steepest
    assert tilt.min() < 0.3
    assert tilt.max() > 1.6


def test_backgrounds_are_other_clips_turned_at_the_ratio_asked_for():
    """What was added is the partner's real samples over and over, from some place on; nobody hears a clip that is not there."""
    waveforms, lengths = clips(40, 900, 300 + 15 * np.arange(40))
    there = np.arange(40) % 7 != 0
    behind = jax.jit(augment.add_backgrounds, static_argnames="config")
    config = AugmentConfig(background_probability=1.0, background_snr_db_low=3.0, background_snr_db_high=9.0)
    mixed = np.asarray(behind(jax.random.key(2), keys_of(40), waveforms, lengths, there, config=config))
    partners = np.asarray(jax.random.permutation(jax.random.key(2), 40))
    heard = there[partners] & (partners != np.arange(40))
    added = mixed - waveforms
    np.testing.assert_array_equal((added != 0).any(1), heard)
    assert all((row[n:] == 0).all() for row, n in zip(added, lengths, strict=True))
    ratios = 10 * np.log10((waveforms**2).sum(1) / np.where(heard, (added**2).sum(1), 1))[heard]
    assert ratios.min() > 2.99
    assert ratios.max() < 9.01
    assert ratios.max() - ratios.min() > 3
    for i in np.flatnonzero(heard):
        other = waveforms[partners[i], : lengths[partners[i]]]
        repeated = np.tile(other, 5)
        turned = np.stack([repeated[start : start + lengths[i]] for start in range(len(other))])
        levels = (added[i, : lengths[i]] * turned).sum(1) / (turned**2).sum(1)
        misses = np.abs(added[i, : lengths[i]] - levels[:, None] * turned).max(1)
        assert misses.min() < 1e-6 < 0.05 < np.median(misses)
    wider = np.pad(waveforms, ((0, 0), (0, 100)))
    again = behind(jax.random.key(2), keys_of(40), wider, lengths, there, config=config)
    np.testing.assert_allclose(np.asarray(again)[:, :900], mixed, atol=1e-6)
    silent = behind(jax.random.key(2), keys_of(40), np.zeros_like(waveforms), lengths, there, config=config)
    assert not np.any(silent)
    some = behind(jax.random.key(2), keys_of(40), waveforms, lengths, there, config=replace(config, background_probability=0.5))
    assert 5 < (np.asarray(some) != waveforms).any(1).sum() < heard.sum() - 5


def test_silence_and_empty_clips_stay_finite():
    waveforms = np.zeros((8, 1500), np.float32)
    lengths = np.array([0, 1, 2, 400, 800, 1000, 1499, 1500], np.int32)
    np.testing.assert_array_equal(run(keys_of(8), waveforms, lengths, EVERYTHING), waveforms)
    noisy = AugmentConfig(noise_probability=1.0)
    gradient = jax.grad(lambda x: run(keys_of(8), x, lengths, noisy).sum())(jnp.asarray(waveforms))
    assert np.isfinite(gradient).all()


def test_keys_alone_decide():
    waveforms, lengths = clips(8, 1500, 700 + 100 * np.arange(8))
    keys, order = keys_of(8), np.array([3, 1, 7, 0, 2, 6, 5, 4])
    out = np.asarray(run(keys, waveforms, lengths, EVERYTHING))
    np.testing.assert_array_equal(out, run(keys, waveforms, lengths, EVERYTHING))
    np.testing.assert_allclose(out[order], run(keys[order], waveforms[order], lengths[order], EVERYTHING), atol=1e-6)
    neighbours = waveforms.copy()
    neighbours[:3] = neighbours[4:7]
    np.testing.assert_allclose(out[3], run(keys, neighbours, lengths, EVERYTHING)[3], atol=1e-6)
    assert (np.asarray(run(keys_of(8, seed=1), waveforms, lengths, EVERYTHING)) != out).any(1).all()


def test_more_padding_changes_nothing():
    waveforms, lengths = clips(8, 1500, 700 + 100 * np.arange(8))
    wider = np.pad(waveforms, ((0, 0), (0, 777)))
    out, wide = run(keys_of(8), waveforms, lengths, EVERYTHING), np.asarray(run(keys_of(8), wider, lengths, EVERYTHING))
    np.testing.assert_allclose(out, wide[:, :1500], atol=1e-6)
    assert (wide[:, 1500:] == 0).all()


def test_parts_do_not_disturb_each_other():
    waveforms, lengths = clips(4, 900)
    rolled = run(keys_of(4), waveforms, lengths, AugmentConfig(roll=True))
    both = np.asarray(run(keys_of(4), waveforms, lengths, AugmentConfig(roll=True, gain_db=6.0)))
    np.testing.assert_allclose(both / rolled, (both / rolled)[:, :1] * np.ones((1, 900)), rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_equal_one():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    spread = partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    waveforms, lengths = clips(16, 900, 500 + 20 * np.arange(16))
    keys, key = keys_of(16), jax.random.key(5)
    config = AugmentConfig(
        gain_db=3.0, roll=True, noise_probability=0.5, background_probability=0.5, time_masks=1, frequency_masks=1
    )

    @jax.jit
    def everything(keys, waveforms, lengths):
        waveforms = augment.add_backgrounds(key, keys, waveforms, lengths, lengths > 600, config)
        out = augment.augment_waveforms(keys, waveforms, lengths, config, RATE)
        partners, weights = jax.random.permutation(key, 16), lengths / 1000
        fbank = waveforms[:, :800].reshape(16, 40, 20)
        masked = augment.mask_fbank(keys, fbank, jnp.ones((16, 40), bool), config)
        return augment.mix(out, partners, weights), partners, weights, masked

    for one, many in zip(
        everything(keys, waveforms, lengths), everything(spread(keys), spread(waveforms), spread(lengths)), strict=True
    ):
        np.testing.assert_allclose(one, many, atol=1e-6)


def test_nothing_on_is_nothing_done():
    waveforms, lengths = clips(2, 100)
    program = jax.make_jaxpr(lambda w: augment.augment_waveforms(keys_of(2), w, lengths, AugmentConfig(), RATE))(waveforms)
    assert not any(word in str(program) for word in ("mul", "select", "gather", "random_bits", "dot"))
    masked = augment.mask_fbank(keys_of(2), waveforms[:, :, None], np.ones((2, 100), bool), AugmentConfig())
    assert masked is not None
    np.testing.assert_array_equal(masked[:, :, 0], waveforms)
    partners, weights = augment.mixup_plan(jax.random.key(0), keys_of(2), 2, AugmentConfig())
    assert partners.tolist() == [0, 1]
    assert weights.tolist() == [1, 1]


@pytest.mark.parametrize(("alpha", "probability"), [(0.3, 1.0), (10.0, 0.5)])
def test_mixup_plan(alpha, probability):
    config = AugmentConfig(mixup_probability=probability, mixup_alpha=alpha)
    keys = keys_of(2000)
    partners, weights = (np.asarray(x) for x in plan(jax.random.key(1), keys, 2000, config))
    assert sorted(partners) == list(range(2000))
    assert (partners != np.arange(2000)).mean() > 0.99
    mixed = weights[weights < 1]
    # Beta(0.3, 0.3) comes so near to 1 that float32 rounds some weights up to it
    assert mixed.size / 2000 == pytest.approx(probability, abs=0.05)
    assert mixed.mean() == pytest.approx(0.5, abs=0.04)
    assert mixed.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)
    other_partners, other_weights = plan(jax.random.key(2), keys[::-1], 2000, config)
    np.testing.assert_array_equal(other_weights[::-1], weights)
    assert (np.asarray(other_partners) != partners).any()


def test_mix_of_waveforms_labels_lengths_and_masks():
    waveforms, lengths = clips(4, 10, [3, 10, 6, 8])
    partners, weights = np.array([1, 2, 3, 0], np.int32), np.array([0.25, 1.0, 0.5, 0.0], np.float32)
    mixed = np.asarray(mix(waveforms, partners, weights))
    np.testing.assert_allclose(mixed[0], 0.25 * waveforms[0] + 0.75 * waveforms[1], atol=1e-7)
    np.testing.assert_array_equal(mixed[1], waveforms[1])
    np.testing.assert_allclose(mixed[3], waveforms[0], atol=1e-7)
    targets = np.asarray(mix(np.eye(4, dtype=np.float32), partners, weights))
    np.testing.assert_allclose(targets, [[0.25, 0.75, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5], [1, 0, 0, 0]])
    np.testing.assert_allclose(targets.sum(1), 1.0)
    assert mix(np.ones((4, 3, 2), np.float32), partners, weights).shape == (4, 3, 2)
    assert mixed_lengths(lengths, partners, weights).tolist() == [10, 10, 8, 8]
    frame_mask = np.arange(10)[None, :] < lengths[:, None]
    assert mixed_frame_mask(frame_mask, partners, weights).sum(1).tolist() == [10, 10, 8, 8]
    with pytest.raises(TypeError, match="int32"):
        augment.mix(np.arange(4, dtype=np.int32), partners, weights)


def test_time_masks_lie_among_the_real_frames_and_reach_the_widest():
    real = jnp.arange(60) < 40
    hidden = draws(lambda key: augment.spans(key, len(real), jnp.sum(real), 1, 0.25), keys_of(2000))
    widths = hidden.sum(1)
    assert set(widths) == set(range(11))  # floor(0.25 * 40) = 10
    assert widths.mean() == pytest.approx(5.0, abs=0.25)
    assert not hidden[:, 40:].any()
    assert hidden[:, :40].any(0).all()
    assert (np.abs(np.diff(hidden.astype(int), prepend=0, append=0, axis=1)).sum(1) <= 2).all()  # one span each


def test_frequency_masks_edges():
    none = spans(jax.random.key(0), 128, 128, 3, 0.0)
    assert not none.any()
    whole = draws(lambda key: augment.spans(key, 8, jnp.asarray(8), 1, 1.0), keys_of(300))
    assert set(whole.sum(1)) == set(range(9))
    exact = draws(lambda key: augment.spans(key, 10, jnp.asarray(10), 1, 0.3), keys_of(200))
    assert exact.sum(1).max() == 3


def test_mask_fbank_fills_with_zero_and_spares_padding():
    fbank = np.random.default_rng(0).uniform(1, 2, (64, 30, 16)).astype(np.float32)
    frame_mask = np.arange(30)[None, :] < np.linspace(0, 30, 64).astype(int)[:, None]
    mask = partial(mask_fbank, config=MASKS)
    masked = np.asarray(mask(keys_of(64), fbank, frame_mask))
    changed = masked != fbank
    assert (masked[changed] == 0).all()
    assert not changed[~frame_mask].any()
    for row, real in zip(changed, frame_mask, strict=True):
        hidden_frames, hidden_bins = row[real].all(1), row[real].all(0) if real.any() else np.zeros(16, bool)
        np.testing.assert_array_equal(row[real], hidden_frames[:, None] | hidden_bins[None, :])
        assert hidden_frames.sum() <= max(2 * int(0.3 * real.sum()), 0) or hidden_frames.all()
        assert hidden_bins.sum() <= 8
    assert changed.any()
    order = np.random.default_rng(1).permutation(64)
    again = mask(keys_of(64)[order], fbank[order], frame_mask[order])
    np.testing.assert_array_equal(again, masked[order])


@pytest.mark.parametrize(
    "wrong",
    [
        {"gain_db": -1.0},
        {"noise_snr_db_low": 5.0, "noise_snr_db_high": 4.0},
        {"background_snr_db_low": 16.0},
        {"mixup_alpha": 0.0},
        {"time_masks": -1},
        {"noise_probability": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


def test_masks_are_filled_with_the_value_that_is_set():
    """AST's own code masks before it normalises, with raw zeros."""
    fbank, real, keys = np.ones((4, 50, 16), np.float32), np.ones((4, 50), bool), keys_of(4)
    config = AugmentConfig(time_masks=1, time_mask_fraction=0.5, frequency_masks=1, frequency_mask_fraction=0.5)
    plain = np.asarray(mask_fbank(keys, fbank, real, config))
    filled = np.asarray(mask_fbank(keys, fbank, real, replace(config, mask_value=0.6)))
    assert (plain == 0).any()
    np.testing.assert_array_equal(filled, np.where(plain == 0, np.float32(0.6), plain))


def test_frequencies_move_by_whole_bins_both_ways():
    fbank = np.random.default_rng(0).normal(size=(64, 3, 8)).astype(np.float32)
    moved = np.asarray(augment.shift_frequencies(keys_of(64), jnp.asarray(fbank), AugmentConfig(frequency_shift_bins=2)))
    padded = np.pad(fbank, ((0, 0), (0, 0), (2, 2)), mode="edge")
    places = [[np.array_equal(moved[i], padded[i, :, s : s + 8]) for s in range(5)] for i in range(64)]
    assert np.sum(places) == 64
    assert np.sum(places, axis=0).min() >= 4


def test_backgrounds_come_from_the_allowed_clips_alone():
    """Clips are constants: what is left after the clip itself is a multiple of its background."""
    waveforms = np.zeros((6, 8), np.float32)
    waveforms[np.arange(6), np.arange(6)] = 1.0
    allowed = jnp.array([False, True, False, False, True, False])
    config = AugmentConfig(background_probability=1.0, background_class="noise", background_snr_db_high=0.0)
    lengths = jnp.full(6, 8, jnp.int32)
    mixed = augment.add_backgrounds(jax.random.key(1), keys_of(6), jnp.asarray(waveforms), lengths, allowed, config)
    behind = np.sort(np.abs(np.asarray(mixed) - waveforms), axis=1)
    assert (behind[:, :-1] < 1e-6).all()
    served = behind[:, -1] > 0.5
    assert served.sum() >= 4  # the two themselves may draw themselves
    assert served[[0, 2, 3, 5]].all()
