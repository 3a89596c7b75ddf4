"""A model as one program file: opened without this package by the documented function, equal to the model, refused when torn."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import beats_jax
from beats_jax.convert import main
from beats_jax.files import sha256_of
from beats_jax.inference import export
from beats_jax.pipelines.checkpoints import convert as conversion
from beats_jax.pipelines.checkpoints.parity import BUILT_IN
from beats_jax.weights import exported

ROOT = Path(__file__).parents[2]
SECONDS = 0.5

# Runs the snippet with every package of ours and of what we stand on blocked, but for jax, its own needs and flatbuffers.
ELSEWHERE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"beats_jax", "flax", "optax", "orbax", "grain", "librosa", "safetensors", "ml_collections",
                                      "soundfile", "av", "soxr", "pandas", "matplotlib", "absl"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import jax
jax.config.update("jax_disable_most_optimizations", True)
exec(open(sys.argv[1]).read())
inputs = np.load(sys.argv[3])
facts, run = load_exported(sys.argv[2])
results = {}
for count in (1, 3, 8):
    for name, values in run(inputs["waveforms"][:count], inputs["lengths"][:count]).items():
        results[f"{name}_{count}"] = values
np.savez(sys.argv[4], labels=facts["labels"], **results)
"""


@pytest.fixture(scope="module")
def snippet():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(encoding="utf-8"), re.DOTALL)
    return "".join(blocks)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    place = tmp_path_factory.mktemp("export") / "model.stablehlo"
    assert main([str(BUILT_IN / "beats_fine_tuned.pt"), "--export", str(place), "--seconds", str(SECONDS)]) == 0
    return place


def test_the_documented_function_is_ours_and_short(snippet):
    source = Path(exported.__file__).read_text(encoding="utf-8")
    assert snippet.strip() == source.partition('"""\n')[2].strip()
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_documented_function_alone_gives_the_model_s_results(program, snippet, tmp_path):
    model = beats_jax.load(BUILT_IN / "beats_fine_tuned.pt")
    draw = np.random.default_rng(0)
    waveforms = 0.1 * draw.standard_normal((8, int(SECONDS * 16_000))).astype(np.float32)
    lengths = np.array([8000, 5000, 8000, 3000, 399, 8000, 7999, 0], np.int32)
    np.savez(tmp_path / "inputs.npz", waveforms=waveforms, lengths=lengths)
    (tmp_path / "snippet.py").write_text(snippet)
    places = [tmp_path / "snippet.py", program, tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, places)], check=True)
    found = np.load(tmp_path / "outputs.npz")
    assert tuple(found["labels"]) == model.labels
    expected = {
        "embedding": model.embed(waveforms, lengths=lengths),
        "logits": model.logits(waveforms, lengths=lengths),
        "probabilities": model.predict(waveforms, lengths=lengths),
    }
    for name, values in expected.items():
        for count in (1, 3, 8):
            np.testing.assert_allclose(found[f"{name}_{count}"], values[:count], rtol=0, atol=1e-5)


def test_the_facts_say_what_the_program_is(program):
    facts, _ = exported.load_exported(program)
    assert (facts["samples"], facts["sample_rate"], facts["seconds"], facts["probabilities"]) == (8000, 16_000, 0.5, "sigmoid")
    assert facts["platforms"] == ["cpu", "cuda", "tpu"]
    assert facts["source"].startswith("beats_fine_tuned.pt")
    assert facts["source_sha256"] == sha256_of(BUILT_IN / "beats_fine_tuned.pt")


def test_what_is_damaged_or_foreign_is_refused(program, tmp_path):
    data = program.read_bytes()
    altered = bytearray(data)
    altered[60] ^= 1  # within the facts
    cases = {
        "truncated": (data[:-1], "truncated or altered"),
        "altered": (bytes(altered), "truncated or altered"),
        "head": (data[:20], "truncated or altered"),
        "foreign": ((BUILT_IN / "beats_fine_tuned.pt").read_bytes(), "not a model exported by beats_jax"),
        "empty": (b"", "not a model exported by beats_jax"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            exported.load_exported(tmp_path / name)


def test_mistakes_have_status_2_and_leave_nothing(program, tmp_path, capsys, monkeypatch):
    model, out = str(BUILT_IN / "beats_fine_tuned.pt"), str(tmp_path / "out.stablehlo")
    cases = {
        (model, "--export", out, "--seconds", "0.1"): "too short or too long; from 0.175 to 600 s",
        (model, "--export", out, "--seconds", "nan"): "too short or too long",
        (model, "--export", str(program)): "exists",
        (model, "--export", str(tmp_path), "--force"): "is a folder",
        (model, "other.pt", "--export", out): "goes with INPUT alone",
        ("--export", out): "goes with INPUT alone",
        (model, out, "--seconds", "3"): "give INPUT and OUTPUT",
        ("nowhere.pt", "--export", out): "is not there",
    }
    capsys.readouterr()
    for arguments, part in cases.items():
        assert main(arguments) == 2
        assert part in capsys.readouterr().err
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert main([model, "--export", out]) == 2
    assert "beats-jax[export]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_program_that_is_not_the_model_is_not_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(conversion, "export_model", lambda path, *rest: path.write_bytes(b"x"))
    monkeypatch.setattr(conversion, "_difference_from_model", lambda path, bundle: float("nan"))
    assert main([str(BUILT_IN / "beats_fine_tuned.pt"), "--export", str(tmp_path / "x.stablehlo")]) == 1
    assert "was not kept" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_clips_are_as_long_as_the_model_s_spectrogram():
    eat = beats_jax.load(BUILT_IN / "eat_fine_tuned.pt")
    assert eat.audio.filterbank.target_frames == 256
    assert export.default_seconds(eat.audio) == 2.56
    assert export.default_seconds(beats_jax.load(BUILT_IN / "beats_fine_tuned.pt").audio) == 10
