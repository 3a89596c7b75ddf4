"""The verb doctor: golden files as they are made, a weight that was altered, models that are not sound, exit statuses."""

import filecmp
import shutil

import jax
import make_golden
import numpy as np
import pytest

from beats_jax.config import AudioConfig, BEATsConfig
from beats_jax.doctor import main
from beats_jax.models.cpu import Form
from beats_jax.pipelines import environment
from beats_jax.pipelines.checkpoints import doctor, parity
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file


def test_the_files_of_the_package_are_what_the_script_makes(golden_files, tmp_path):
    make_golden.make(golden_files, tmp_path)
    found, made = make_golden.hashes(parity.BUILT_IN), make_golden.hashes(tmp_path)
    assert set(found) == set(made)
    for name in made:
        if name.endswith(".npz"):  # their bytes depend on the version of zlib
            ours, expected = np.load(parity.BUILT_IN / name), np.load(tmp_path / name)
            assert list(ours) == list(expected)
            for key in expected:
                np.testing.assert_array_equal(ours[key], expected[key])
        else:
            assert filecmp.cmp(parity.BUILT_IN / name, tmp_path / name, shallow=False)


def test_the_manifest_knows_every_file_and_all_are_small():
    assert parity._manifest(parity.BUILT_IN) == make_golden.hashes(parity.BUILT_IN)
    assert sum(file.stat().st_size for file in parity.BUILT_IN.rglob("*") if file.is_file()) < 5e6


@pytest.fixture
def only(monkeypatch):
    """Leaves one case, in float32, so that a run takes a second."""

    def leave(name):
        monkeypatch.setattr(parity, "CASES", tuple(case for case in parity.CASES if case.name == name))
        monkeypatch.setattr(parity, "FRONT_ENDS", {})
        monkeypatch.setattr(parity, "precisions", lambda device: (parity.FLOAT32,))

    return leave


def altered_copy(tmp_path, name, key, index):
    """The golden files with one weight moved by 1e-3."""
    folder = shutil.copytree(parity.BUILT_IN, tmp_path / "golden")
    content = read_torch_file(folder / f"{name}.pt")
    content["model"] = {k: np.array(v) for k, v in content["model"].items()}
    content["model"][key][index] += 1e-3
    write_torch_file(folder / f"{name}.pt", content)
    return folder


@pytest.mark.parametrize(
    ("name", "key", "index", "said"),
    [
        ("beats_fine_tuned", "encoder.layers.1.fc1.weight", (5, 7), "FAIL BEATs on cpu in float32: departs first at layer 2"),
        ("beats_fine_tuned", "predictor.weight", (3, 9), "departs first at the probabilities"),
        ("eat_pretraining", "blocks.0.attn.proj.weight", (1, 2), "FAIL EAT on cpu in float32: departs first at layer 1"),
    ],
)
def test_one_altered_weight_is_found_and_its_layer_named(only, tmp_path, capsys, name, key, index, said):
    only(name)
    assert main(["--data", str(altered_copy(tmp_path, name, key, index))]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert "1 of 1 checks failed" in out


def test_an_altered_weight_that_no_number_shows_is_found_by_its_hash(only, tmp_path, capsys):
    only("beats_fine_tuned")
    folder = altered_copy(tmp_path, "beats_fine_tuned", "encoder.layers.0.self_attn.k_proj.bias", 3)
    assert main(["--data", str(folder)]) == 1
    assert "beats_fine_tuned.pt: not the file of the manifest (sha256), though no number" in capsys.readouterr().out


def test_a_file_that_the_manifest_does_not_know_counts_as_altered(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a")
    known = make_golden.hashes(tmp_path)
    assert parity._find_altered(tmp_path, known, ("a.pt",)) == ()
    assert parity._find_altered(tmp_path, known, ("a.pt", "b.npz")) == ("b.npz",)
    (tmp_path / "a.pt").unlink()
    assert parity._find_altered(tmp_path, known, ("a.pt",)) == ("a.pt",)


def test_what_the_report_holds(monkeypatch, capsys):
    monkeypatch.setattr(parity, "CASES", parity.CASES[:1])
    assert main([]) == 0
    out = capsys.readouterr().out
    for part in ("jaxlib", "cpu:0", "soundfile", "filterbank of EAT", "float32", "bfloat16", "all 5 checks passed"):
        assert part in out
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert {version for _, version, _ in environment.parts()} == {"absent"}


def test_accelerators_are_also_shown_with_rounded_products():
    class Gpu:
        platform = "gpu"

    names = [precision.name for precision in parity.precisions(Gpu())]
    assert names == ["float32", "float32, rounded products", "bfloat16"]


@pytest.mark.slow
def test_a_model_is_checked(only, monkeypatch, capsys):
    only("")
    monkeypatch.setattr(doctor, "SECONDS", 0.6)
    monkeypatch.setattr(doctor, "SHORT_SECONDS", 0.4)
    assert main([str(parity.BUILT_IN / "beats_fine_tuned.pt")]) == 0
    out = capsys.readouterr().out
    for part in ("94,767", "povey window", "a padded clip = without padding", "time of a clip of 10 s, bfloat16", "all 4 checks"):
        assert part in out


@pytest.mark.parametrize(
    ("embed", "failing"),
    [
        (lambda waveforms, lengths, dtype: waveforms.mean(1, keepdims=True), ["a padded clip = without padding"]),
        (lambda waveforms, lengths, dtype: waveforms[:, :1] / (len(waveforms) - 1), ["all values are finite"]),
        (lambda waveforms, lengths, dtype: waveforms[:, :1] + (dtype == "bfloat16"), ["bfloat16 - float32"]),
        (lambda waveforms, lengths, dtype: waveforms[:, :1] + len(waveforms), ["a clip in a batch = alone", "a padded clip"]),
    ],
)
def test_what_is_wrong_with_a_model_is_seen(monkeypatch, embed, failing):
    class Model:
        def __init__(self, bundle, dtype="float32"):
            self.dtype = dtype

        def embed(self, waveforms, lengths=None):
            with np.errstate(divide="ignore", invalid="ignore"):
                return embed(waveforms, lengths, self.dtype)

    monkeypatch.setattr(doctor, "Model", Model)
    bundle = Bundle({}, BEATsConfig(), AudioConfig(), (), False, "")
    failed = [check.name for check in doctor.check_model(bundle)[0] if not check.ok]
    for part in failing:
        assert any(name.startswith(part) for name in failed)
    assert len(failed) == len(failing) or failing == ["all values are finite"]


def test_mistakes_have_status_2_and_one_line(only, tmp_path, capsys):
    only("beats_fine_tuned")
    shutil.copy(parity.BUILT_IN / parity.MANIFEST, tmp_path)
    torn = shutil.copytree(parity.BUILT_IN, tmp_path / "torn")
    (torn / "beats_fine_tuned.npz").write_bytes((torn / "beats_fine_tuned.npz").read_bytes()[:5000])
    cases = {
        ("--data", str(torn)): "beats_fine_tuned.npz: golden numbers are missing or damaged",
        ("--data", "nowhere"): "nowhere/manifest.json is missing",
        ("--data", str(tmp_path)): "beats_fine_tuned.npz: golden numbers are missing",
        ("no_such_model",): "is not there",
        ("one", "two"): "unrecognized arguments",
    }
    for arguments, part in cases.items():
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert part in error
        assert error.count("\n") == 1


def test_each_device_is_proved_in_the_forms_that_it_runs(monkeypatch):
    """On a host whose default backend is a GPU, faked: the rows of the CPU must trace the CPU's programs, in the loops too."""
    from beats_jax.models import cpu, positions

    kept = tuple(case for case in parity.CASES if case.name in ("beats_fine_tuned", "ast_hugging_face"))
    for case in kept:
        read_checkpoint(parity.BUILT_IN / case.weights)  # traces the shapes of parameters, in any form, once
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda platform: 1)
    monkeypatch.setattr(parity, "CASES", kept)
    monkeypatch.setattr(parity, "FRONT_ENDS", {})
    monkeypatch.setattr(parity, "precisions", lambda device: (parity.BFLOAT16,))
    traced = set()

    def spy(module, name, note):
        function = getattr(module, name)

        def recorded(*arguments, **options):
            traced.add((name, note(*arguments, **options)))
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, recorded)

    spy(cpu, "_loop", lambda one: "clips")
    spy(cpu, "_by_heads", lambda looped, *arrays: "heads")
    spy(positions, "convolve_by_groups", lambda x, kernel, groups: str(x.dtype))
    outcomes = parity.prove()
    assert all(outcome.ok for outcome in outcomes)
    convolution = ("convolve_by_groups", "float32")  # in bfloat16 too: XLA has no fast bfloat16 convolution on CPUs
    assert traced == {("_loop", "clips"), ("_by_heads", "heads"), convolution}

    class Gpu:
        platform = "gpu"

    assert parity.forms_of(Gpu()) == (Form.AUTO,)
