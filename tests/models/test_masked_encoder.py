"""Masked pre-training's encoder: exact counts, and visible tokens alone equal the whole clip with the others hidden."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_beats import TINY_BEATS

from beats_jax.errors import UserError
from beats_jax.models.beats import BEATs
from beats_jax.models.cpu import Form
from beats_jax.models.masking import select, visible_counts
from beats_jax.models.pretraining.encoder import MaskedBEATs
from beats_jax.models.pretraining.predictor import stack_config

REAL = np.array([32, 24, 8, 32])  # of 32 tokens: 4 x 8 patches
TINY = dataclasses.replace(TINY_BEATS, encoder_layers=1)


@pytest.fixture(scope="module")
def selection():
    mask = jnp.arange(32)[None, :] < jnp.asarray(REAL)[:, None]
    return jax.jit(lambda: select(jax.random.split(jax.random.key(0), 4), mask, 0.75))()


@pytest.fixture(scope="module")
def clip():
    fbank = jnp.asarray(np.random.default_rng(0).standard_normal((4, 64, 128)), jnp.float32)
    return fbank, jnp.arange(32)[None, :] < jnp.asarray(REAL)[:, None]


def test_each_clip_shows_its_own_share_of_its_real_tokens(selection):
    places, visible, masked = (jax.device_get(part) for part in selection)
    assert places.positions.shape == (4, 8)
    np.testing.assert_array_equal(visible.sum(axis=1), REAL // 4)
    np.testing.assert_array_equal(masked.sum(axis=1), REAL - REAL // 4)
    for i, real in enumerate(REAL):
        shown = places.positions[i][visible[i]]
        assert (np.diff(shown) > 0).all()  # the order of the clip
        assert visible[i, : real // 4].all()  # empty slots lie behind
        assert sorted([*shown, *np.flatnonzero(masked[i])]) == list(range(real))
        np.testing.assert_array_equal(places.slots[i][shown], np.arange(real // 4))
        assert (np.delete(places.slots[i], shown) == 8).all()


@pytest.mark.parametrize("ratio", [0.75, 0.6, 0.8])
def test_counts_are_the_rounded_share(ratio):
    counts = visible_counts(496, ratio)
    assert counts[0] == 0
    assert counts[1] == 1
    assert counts[496] == round((1 - ratio) * 496)
    assert (np.diff(counts) >= 0).all()
    assert all(counts[n] == max(1, round((1 - ratio) * n)) for n in range(1, 497))


def test_every_token_is_shown_equally_often():
    keys = jax.random.split(jax.random.key(1), 4000)
    shown = np.asarray(jax.jit(lambda: ~select(keys, jnp.ones((4000, 16), bool), 0.75).masked)()).mean(axis=0)
    np.testing.assert_allclose(shown, 0.25, atol=4 * (0.25 * 0.75 / 4000) ** 0.5)


def masked_beats(**options):
    return MaskedBEATs(TINY, stack_config(TINY, 1), codes=6, **options)


def init(module, clip, selection):
    return jax.jit(module.init)(jax.random.key(0), *clip, selection)["params"]


@pytest.mark.slow
def test_visible_tokens_alone_equal_the_whole_clip_with_the_others_hidden(selection, clip):
    """True positions: hidden tokens are read as zeros by the convolution and attended by nobody, in both; gradients too."""
    fbank, mask = clip
    params = init(masked_beats(), clip, selection)
    draw = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.1 * draw.standard_normal(leaf.shape), jnp.float32), jax.device_get(params)
    )
    shown, visible = mask & ~selection.masked, np.asarray(selection.visible)

    def few(model, form):
        variables = {"params": {**params, "model": model}}
        return masked_beats(form=form).apply(variables, fbank, selection, method=MaskedBEATs.features)

    def whole(model):
        tokens = BEATs(TINY).apply({"params": model}, fbank, method=BEATs.embed_patches)
        features = BEATs(TINY).apply({"params": model}, tokens, shown, method=BEATs.encode_tokens).features
        return selection.places.gather(features)

    def with_gradient(features):
        def loss(model):
            values = jnp.where(selection.visible[:, :, None], features(model), 0.0)
            return jnp.sum(values**2), values

        return jax.jit(jax.grad(loss, has_aux=True))(params["model"])

    expected_gradients, expected = with_gradient(whole)
    gradients, values = with_gradient(lambda model: few(model, Form.AUTO))
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * max(1.0, float(jnp.max(jnp.abs(theirs)))))
    clipwise = jax.jit(lambda: few(params["model"], Form.LOOPED))()
    np.testing.assert_allclose(np.asarray(clipwise)[visible], np.asarray(expected)[visible], rtol=0, atol=2e-5)


@pytest.mark.slow
def test_compact_positions_are_those_of_the_visible_tokens_alone(selection, clip):
    fbank, _ = clip
    module = masked_beats(true_positions=False)
    params = init(module, clip, selection)
    few = jax.jit(lambda: module.apply({"params": params}, fbank, selection, method=MaskedBEATs.features))()
    alone = jax.jit(lambda tokens: BEATs(TINY).apply({"params": params["model"]}, tokens, method=BEATs.encode_tokens).features)
    tokens = BEATs(TINY).apply({"params": params["model"]}, fbank, method=BEATs.embed_patches)
    for i in (0, 1):
        count = REAL[i] // 4
        shown = tokens[i : i + 1, selection.places.positions[i, :count]]
        np.testing.assert_allclose(few[i, :count], alone(shown)[0], rtol=0, atol=2e-5)
    true = jax.jit(lambda: masked_beats().apply({"params": params}, fbank, selection, method=MaskedBEATs.features))()
    assert np.abs(np.asarray(true - few)[np.asarray(selection.visible)]).max() > 1e-3


@pytest.mark.slow
def test_logits_depend_on_visible_tokens_only(selection, clip):
    """What lies under masked tokens and padding, NaN included, reaches no logit of a real token and no gradient."""
    fbank, mask = clip
    module = masked_beats()
    variables = {"params": init(module, clip, selection)}
    hidden = np.asarray(selection.masked | ~mask).reshape(4, 4, 8)
    spoilt = jnp.where(jnp.asarray(np.kron(hidden, np.ones((1, 16, 16))) > 0), jnp.nan, fbank)

    @jax.jit
    def run(variables, fbank):
        def loss(variables):
            logits = module.apply(variables, fbank, mask, selection)
            return jnp.sum(jnp.where(mask[:, :, None], logits, 0.0) ** 2), logits

        return jax.grad(loss, has_aux=True)(variables)

    (gradients, logits), (others, again) = run(variables, fbank), run(variables, spoilt)
    assert logits.shape == (4, 32, 6)
    np.testing.assert_array_equal(np.asarray(logits)[np.asarray(mask)], np.asarray(again)[np.asarray(mask)])
    jax.tree.map(np.testing.assert_array_equal, gradients, others)
    moved = jax.tree.map(lambda g: bool(np.any(g != 0)), gradients["params"]["predictor"])
    assert moved["mask_token"]
    assert all(moved["input"].values())


def test_the_stack_has_its_own_depth_and_width():
    config = stack_config(TINY_BEATS, 3, width=48, heads=6)
    assert (config.encoder_layers, config.encoder_embed_dim, config.encoder_ffn_embed_dim) == (3, 48, 96)
    assert dataclasses.replace(config) == stack_config(config, 3)
    with pytest.raises(UserError, match="not a multiple"):
        stack_config(TINY_BEATS, 3, width=30)
