"""Weights of torchvision's ResNet-18 as an encoder of sound: read, started from, trained, written back."""

from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import beats_jax
from beats_jax.config import AudioConfig, FilterbankConfig, ResNetConfig
from beats_jax.models import registry
from beats_jax.models.convnets import ResNet18
from beats_jax.pipelines.checkpoints.convert import convert
from beats_jax.pipelines.training.starting_point import starting_point
from beats_jax.weights.bundle import Bundle, load_bundle, save_bundle
from beats_jax.weights.families import resnet
from beats_jax.weights.pretrained import read_checkpoint


def test_weights_of_images_start_any_front_end_without_their_head(golden_files, tmp_path):
    file = golden_files / "resnet_tiny.pt"
    convert(str(file), tmp_path / "images")
    audio = AudioConfig(filterbank=FilterbankConfig(sample_rate=2000, num_mel_bins=64, frame_length_ms=80))
    for place in (file, tmp_path / "images"):
        start = starting_point(ResNetConfig(checkpoint=str(place)), audio, ("frog", "owl"))
        assert isinstance(start.model, ResNetConfig)
        assert (start.model.width, start.model.predictor_class, start.model.trained_on) == (8, 2, "sound")
        assert "images" in start.note
        assert "new head" in start.note
    config, variables = resnet.read_resnet(file)
    model = beats_jax.load(file)
    fbank = np.random.default_rng(0).normal(size=(2, 64, 128)).astype(np.float32)
    images = np.repeat(2 * fbank.swapaxes(1, 2)[..., None], 3, axis=3)
    maps = np.asarray(jax.jit(ResNet18(config).apply)(variables, images).stages[-1])
    found = np.asarray(model.encode_fbank(fbank).features)
    np.testing.assert_allclose(found.reshape(2, 2, 4, 64), maps.swapaxes(1, 2), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_trained_model_goes_to_torchvisions_layout_and_back(tmp_path, ending):
    config = ResNetConfig(width=2, predictor_class=2, dropout=0.1)
    audio = AudioConfig(filterbank=FilterbankConfig(num_mel_bins=64))
    fbank = np.zeros((1, 32, 64), np.float32)
    params = jax.jit(registry.build(config).init)(jax.random.key(0), jax.numpy.asarray(fbank))["params"]
    save_bundle(tmp_path / "run", Bundle(jax.device_get(params), config, audio, ("frog", "owl"), False, "test"))
    convert(str(tmp_path / "run"), tmp_path / f"model{ending}", published_keys=ending == ".safetensors")
    again = read_checkpoint(tmp_path / f"model{ending}")
    assert (again.labels, again.audio) == (("frog", "owl"), audio)
    expected = load_bundle(tmp_path / "run")
    assert again.model == expected.model
    found: dict[str, Any] = flatten_dict(again.params, sep="/")
    wanted: dict[str, Any] = flatten_dict(expected.params, sep="/")
    for path, value in wanted.items():
        np.testing.assert_array_equal(found[path], value)
