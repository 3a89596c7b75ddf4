"""Names that training code puts around a model's keys, and file names that contradict the content: the same model in each."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from beats_jax.errors import UserError
from beats_jax.pipelines.checkpoints.parity import BUILT_IN
from beats_jax.weights.bundle import load_bundle, save_bundle
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_writer import write_torch_file

FAMILIES = {
    "beats": "beats_fine_tuned.pt", "tokenizer": "beats_tokenizer.pt", "eat": "eat_pretraining.pt",
    "eat fine-tuned": "eat_fine_tuned.pt", "ast hugging face": "ast_hugging_face", "ast": "ast_original/model.pt",
}  # fmt: skip
PREFIXES = (
    "module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "model._orig_mod.module.",
    "module._orig_mod.backbone.model.",
)  # fmt: skip


def original(family):
    """The published file of a family, and what the same weights are when they are read from it."""
    place = BUILT_IN / FAMILIES[family]
    return read_raw(place / "model.safetensors" if place.is_dir() else place), read_checkpoint(place)


def same(bundle, expected):
    found, wanted = flatten_dict(bundle.params, sep="/"), flatten_dict(expected.params, sep="/")
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)
    facts = ("model", "audio", "labels", "multi_label")
    assert [getattr(bundle, name) for name in facts] == [getattr(expected, name) for name in facts]


def copied(raw, folder):
    """JSON files beside the tensors go with them."""
    for file in raw.path.parent.glob("*.json"):
        if raw.path.parent != BUILT_IN:
            shutil.copy(file, folder)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_before_every_key(tmp_path, family, prefix):
    raw, expected = original(family)
    copied(raw, tmp_path)
    tensors = {prefix + key: value for key, value in raw.state_dict.items()}
    bundle = read_checkpoint(write_torch_file(tmp_path / "file.pt", {**raw.content, "model": tensors}))
    same(bundle, expected)
    said = f"(keys read without {prefix.replace('_orig_mod.', '')}"
    if prefix == "_orig_mod.":
        said = "(keys read without _orig_mod.)"
    known = (family, prefix) == ("ast", "module.")  # as its publisher writes it
    assert known or bundle.source.startswith("file.pt")
    assert known or said in bundle.source


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_lightning(tmp_path, family):
    raw, expected = original(family)
    copied(raw, tmp_path)
    content = {
        "epoch": 7, "global_step": 1000, "pytorch-lightning_version": "2.5.1", "loops": {"fit_loop": {"state_dict": {}}},
        "state_dict": {f"model._orig_mod.{key}": value for key, value in raw.state_dict.items()},
        "hyper_parameters": {"learning_rate": 1e-4, "model": {"name": "owls"}, **raw.content},
        "optimizer_states": [{"state": {0: {"step": np.float32(3) * np.ones(()), "exp_avg": np.zeros(3, np.float32)}}}],
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": np.ones((), np.float32)}}, "lr_schedulers": [],
    }  # fmt: skip
    bundle = read_checkpoint(write_torch_file(tmp_path / "last.ckpt", content))
    same(bundle, expected)
    assert "keys read without model. and _orig_mod." in bundle.source


@pytest.mark.parametrize("family", FAMILIES)
def test_names_inside_the_keys(tmp_path, family):
    """torch.compile and activation checkpointing wrap parts of a model too."""
    raw, expected = original(family)
    copied(raw, tmp_path)
    tensors = {}
    for key, value in raw.state_dict.items():
        first, dot, rest = key.partition(".")
        inner = "_checkpoint_wrapped_module." if "blocks" in key or "layer" in key else ""
        tensors[f"{first}._orig_mod.{inner}{rest}" if dot and isinstance(value, np.ndarray) else key] = value
    bundle = read_checkpoint(write_torch_file(tmp_path / "file.pt", {**raw.content, "model": tensors}))
    same(bundle, expected)
    assert "keys read without _checkpoint_wrapped_module. and _orig_mod." in bundle.source


def test_tensors_of_something_else_are_never_left_out(tmp_path):
    raw, _ = original("beats")
    tensors = {f"model.{key}": value for key, value in raw.state_dict.items()}
    for others in ({"model.surprise.weight": np.ones(2, np.float32)}, {"criterion.weight": np.ones(2, np.float32)}):
        path = write_torch_file(tmp_path / "file.pt", {**raw.content, "state_dict": {**tensors, **others}})
        with pytest.raises(UserError) as error:
            read_checkpoint(path)
        (name,) = others
        assert name.removeprefix("model.") in str(error.value)
    assert "under 'model.' it looks like BEATs, published layout {cfg, model}, but tensors of something else" in str(error.value)
    missing = {key: value for key, value in tensors.items() if key != "model.layer_norm.bias"}
    with pytest.raises(UserError, match=r"missing layer_norm\.bias"):
        read_checkpoint(write_torch_file(path, {**raw.content, "model": missing}))
    twice = {**tensors, "_orig_mod.model.layer_norm.bias": tensors["model.layer_norm.bias"]}
    with pytest.raises(UserError, match=r"model\.layer_norm\.bias twice, also as _orig_mod\."):
        read_checkpoint(write_torch_file(path, {**raw.content, "model": twice}))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".ckpt", ".pth", ""])
def test_a_torch_file_of_any_name(tmp_path, suffix):
    raw, expected = original("beats")
    path = Path(shutil.copy(raw.path, tmp_path / f"model{suffix}"))
    same(read_checkpoint(path), expected)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ""])
def test_a_safetensors_file_of_any_name(tmp_path, suffix):
    raw, expected = original("ast hugging face")
    copied(raw, tmp_path)
    same(read_checkpoint(shutil.copy(raw.path, tmp_path / f"pytorch_model{suffix}")), expected)
    raw, expected = original("beats")
    (tmp_path / "cfg.json").write_text(json.dumps(raw.content["cfg"]))
    (tmp_path / "label_dict.json").write_text(json.dumps(raw.content["label_dict"]))
    save_file({key: np.ascontiguousarray(value) for key, value in raw.state_dict.items()}, tmp_path / f"beats{suffix}")
    same(read_checkpoint(tmp_path / f"beats{suffix}"), expected)


def test_our_own_file_under_another_name(tmp_path):
    _, expected = original("beats")
    save_bundle(tmp_path / "owls.safetensors", expected)
    (tmp_path / "owls.safetensors").rename(tmp_path / "owls.pt")
    same(read_checkpoint(tmp_path / "owls.pt"), load_bundle(tmp_path / "owls.pt"))
    same(read_checkpoint(tmp_path / "owls.pt"), expected)
