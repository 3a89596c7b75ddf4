"""Properties of the BEATs encoder: every option, training randomness, padding, gradients, initialisation, precision, forms."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.config import BEATsConfig
from beats_jax.models import registry
from beats_jax.models.attention import attend
from beats_jax.models.beats import BEATs, parameter_depth
from beats_jax.models.cpu import Form, on_cpu, pick
from beats_jax.models.layers import contract
from beats_jax.models.positions import conv_position, normalised_kernel
from beats_jax.weights.architecture import param_shapes

TINY = BEATsConfig(
    embed_dim=12, encoder_layers=2, encoder_embed_dim=16, encoder_ffn_embed_dim=24, encoder_attention_heads=2,
    conv_pos=6, conv_pos_groups=2, num_buckets=16, max_distance=12,
)  # fmt: skip
FBANK = jnp.asarray(np.random.default_rng(0).normal(0, 0.5, (2, 70, 128)), jnp.float32)
MASK = jnp.ones((2, 32), bool).at[1, 16:].set(False)
QUICK = {"xla_backend_optimization_level": 0}  # gradients here run once: their compile time is what counts


def random_params(config):
    draw = np.random.default_rng(1)
    return unflatten_dict(
        {path: jnp.asarray(draw.normal(0, 0.3, shape), jnp.float32) for path, shape in param_shapes(config).items()}, sep="/"
    )


def features(config, params, **kwargs):
    return BEATs(config).apply({"params": params}, FBANK, MASK, **kwargs).features


@pytest.fixture(scope="module")
def base():
    """Parameters and features of TINY; eager, because a compile of each variant would take longer than its run."""
    params = random_params(TINY)
    return params, features(TINY, params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"activation_fn": "gelu_accurate"}, {"activation_fn": "relu"}, {"activation_fn": "glu"}, {"deep_norm": False},
        {"deep_norm": False, "layer_norm_first": True}, {"conv_bias": True}, {"embed_dim": 16}, {"conv_pos": 7}, {"conv_pos": 40},
        {"conv_pos_groups": 4}, {"gru_rel_pos": False}, {"relative_position_embedding": False}, {"num_buckets": 8},
        {"max_distance": 30}, {"encoder_layers": 1}, {"encoder_attention_heads": 4}, {"encoder_ffn_embed_dim": 20},
        {"input_patch_size": 32},
    ],
    ids=str,
)  # fmt: skip
def test_every_architecture_option_changes_the_output(base, changes):
    config = replace(TINY, **changes)
    params = flatten_dict(random_params(config), sep="/")
    kept = {
        path: leaf for path, leaf in flatten_dict(base[0], sep="/").items() if path in params and params[path].shape == leaf.shape
    }
    params = unflatten_dict({**params, **kept}, sep="/")
    mask = None if "input_patch_size" in changes else MASK
    out = BEATs(config).apply({"params": params}, FBANK, mask, layers=True)
    assert bool(jnp.isfinite(out.features).all())
    assert out.layers.shape == (config.encoder_layers + 1, *out.features.shape)
    tokens = 8 if "input_patch_size" in changes else 32
    assert out.features.shape == (2, tokens, 16)
    if tokens == 32:
        assert float(jnp.abs(out.features - base[1])[0].max()) > 1e-5  # erf against tanh GELU: 5e-5


def test_gelu_fast_is_the_same_tanh_form(base):
    outputs = [features(replace(TINY, activation_fn=name), base[0]) for name in ("gelu_fast", "gelu_accurate")]
    np.testing.assert_array_equal(*outputs)


def test_layers_end_before_the_final_norm_in_pre_norm_mode(base):
    config = replace(TINY, deep_norm=False, layer_norm_first=True)
    out = BEATs(config).apply({"params": base[0]}, FBANK, layers=True)
    norm = jax.device_get(base[0]["encoder"]["layer_norm"])
    last = np.asarray(out.layers[-1], np.float64)
    normal = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(out.features, normal * norm["scale"] + norm["bias"], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"attention_dropout": 0.3},
        {"activation_dropout": 0.3},
        {"dropout_input": 0.3},
        {"predictor_dropout": 0.5},
    ],
    ids=str,
)
def test_dropouts_are_functions_of_their_key(changes):
    config = replace(TINY, encoder_layers=1, predictor_class=3, **changes)
    model, variables = BEATs(config), {"params": random_params(config)}

    def logits(seed):
        return model.apply(variables, FBANK, MASK, deterministic=False, rngs={"dropout": jax.random.key(seed)}).logits

    plain = model.apply(variables, FBANK, MASK).logits
    np.testing.assert_array_equal(logits(0), logits(0))
    assert float(jnp.abs(logits(0) - logits(1)).max()) > 1e-5
    assert float(jnp.abs(logits(0) - plain).max()) > 1e-5


def test_layerdrop_skips_whole_layers(base):
    params, plain = base
    config = replace(TINY, encoder_layerdrop=0.5)
    run = jax.jit(
        lambda key: BEATs(config).apply(
            {"params": params}, FBANK, MASK, deterministic=False, layers=True, rngs={"layerdrop": key}
        ).layers
    )  # fmt: skip
    seen = set()
    for seed in range(24):
        states = np.asarray(run(jax.random.key(seed)))
        skipped = tuple(bool((states[i + 1] == states[i]).all()) for i in range(2))
        seen.add(skipped)
        if skipped == (False, False):
            np.testing.assert_allclose(states[-1], plain, rtol=0, atol=1e-5)
    assert len(seen) == 4


@pytest.mark.slow
def test_gradient_decay_in_closed_form(base):
    """With ratio r block i's gradient is r^(L-1-i) of the plain one, everything before the blocks r^L; the shared table mixes."""
    params = base[0]

    def gradient(ratio):
        config = replace(TINY, layer_wise_gradient_decay_ratio=ratio)
        weight = jnp.asarray(FBANK[:, :32, :16])
        loss = lambda p: (BEATs(config).apply({"params": p}, FBANK, MASK).features * weight).sum()  # noqa: E731
        return flatten_dict(jax.jit(jax.grad(loss), compiler_options=QUICK)(params), sep="/")

    plain, decayed = gradient(1.0), gradient(0.5)
    for path, expected in plain.items():
        if "relative_attention_bias" in path:
            continue
        scale = 0.5 ** min(2, 2 - parameter_depth(path, TINY))
        bound = 1e-6 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(decayed[path], scale * expected, rtol=1e-4, atol=bound, err_msg=path)


def test_padding_reaches_neither_real_tokens_nor_gradients(base):
    """NaN and garbage under the mask: outputs of real tokens and all gradients stay what they are with zeros there."""
    garbage = np.array(FBANK)
    garbage[1, 32:64] = np.nan
    garbage[0, 64:] = np.inf  # the frames after the last whole patch
    config = replace(TINY, predictor_class=2)
    params = random_params(config)

    def loss(p, fbank):
        out = BEATs(config).apply({"params": p}, fbank, MASK)
        return (out.logits**2).sum() + (jnp.where(MASK[:, :, None], out.features, 0.0) ** 3).sum(), out.features

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), compiler_options=QUICK)
    (clean_loss, clean), (clean_gradient, _) = run(params, FBANK)
    (dirty_loss, dirty), (dirty_gradient, input_gradient) = run(params, garbage)
    np.testing.assert_array_equal(clean[MASK], dirty[MASK])
    assert bool(jnp.isfinite(dirty).all())
    assert float(clean_loss) == float(dirty_loss)
    for path, leaf in flatten_dict(dirty_gradient, sep="/").items():
        np.testing.assert_array_equal(leaf, flatten_dict(clean_gradient, sep="/")[path], err_msg=path)
    assert not np.asarray(input_gradient)[1, 32:].any()


def test_a_clip_without_a_real_token_stays_finite():
    mask = jnp.zeros((2, 32), bool).at[0].set(True)
    config = replace(TINY, encoder_layers=1)
    loss = lambda p: (BEATs(config).apply({"params": p}, FBANK, mask).features ** 2).sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(random_params(config))
    assert np.isfinite(value)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_too_short_a_filterbank_is_told(base):
    with pytest.raises(ValueError, match="15 frames"):
        BEATs(TINY).apply({"params": base[0]}, FBANK[:, :15])


@pytest.mark.slow
def test_initialisation_has_the_published_spreads():
    config = BEATsConfig(
        embed_dim=64, encoder_layers=2, encoder_embed_dim=96, encoder_ffn_embed_dim=128, conv_pos=16, conv_pos_groups=2
    )
    flat = flatten_dict(
        jax.jit(BEATs(config).init, compiler_options=QUICK)(jax.random.key(0), jnp.zeros((1, 16, 16)))["params"], sep="/"
    )
    beta = 16**-0.25
    expected = {
        "patch_embedding/kernel": 1 / (16 * 3**0.5),  # uniform in +-1/sqrt(256)
        "post_extract_proj/kernel": 1 / (8 * 3**0.5),
        "post_extract_proj/bias": 1 / (8 * 3**0.5),
        "encoder/pos_conv/weight_v": (4 / (16 * 96)) ** 0.5,
        "encoder/relative_attention_bias/embedding": 0.02,
        "encoder/layers_0/self_attn/q_proj/kernel": (1 / 96) ** 0.5,
        "encoder/layers_1/self_attn/k_proj/kernel": (1 / 96) ** 0.5,
        "encoder/layers_0/self_attn/v_proj/kernel": beta * (1 / 96) ** 0.5,
        "encoder/layers_1/self_attn/out_proj/kernel": beta * (1 / 96) ** 0.5,
        "encoder/layers_0/fc1/kernel": beta * (2 / 224) ** 0.5,
        "encoder/layers_1/fc2/kernel": beta * (2 / 224) ** 0.5,
        "encoder/layers_0/self_attn/grep_linear/kernel": 0.02,
    }
    for path, spread in expected.items():
        few = flat[path].size < 200
        np.testing.assert_allclose(np.std(flat[path]), spread, rtol=0.25 if few else 0.06, err_msg=path)
    assert all(not leaf.any() for path, leaf in flat.items() if path.startswith("encoder/") and path.endswith("bias"))
    np.testing.assert_array_equal(flat["encoder/layers_0/self_attn/grep_a"], np.ones(12))
    kernel = normalised_kernel(flat["encoder/pos_conv/weight_v"], flat["encoder/pos_conv/weight_g"])
    np.testing.assert_allclose(kernel, flat["encoder/pos_conv/weight_v"], rtol=1e-5)  # g starts at ||v||


@pytest.mark.slow
def test_bfloat16_is_close_and_its_gradients_too():
    config = replace(TINY, encoder_layers=1)
    params = random_params(config)

    def run(dtype):
        def loss(p):
            out = registry.build(config, dtype).apply({"params": p}, FBANK, MASK).features
            return (out[0, 0] * jnp.arange(16.0)).sum(), out

        (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)(params)
        return out, flatten_dict(gradient, sep="/")

    (full, gradient), (low, low_gradient) = run("float32"), run("bfloat16")
    assert low.dtype == jnp.float32
    assert 1e-6 < float(jnp.abs(full - low).max()) < 0.1
    for path, leaf in gradient.items():
        assert low_gradient[path].dtype == jnp.float32
        size = float(jnp.abs(leaf).max())
        assert float(jnp.abs(leaf - low_gradient[path]).max()) < 0.1 * size + 1e-3, path


def test_contraction_gradients_are_those_of_einsum():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 5, 4)).astype(np.float32), draw.normal(size=(2, 6, 4)).astype(np.float32)
    weight = draw.normal(size=(2, 5, 6)).astype(np.float32)
    expected = jax.grad(lambda a, b: (jnp.einsum("hqk,hsk->hqs", a, b) * weight).sum(), (0, 1))(a, b)
    given = jax.grad(lambda a, b: (contract("hqk,hsk->hqs", a, b, jnp.bfloat16) * weight).sum(), (0, 1))(a, b)
    for left, right in zip(given, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=0.05)


def test_attention_forms_agree_with_dropout_and_mask():
    draw = np.random.default_rng(0)
    shapes = [(5, 2, 8, 4)] * 3 + [(2, 8, 8), (5, 2, 8)]
    q, k, v, bias, gate = (jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes)
    mask = jnp.asarray(draw.random((5, 8)) > 0.3)
    shared = {"bias": bias, "gate": gate, "token_mask": mask, "dropout_key": jax.random.key(3), "dropout_rate": 0.2}
    plain, looped, portable = (attend(q, k, v, form=form, **shared) for form in (Form.PLAIN, Form.LOOPED, Form.PORTABLE))
    np.testing.assert_allclose(plain, looped, rtol=0, atol=1e-6)
    np.testing.assert_allclose(plain, portable, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("tokens", "taps"), [(20, 6), (20, 7), (5, 12), (5, 11)])
def test_conv_position_forms_agree_with_a_plain_sum(tokens, taps):
    draw = np.random.default_rng(0)
    shapes = ((2, tokens, 8), (8,), (taps, 4, 8))
    x, bias, kernel = (jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes)
    padded = np.pad(x, ((0, 0), (taps // 2, taps // 2), (0, 0)))
    expected = np.zeros((2, tokens, 8))
    for t in range(tokens):
        for group in range(2):
            channels = slice(4 * group, 4 * group + 4)
            expected[:, t, channels] = np.einsum("bki,kio->bo", padded[:, t : t + taps, channels], kernel[:, :, channels])
    for form in (Form.PLAIN, Form.LOOPED):
        y = conv_position(x, kernel, bias, groups=2, form=form, dtype=jnp.float32)
        np.testing.assert_allclose(y, expected + np.asarray(bias), rtol=0, atol=1e-5)
        gradient = jax.grad(lambda k, form=form: conv_position(x, k, bias, groups=2, form=form, dtype=jnp.bfloat16).sum())(kernel)
        windows = np.lib.stride_tricks.sliding_window_view(padded, tokens, axis=1)[:, :taps]
        ones = windows.sum((0, 3))  # derivative of the sum by the kernel: [taps, channels]
        for group in range(2):
            channels = slice(4 * group, 4 * group + 4)
            np.testing.assert_allclose(gradient[:, :, channels], np.repeat(ones[:, channels, None], 4, 2), rtol=0, atol=0.2)


def looped(shape, **options):
    """Whether attention of `shape` [B, H, T, K] has a loop, and over how many clips or heads: it is traced, not run."""
    q = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = str(jax.make_jaxpr(lambda q: attend(q, q, q, **options))(q))
    return int(re.search(r"length=(\d+)", text)[1]) if "scan[" in text else 0


def test_forms_are_chosen_by_backend_and_shape(monkeypatch):
    auto, bias = {"form": Form.AUTO}, {"form": Form.AUTO, "bias": jnp.zeros((2, 900, 900))}
    assert looped((64, 2, 8, 4), **auto) == 0  # eight devices in the tests
    monkeypatch.setattr(jax, "device_count", lambda platform: {"cpu": 1}[platform])
    assert (looped((3, 2, 8, 4), **auto), looped((4, 2, 8, 4), **auto)) == (0, 4)
    assert (looped((1, 2, 513, 4), **auto), looped((1, 2, 900, 4), **auto)) == (0, 2)  # by head where nothing is shared
    assert (looped((1, 2, 900, 4), **bias), looped((4, 2, 900, 4), **bias)) == (0, 4)
    assert (looped((1, 2, 8, 4), form=Form.LOOPED), looped((64, 2, 900, 4), form=Form.PLAIN)) == (2, 0)
    choices = {form: pick(form, cpu=jnp.sin, plain=jnp.cos) for form in (Form.AUTO, Form.PLAIN, Form.LOOPED)}
    assert choices == {Form.AUTO: jnp.sin, Form.PLAIN: jnp.cos, Form.LOOPED: jnp.sin}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert (looped((4, 2, 8, 4), **auto), on_cpu(), pick(Form.AUTO, cpu=jnp.sin, plain=jnp.cos)) == (0, False, jnp.cos)
    with jax.default_device(jax.devices("cpu")[0]):  # on a host with a GPU
        assert (looped((4, 2, 8, 4), **auto), on_cpu()) == (4, True)


def test_parameter_depths():
    depth = registry.family(TINY).depth_of
    paths = set(param_shapes(replace(TINY, predictor_class=2)))
    assert {depth(path) for path in paths} == {0, 1, 2, 3}
    assert depth("encoder/layers_1/fc1/kernel") == 2
    assert depth("encoder/layers_10/fc1/kernel") == 11
    assert [depth(path) for path in ("patch_embedding/kernel", "encoder/pos_conv/weight_g", "encoder/layer_norm/scale")] == [
        0,
        0,
        0,
    ]
    assert depth("encoder/relative_attention_bias/embedding") == 0
    assert depth("predictor/bias") == 3
    assert parameter_depth("encoder/layer_norm/scale", replace(TINY, deep_norm=False, layer_norm_first=True)) == 3


@pytest.mark.slow
def test_the_bias_of_the_keys_is_inert(base):
    """Softmax ignores what is added to all scores of a query: any bias gives the same features, so it gets no gradient."""
    params, expected = base
    moved = unflatten_dict(
        {name: leaf + 3.0 if name.endswith("k_proj/bias") else leaf for name, leaf in flatten_dict(params, sep="/").items()},
        sep="/",
    )
    np.testing.assert_allclose(features(TINY, moved), expected, rtol=0, atol=2e-5)
    loss = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(features(TINY, p)))), compiler_options=QUICK)
    for name, gradient in flatten_dict(loss(params), sep="/").items():
        assert (float(jnp.max(jnp.abs(gradient))) == 0) == name.endswith("k_proj/bias"), name
