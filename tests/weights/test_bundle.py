"""Model folders: round trip, plain safetensors, and damage."""

import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file

from beats_jax.config import AudioConfig, BEATsConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import FACTS_FILE, Bundle, load_bundle, save_bundle
from beats_jax.weights.pretrained import read_memory
from beats_jax.weights.seen import codes, seen_from_codes

TINY = BEATsConfig(
    embed_dim=8, encoder_layers=11, encoder_embed_dim=8, encoder_ffn_embed_dim=8, encoder_attention_heads=2,
    conv_pos=4, conv_pos_groups=2, num_buckets=8, max_distance=9, predictor_class=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    draw = np.random.default_rng(0)
    return unflatten_dict(
        {path: draw.normal(size=shape).astype(np.float32) for path, shape in param_shapes(TINY).items()}, sep="/"
    )


@pytest.fixture
def folder(params, tmp_path):
    audio = AudioConfig(filterbank=FilterbankConfig(mean=1.5))
    return save_bundle(
        tmp_path / "deep" / "model", Bundle(params, TINY, audio, ("Rana", "Änas"), True, "run x", "ab" * 32, "CC-BY-4.0")
    )


def test_round_trip(params, folder):
    bundle = load_bundle(folder)
    assert (bundle.model, bundle.audio.filterbank.mean, bundle.labels) == (TINY, 1.5, ("Rana", "Änas"))
    assert (bundle.multi_label, bundle.source, bundle.source_sha256, bundle.licence) == (True, "run x", "ab" * 32, "CC-BY-4.0")
    flat, expected, plain = (
        flatten_dict(bundle.params, sep="/"),
        flatten_dict(params, sep="/"),
        load_file(folder / "model.safetensors"),
    )
    assert set(flat) == set(expected) == set(plain)
    for path, leaf in flat.items():
        np.testing.assert_array_equal(leaf, expected[path])
        np.testing.assert_array_equal(leaf, plain[path])
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]  # nothing temporary is left


def test_saving_again_replaces_and_foreign_folders_are_refused(params, folder, tmp_path):
    save_bundle(folder, Bundle(params, TINY, AudioConfig(), ("a", "b"), False, ""))
    assert load_bundle(folder).labels == ("a", "b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("x")
    with pytest.raises(UserError, match="not a model folder"):
        save_bundle(tmp_path / "other", Bundle(params, TINY, AudioConfig(), ("a", "b"), False, ""))
    with pytest.raises(UserError, match="3 labels for a head of 2"):
        save_bundle(tmp_path / "m", Bundle(params, TINY, AudioConfig(), ("a", "b", "c"), False, ""))
    with pytest.raises(UserError, match="missing predictor/bias; missing predictor/kernel"):
        save_bundle(
            tmp_path / "m",
            Bundle({k: v for k, v in params.items() if k != "predictor"}, TINY, AudioConfig(), ("a", "b"), False, ""),
        )
    assert not (tmp_path / "m").exists()


def edit(folder, **changes):
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps({**facts, **changes}))


def test_damage_is_told(folder):
    tensors, facts = folder / "model.safetensors", folder / "model.json"
    data, text = tensors.read_bytes(), facts.read_text(encoding="utf-8")

    def check(part):
        with pytest.raises(UserError, match=part) as error:
            load_bundle(folder)
        assert "\n" not in str(error.value)
        tensors.write_bytes(data)
        facts.write_text(text, encoding="utf-8")

    tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check("sha256")
    tensors.write_bytes(data[:100])
    check("sha256")
    facts.write_text(text[:40])
    check("damaged")
    edit(folder, format=99)
    check("format 99")
    edit(folder, labels=["a"])
    check("1 labels for a head of 2")
    edit(folder, probabilities="tanh")
    check("tanh")
    edit(folder, model={**json.loads(text)["model"], "encoder_layers": 10})
    check(r"unknown encoder/layers_10/fc1/bias; .*unknown encoder/layers_10/self_attn_layer_norm/scale")
    edit(folder, model={**json.loads(text)["model"], "surprise": 1})
    check("surprise")
    facts.unlink()
    check("model.json is missing")


def test_a_model_remembers_its_recordings_and_a_changed_memory_is_refused(tmp_path, params):
    hashes = [*(f"{k:016x}{'ab' * 8}" for k in (7, 3, 7)), ""]
    seen = seen_from_codes(codes(hashes), codes(["f" * 32]))
    assert seen.trained.tolist() == [3, 7]
    assert seen.chosen.tolist() == [2**64 - 1]
    folder = save_bundle(tmp_path / "model", Bundle(params, TINY, AudioConfig(), ("a", "b"), False, "", seen=seen))
    for found in (load_bundle(folder).seen, read_memory(folder), read_memory(folder / FACTS_FILE)):
        assert found is not None
        assert (found.trained.tolist(), found.chosen.tolist()) == ([3, 7], [2**64 - 1])
    both = seen | seen_from_codes(codes([f"{5:016x}" + "00" * 8]), codes([]))
    assert both.trained.tolist() == [3, 5, 7]
    assert (seen | None) is seen
    text = (folder / FACTS_FILE).read_text()
    damaged = text.replace('"chosen": "//', '"chosen": "+/')
    assert damaged != text
    (folder / FACTS_FILE).write_text(damaged)
    with pytest.raises(UserError, match="the sha256 of its list of recordings differs"):
        load_bundle(folder)
    (folder / FACTS_FILE).write_text(text.replace('"chosen": "//', '"chosen": "!/'))
    with pytest.raises(UserError, match="its list of recordings cannot be read"):
        read_memory(folder)


def test_a_model_without_memory_is_described_as_ever(tmp_path, params):
    folder = save_bundle(tmp_path / "model", Bundle(params, TINY, AudioConfig(), ("a", "b"), False, ""))
    assert "recordings" not in json.loads((folder / FACTS_FILE).read_text())
    assert load_bundle(folder).seen is None
    assert read_memory(folder) is None
    assert read_memory("BEATs_iter3") is None
    (tmp_path / "other.pt").touch()
    (tmp_path / "other.json").write_text("not ours")
    assert read_memory(tmp_path / "other.pt") is None


def test_a_million_recordings_stay_small(tmp_path, params):
    many = np.unique(np.random.default_rng(0).integers(1, 2**63, 1_000_000, np.uint64))
    seen = seen_from_codes(many, many[:0])
    folder = save_bundle(tmp_path / "model", Bundle(params, TINY, AudioConfig(), ("a", "b"), False, "", seen=seen))
    assert (folder / FACTS_FILE).stat().st_size < 11 * 2**20
    found = read_memory(folder)
    assert found is not None
    np.testing.assert_array_equal(found.trained, many)
