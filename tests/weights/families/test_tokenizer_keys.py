"""The tokenizer's key map against the published manifest, its golden file and its own inverse."""

import json

import numpy as np
import pytest

import beats_jax
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.models.pretraining.quantizer import Codebook
from beats_jax.weights import formats
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.families import tokenizer
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file


@pytest.fixture
def tiny(golden_files):
    return read_torch_file(golden_files / "tiny_tokenizer.pt")


def test_manifest_of_the_base_tokenizer_maps_completely(golden_files):
    manifest = json.loads((golden_files / "base_tokenizer_manifest.json").read_text())
    base = json.loads((golden_files / "base_state_dict_manifest.json").read_text())
    config = tokenizer.config_from_cfg(base["cfg"], {})
    assert (config.quant_n, config.quant_dim) == (1024, 256)
    shapes, table = param_shapes(config), tokenizer.key_table(config)
    published = {key: tuple(shape) for key, shape in manifest["keys"].items()}
    assert len(published) == 259
    assert {
        key: rule.to_torch(np.broadcast_to(np.float32(0), shapes[path])).shape for key, (path, rule) in table.items()
    } == published
    assert {path for path, _ in table.values()} == set(shapes)
    buffers = ("quantizer/usage", "quantizer/initted")  # which torch does not count as parameters
    count = sum(int(np.prod(shape)) for path, shape in shapes.items() if path not in buffers)
    assert count == 91_624_560 == manifest["n_params_unique"]


def test_every_tensor_comes_back_in_the_same_bytes_dead_state_too(golden_files, tiny, tmp_path):
    bundle = formats.read(read_raw(golden_files / "tiny_tokenizer.pt"))
    upstream = formats.WRITERS["beats_tokenizer"](bundle)
    written = write_torch_file(tmp_path / "again.pt", upstream.content)
    found = read_torch_file(written)
    assert set(found["model"]) == set(tiny["model"])
    for key, tensor in tiny["model"].items():
        assert found["model"][key].tobytes() == tensor.tobytes(), key
        assert found["model"][key].shape == tensor.shape
    assert found["cfg"] == {name: tiny["cfg"][name] for name in found["cfg"]}
    again = formats.read(read_raw(written))
    assert (again.model, again.audio, again.labels) == (bundle.model, AudioConfig(), ())


def test_the_bundle_keeps_the_codebook_and_the_codes(golden_files, tmp_path):
    golden = np.load(golden_files / "tiny_tokenizer.npz")
    model = beats_jax.load(golden_files / "tiny_tokenizer.pt")
    again = beats_jax.load(model.save(tmp_path / "model"))
    assert again.config.family == "beats_tokenizer"
    assert set(again.params["quantizer"]) == set(Codebook._fields)
    found = again.encode_fbank(golden["fbank_normalised"])
    np.testing.assert_array_equal(np.ravel(found.codes), golden["nomask_labels_flat"])
    with pytest.raises(UserError, match="no classification head"):
        again.logits(golden["waveform"])


def test_misfits_are_named(tiny):
    state = dict(tiny["model"])
    del state["quantize.embedding.embed_avg"]
    state["quantize.embedding.initted"] = np.zeros((), np.float32)
    state["quantize_layer.3.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(UserError) as error:
        tokenizer.from_torch(state, tiny["cfg"])
    for part in (
        "missing quantize.embedding.embed_avg", "quantize.embedding.initted has shape [], not [1]",
        "unknown quantize_layer.3.weight",
    ):  # fmt: skip
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="quant_n is 0"):
        tokenizer.from_torch(tiny["model"], {**tiny["cfg"], "quant_n": 0})
