"""The key map against the published manifest and the golden checkpoints."""

import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from beats_jax.errors import UserError
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.families import beats
from beats_jax.weights.torch_file import read_torch_file


def test_manifest_of_the_base_model_maps_completely(golden_files):
    manifest = json.loads((golden_files / "base_state_dict_manifest.json").read_text())
    keys = {key: tuple(shape) for key, shape in manifest["keys"].items()}
    config = beats.config_from_cfg(manifest["cfg"], {})
    shapes = param_shapes(config)
    table = beats.key_table(config)
    assert {key: rule.to_torch(np.broadcast_to(np.float32(0), shapes[path])).shape for key, (path, rule) in table.items()} == keys
    assert {path for path, _ in table.values()} == set(shapes)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 90_311_792 == manifest["n_params_unique"]


@pytest.mark.parametrize("name", ["tiny_plain", "tiny_deepnorm", "tiny_finetuned"])
def test_export_is_the_inverse_of_import(golden_files, name):
    file = read_torch_file(golden_files / f"{name}.pt")
    config, params = beats.from_torch(file["model"], file["cfg"])
    back = beats.to_torch(params, config)
    assert set(back) == set(file["model"])
    for key, value in back.items():
        np.testing.assert_array_equal(value, file["model"][key])
    again, _ = beats.from_torch(back, beats.to_cfg(config))
    assert again == config


@pytest.fixture
def tiny(golden_files):
    return read_torch_file(golden_files / "tiny_deepnorm.pt")


def test_large_values_are_values(tiny):
    """Their squares overflow float32, they do not."""
    state = {**tiny["model"], "layer_norm.bias": np.full_like(tiny["model"]["layer_norm.bias"], -3e38)}
    assert float(beats.from_torch(state, tiny["cfg"])[1]["layer_norm"]["bias"][0]) == np.float32(-3e38)


def test_parametrized_weight_norm_and_openbeats_extras_are_accepted(tiny):
    state = dict(tiny["model"])
    expected = beats.from_torch(state, tiny["cfg"])[1]
    state["encoder.pos_conv.0.parametrizations.weight.original0"] = state.pop("encoder.pos_conv.0.weight_g")
    state["encoder.pos_conv.0.parametrizations.weight.original1"] = state.pop("encoder.pos_conv.0.weight_v")
    state["raw2fbank_pad.weight"] = np.ones((1, 1, 400), np.float32)
    state["patch_embedding_pad.weight"] = np.ones((1, 1, 16, 16), np.float32)
    flat, expected = flatten_dict(beats.from_torch(state, tiny["cfg"])[1], sep="/"), flatten_dict(expected, sep="/")
    assert set(flat) == set(expected)
    for path, ours in flat.items():
        np.testing.assert_array_equal(ours, expected[path])


def test_every_misfit_is_named_in_one_line(tiny):
    state = dict(tiny["model"])
    del state["layer_norm.bias"]
    state["surprise"] = np.zeros(3, np.float32)
    state["encoder.layers.1.fc2.weight"] = np.zeros((3, 3), np.float32)
    state["encoder.layers.0.fc1.bias"] = np.zeros(128, np.int64)
    table = "encoder.layers.1.self_attn.relative_attention_bias.weight"
    state[table] = state[table] + 1
    with pytest.raises(UserError) as error:
        beats.from_torch(state, tiny["cfg"])
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "missing layer_norm.bias", "unknown surprise", "encoder.layers.1.fc2.weight has shape [3, 3], not [64, 128]",
        "encoder.layers.0.fc1.bias is int64", f"{table} differs",
    ):  # fmt: skip
        assert part in message


def test_missing_settings_take_the_published_class_defaults(tiny):
    config = beats.config_from_cfg({"encoder_layers": 2, "my_note": "x", "quant_n": 5}, tiny["model"])
    assert (config.deep_norm, config.relative_position_embedding, config.gru_rel_pos) == (False, False, False)
    assert (config.max_distance, config.dropout, config.predictor_class, config.input_patch_size) == (1280, 0.1, 0, 16)
    assert beats.config_from_cfg({"finetuned_model": True}, tiny["model"]).predictor_class == 527
