"""The verb convert: there and back, and what it refuses."""

import json
import os
import shutil
from dataclasses import replace

import jax
import numpy as np
from safetensors.numpy import load_file

import beats_jax
from beats_jax.convert import main
from beats_jax.weights.bundle import save_bundle
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.torch_file import read_torch_file


def said(capsys):
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_official_to_ours_and_back_is_the_same_in_every_byte(golden_files, tmp_path, capsys):
    original = golden_files / "tiny_finetuned.pt"
    assert main([str(original), str(tmp_path / "ours.safetensors")]) == 0
    assert "94,767" in said(capsys)[0]
    assert main([str(tmp_path / "ours.safetensors"), str(tmp_path / "back.pt")]) == 0
    assert main([str(tmp_path / "back.pt"), str(tmp_path / "keys" / "x.safetensors"), "--published-keys"]) == 2
    assert "does not exist" in said(capsys)[1]
    (tmp_path / "keys").mkdir()
    assert main([str(tmp_path / "back.pt"), str(tmp_path / "keys" / "x.safetensors"), "--published-keys"]) == 0
    assert main([str(tmp_path / "keys" / "x.safetensors"), str(tmp_path / "again.pt")]) == 0
    expected, found = read_torch_file(original), read_torch_file(tmp_path / "back.pt")
    published = load_file(tmp_path / "keys" / "x.safetensors")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "back.pt").read_bytes()
    assert found["label_dict"] == expected["label_dict"]
    assert found["cfg"] == {name: expected["cfg"][name] for name in found["cfg"]}
    assert set(found["model"]) == set(expected["model"]) == set(published)
    for key, tensor in expected["model"].items():
        assert found["model"][key].tobytes() == tensor.tobytes() == published[key].tobytes()
    waveforms = 0.1 * np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
    models = (beats_jax.load(original), beats_jax.load(tmp_path / "again.pt"))
    np.testing.assert_array_equal(models[1].predict(waveforms), models[0].predict(waveforms))


def test_a_model_of_one_label_a_clip_keeps_its_rule(golden_files, tmp_path):
    """The published forward ends in sigmoids; a model trained here with softmax comes back with it."""
    bundle = replace(read_checkpoint(golden_files / "tiny_finetuned.pt"), multi_label=False)
    save_bundle(tmp_path / "ours", bundle)
    assert main([str(tmp_path / "ours"), str(tmp_path / "theirs.pt")]) == 0
    assert main([str(tmp_path / "theirs.pt"), str(tmp_path / "x.safetensors"), "--published-keys"]) == 0
    waveforms = 0.1 * np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
    expected = beats_jax.load(tmp_path / "ours").predict(waveforms)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-6)
    for file in ("theirs.pt", "x.safetensors"):
        found = beats_jax.load(tmp_path / file)
        assert "not used" not in found.source
        np.testing.assert_array_equal(found.predict(waveforms), expected)


def test_list_and_inspect(golden_files, capsys):
    assert main(["--list"]) == 0
    assert "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2" in said(capsys)[0]
    with jax.transfer_guard("disallow_explicit"):  # nothing may reach a device, not even a random key
        assert main(["--inspect", str(golden_files / "tiny_deepnorm.pt")]) == 0
    out = said(capsys)[0]
    assert "encoder_layers 2" in out
    assert "povey" in out


def test_mistakes_are_one_line_status_2_and_leave_nothing(golden_files, tmp_path, capsys, monkeypatch):
    tiny = golden_files / "tiny_deepnorm.pt"
    data = tiny.read_bytes()
    (tmp_path / "torn.pt").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "login.pt").write_text("<!DOCTYPE html><html>sign in</html>")
    (tmp_path / "login.safetensors").write_text("<!DOCTYPE html><html>sign in</html>")
    shutil.copy(tiny, tmp_path / "good.pt")
    (tmp_path / "taken").write_text("")
    assert main([str(tiny), str(tmp_path / "model")]) == 0
    facts = json.loads((tmp_path / "model/model.json").read_text())
    facts["model"]["encoder_layers"] = 3
    shutil.copytree(tmp_path / "model", tmp_path / "deeper")
    (tmp_path / "deeper/model.json").write_text(json.dumps(facts))
    capsys.readouterr()
    before = sorted(os.listdir(tmp_path))
    cases = {
        ("torn.pt", "out.pt"): "truncated or damaged",
        ("empty.pt", "out.pt"): "empty",
        ("login.pt", "out.pt"): "HTML",
        ("login.safetensors", "out.pt"): "truncated or damaged",
        ("nothing.pt", "out.pt"): "is not there",
        ("deeper", "out.pt"): "missing encoder/layers_2",
        ("good.pt", "taken"): "exists",
        ("good.pt", "nowhere/out.pt"): "does not exist",
        ("good.pt", "out.pt", "--published-keys"): "is for a .safetensors output",
        ("good.pt", "good.pt", "--force"): "is the input itself",
        ("good.pt",): "give INPUT and OUTPUT",
    }
    monkeypatch.chdir(tmp_path)
    for arguments, part in cases.items():
        assert main(arguments) == 2, arguments
        error = said(capsys)[1]
        assert part in error, (arguments, error)
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == before
