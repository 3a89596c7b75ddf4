"""Loading and using models: golden outputs from waveforms, padding rules, pooling, messages."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import beats_jax
from beats_jax.config import AudioConfig, BEATsConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families.beats_files import front_end
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.torch_file import read_torch_file

TINY = BEATsConfig(
    embed_dim=24, encoder_layers=1, encoder_embed_dim=32, encoder_ffn_embed_dim=48, encoder_attention_heads=2,
    conv_pos=16, conv_pos_groups=2, num_buckets=32, max_distance=24, predictor_class=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """Random weights large enough for padding to show in the output."""
    draw = np.random.default_rng(1)
    params = unflatten_dict(
        {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(TINY).items()}, sep="/"
    )
    return Model(Bundle(params, TINY, AudioConfig(), ("a", "b", "c"), False, "test"))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(0, 0.1, (3, 12_000)).astype(np.float32)


@pytest.fixture(scope="module")
def golden(golden_files):
    return {
        name: (beats_jax.load(golden_files / f"{name}.pt"), np.load(golden_files / f"{name}.npz"))
        for name in ("tiny_plain", "tiny_finetuned")
    }


def test_parameters_go_to_the_device_that_the_caller_chose():
    """They are moved by threads, which know nothing of the caller's context of their own accord."""
    params = unflatten_dict({path: np.ones(shape, np.float32) for path, shape in param_shapes(TINY).items()}, sep="/")
    with jax.default_device(jax.devices()[3]):
        model = Model(Bundle(params, TINY, AudioConfig(), ("a", "b", "c"), False, "test"))
    assert {leaf.device for leaf in jax.tree.leaves(model.params)} == {jax.devices()[3]}
    assert all(
        np.array_equal(leaf, flatten_dict(params, sep="/")[path]) for path, leaf in flatten_dict(model.params, sep="/").items()
    )


@pytest.mark.parametrize("tag", ["nomask", "mask"])
def test_features_and_probabilities_from_waveforms_follow_the_published_code(golden, tag):
    """Bounds: the filterbanks differ by up to 5e-4 (float32 FFT noise), see the fixtures' README."""
    model, file = golden["tiny_plain"]
    mask = file["padding_mask_samples"] if tag == "mask" else None
    out = model.encode(file["waveform"], padding_mask=mask, layers=True)
    np.testing.assert_allclose(out.features, file[f"{tag}_output"], rtol=0, atol=1e-3)
    assert out.num_special == 0
    assert out.layers.shape == (3, 2, 64, 64)
    if tag == "mask":
        np.testing.assert_array_equal(out.token_mask, ~file["mask_patch_padding_mask"])
    model, file = golden["tiny_finetuned"]
    np.testing.assert_allclose(model.predict(file["waveform"], padding_mask=mask), file[f"{tag}_output"], rtol=0, atol=2e-4)


def test_fbank_door_matches_to_rounding(golden):
    model, file = golden["tiny_plain"]
    out = model.encode_fbank(file["fbank_normalised"], padding_mask=file["fbank_padding_mask"])
    np.testing.assert_array_equal(out.token_mask, ~file["mask_patch_padding_mask"])
    np.testing.assert_allclose(out.features, file["mask_output"], rtol=0, atol=2e-5)
    assert out.logits is None
    model, file = golden["tiny_finetuned"]
    logits = model.encode_fbank(file["fbank_normalised"], padding_mask=file["fbank_padding_mask"]).logits
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(logits))), file["mask_output"], rtol=0, atol=1e-6)


def test_labels_come_in_class_order(golden, golden_files):
    model, _ = golden["tiny_finetuned"]
    label_dict = read_torch_file(golden_files / "tiny_finetuned.pt")["label_dict"]
    assert model.labels == tuple(label_dict[i] for i in range(7))
    assert model.multi_label
    assert model.source.startswith("tiny_finetuned.pt")
    assert (model.sample_rate, model.num_features, golden["tiny_plain"][0].labels) == (16_000, 64, ())
    with pytest.raises(UserError, match="no classification head"):
        golden["tiny_plain"][0].logits(np.zeros((1, 16_000), np.float32))


@pytest.mark.slow
def test_a_clip_in_a_batch_gives_what_it_gives_alone(model, noise):
    lengths = np.array([12_000, 7_000, 2_900])
    batch = np.where(np.arange(12_000)[None, :] < lengths[:, None], noise, 9.0).astype(np.float32)  # loud garbage as padding
    alone = [noise[i : i + 1, :length] for i, length in enumerate(lengths)]
    for pooling in ("mean", "max", "first", "last"):
        separately = np.concatenate([model.embed(clip, pooling=pooling) for clip in alone])
        np.testing.assert_allclose(model.embed(batch, lengths=lengths, pooling=pooling), separately, rtol=0, atol=1e-5)
    separately = np.concatenate([model.logits(clip) for clip in alone])
    np.testing.assert_allclose(model.logits(batch, lengths=lengths), separately, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.predict(batch, lengths=lengths).sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("samples", [1, 399, 400, 2_799])
def test_short_clips_count_as_one_time_patch(model, noise, samples):
    out = model.encode(noise[:1, :samples])
    assert out.token_mask.shape == (1, 8)
    assert bool(out.token_mask.all())
    padded = model.embed(noise, lengths=np.array([samples, 12_000, 0]))
    np.testing.assert_allclose(model.embed(noise[:1, :samples])[0], padded[0], rtol=0, atol=1e-5)
    assert bool(padded[1].any())
    assert not padded[2].any()
    masked = model.encode(noise[:1, :samples], padding_mask=np.zeros((1, samples), bool))
    assert bool(jnp.isfinite(masked.features).all())


@pytest.mark.slow
def test_all_layers_in_one_pass_are_each_layer_alone(model, noise):
    lengths = np.array([12_000, 9_000, 5_000], np.int32)
    layers = tuple(range(model.num_layers + 1))
    batch = {"waveforms": jnp.asarray(noise), "lengths": jnp.asarray(lengths)}
    both = model.program(Outputs(("max", "std"), layers))(model.params, batch)
    for layer in layers:
        np.testing.assert_allclose(both["max"][:, layer], model.embed(noise, lengths, "max", layer), atol=1e-5)
        deviation = np.sqrt(np.asarray(both["m2"])[:, layer] / np.asarray(both["count"])[:, None])
        np.testing.assert_allclose(deviation, model.embed(noise, lengths, "std", layer), atol=1e-5)
        tokens = model.program(Outputs(layers=(layer,), tokens=True))(model.params, batch)
        for row, real, largest in zip(tokens["tokens"], tokens["token_mask"], both["max"][:, layer], strict=True):
            np.testing.assert_allclose(row[real].max(axis=0), largest, atol=1e-5)


def test_embeddings_pool_the_chosen_layer(model, noise):
    out = model.encode(noise, layers=True)
    np.testing.assert_allclose(model.embed(noise), np.mean(out.features, axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.embed(noise, layer=-2), np.mean(out.layers[0], axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.embed(noise, pooling="max", layer=1), np.max(out.layers[1], axis=1), rtol=0, atol=1e-5)
    assert np.abs(out.layers[0] - out.layers[1]).max() > 0.1


def test_wrong_use_is_told(model, noise):
    lengths, mask = np.full(3, 10), np.zeros((3, 12_000), bool)
    cases = {
        "waveforms have shape": lambda: model.embed(noise[0]),
        "and type int": lambda: model.encode((noise * 100).astype(np.int16)),
        "give one of them": lambda: model.logits(noise, padding_mask=mask, lengths=lengths),
        "lengths have shape": lambda: model.embed(noise, lengths=lengths[:2]),
        "lengths run from -1": lambda: model.embed(noise, lengths=-np.ones(3, int)),
        "12000 samples given": lambda: model.embed(noise, lengths=lengths + 12_000),
        "padding_mask has": lambda: model.encode(noise, padding_mask=mask[:, :9]),
        "pooling is 'sum'": lambda: model.embed(noise, pooling="sum"),
        "layers 0 to 1": lambda: model.embed(noise, layer=2),
        "at least 16 frames": lambda: model.encode_fbank(np.zeros((1, 15, 128), np.float32)),
    }
    for part, call in cases.items():
        with pytest.raises(UserError, match=part):
            call()


def test_folder_file_and_run_load_alike(model, noise, tmp_path):
    run = tmp_path / "run"
    model.save(run / "model")
    for source in (run, run / "model", run / "model/model.safetensors", run / "model/model.json", str(run)):
        again = read_checkpoint(source)
        assert (again.labels, again.model, again.audio) == (model.labels, model.config, model.audio)
        flat, expected = flatten_dict(again.params, sep="/"), flatten_dict(model.params, sep="/")
        assert set(flat) == set(expected)
        for path, leaf in flat.items():
            np.testing.assert_array_equal(leaf, expected[path])
    np.testing.assert_array_equal(beats_jax.load(run).predict(noise), model.predict(noise))


def test_what_is_not_a_model_is_told(tmp_path):
    (tmp_path / "note.json").write_text(json.dumps({"a": 1}))
    cases = {
        "BEATs_iter3_plus_AS2M.pt": "did you mean 'BEATs_iter3_plus_AS2M'\\?.*give the path of a published file",
        tmp_path: "holds no model",
        tmp_path / "note.json": "JSON text",
    }
    for source, part in cases.items():
        with pytest.raises(UserError, match=part) as error:
            beats_jax.load(source)
        assert "\n" not in str(error.value)


def test_statistics_in_the_cfg_reach_the_front_end():
    assert front_end({"fbank_mean": 15.29130, "fbank_std": 5.90532}) == FilterbankConfig(mean=15.29130, std=5.90532)


def test_bfloat16_is_close_to_float32(model, noise):
    low = Model(Bundle(model.params, TINY, AudioConfig(), model.labels, False, ""), dtype="bfloat16")
    full, rounded = model.embed(noise), low.embed(noise)
    assert rounded.dtype == jnp.float32
    difference = float(jnp.abs(full - rounded).max())
    assert 1e-5 < difference < 0.05  # measured 0.01; LayerNorm keeps the features near 1
