"""BEATs against the published implementation, stage by stage, on seeded random weights (golden files)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.models.beats import BEATs
from beats_jax.models.masking import reduce_padding_mask, reference_token_mask
from beats_jax.models.positions import relative_buckets, relative_position_bias
from beats_jax.weights.families import beats
from beats_jax.weights.torch_file import read_torch_file

# Measured 3e-6; the fixtures' own bound for a float32 port is 2e-5.
FEATURES = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(scope="module", params=["tiny_plain", "tiny_deepnorm", "tiny_finetuned"])
def case(request, golden_files):
    file = read_torch_file(golden_files / f"{request.param}.pt")
    golden = dict(np.load(golden_files / f"{request.param}.npz"))
    golden["fbank_normalised"] = jnp.asarray(golden["fbank_normalised"])
    config, params = beats.from_torch(file["model"], file["cfg"])
    params = jax.tree.map(jnp.asarray, params)
    encode = jax.jit(lambda fbank, mask: BEATs(config).apply({"params": params}, fbank, mask, layers=True))
    return config, params, golden, encode


def test_every_stage_without_a_mask(case):
    config, params, golden, encode = case
    out = encode(golden["fbank_normalised"], None)
    tokens = BEATs(config).apply({"params": params}, golden["fbank_normalised"], method=BEATs.embed_patches)
    expected = golden["nomask_patch_embedding"].reshape(2, 32, 64).transpose(0, 2, 1)
    np.testing.assert_allclose(tokens, expected, **FEATURES)
    np.testing.assert_allclose(out.layers[0], golden["nomask_encoder_layer_norm"], **FEATURES)
    for i in range(2):
        np.testing.assert_allclose(out.layers[i + 1], golden[f"nomask_layer{i}_out_TBC"].transpose(1, 0, 2), **FEATURES)
    np.testing.assert_allclose(out.features, out.layers[-1], rtol=0, atol=0)
    assert bool(out.token_mask.all())
    check_output(golden, "nomask", out)


def test_every_stage_with_the_published_mask(case):
    _, _, golden, encode = case
    padding = reference_token_mask(jnp.asarray(golden["padding_mask_samples"]), 135, 64)
    np.testing.assert_array_equal(padding, golden["mask_patch_padding_mask"])
    frames = reduce_padding_mask(jnp.asarray(golden["padding_mask_samples"]), 135)
    np.testing.assert_array_equal(frames, golden["fbank_padding_mask"])
    out = encode(golden["fbank_normalised"], ~padding)
    np.testing.assert_allclose(out.layers[0], golden["mask_encoder_layer_norm"], **FEATURES)
    for i in range(2):
        np.testing.assert_allclose(out.layers[i + 1], golden[f"mask_layer{i}_out_TBC"].transpose(1, 0, 2), **FEATURES)
    check_output(golden, "mask", out)


def test_a_mask_of_all_real_tokens_is_no_mask(case):
    _, _, golden, encode = case
    out = encode(golden["fbank_normalised"], jnp.ones((2, 64), bool))
    check_output(golden, "allfalse", out)


def check_output(golden, tag, out):
    expected = golden[f"{tag}_output"]
    if expected.ndim == 2:
        np.testing.assert_allclose(jax.nn.sigmoid(out.logits), expected, rtol=0, atol=1e-6)
    else:
        np.testing.assert_allclose(out.features, expected, **FEATURES)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(320, 800), (320, 1280), (32, 24), (32, 128)])
def test_buckets_are_exact(golden_files, num_buckets, max_distance):
    golden = np.load(golden_files / "rel_pos_buckets.npz")
    distances = golden["relative_position_key_minus_query"]
    np.testing.assert_array_equal(
        relative_buckets(distances, num_buckets, max_distance), golden[f"nb{num_buckets}_md{max_distance}"]
    )


def test_bias_table(case):
    config, params, golden, _ = case
    table = jnp.asarray(params["encoder"]["relative_attention_bias"]["embedding"])
    np.testing.assert_array_equal(relative_position_bias(table, 64, config.max_distance), golden["pos_bias_HTT"])
