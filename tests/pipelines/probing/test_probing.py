"""The verb evaluate --probe from end to end on a tiny encoder, its cache, and what it refuses."""

import csv
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.audio.filterbank import beats_filterbank
from beats_jax.audio.io import read, write_wav
from beats_jax.config import AudioConfig, DataConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.validation import content_hash
from beats_jax.errors import UserError
from beats_jax.evaluate import main as evaluate
from beats_jax.inference.model import Model, load
from beats_jax.pipelines.measuring.seen_rows import with_hashes
from beats_jax.pipelines.probing.cache import embed_manifest
from beats_jax.pipelines.probing.encoders import filterbank_encoder, model_encoder, randomise
from beats_jax.pipelines.probing.folds import fold_notes, known_to_the_run, plan_folds
from beats_jax.pipelines.probing.tokens import read_tokens
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, load_bundle, save_bundle
from beats_jax.weights.seen import codes, seen_from_codes

pytestmark = pytest.mark.slow  # whole runs

RATE = 16_000
PITCHES = {"high": 4000.0, "low": 500.0, "middle": 1500.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Class folders with tones in noise (one file is no sound), a random tiny encoder; caches go beside them."""
    root = tmp_path_factory.mktemp("probe")
    draw = np.random.default_rng(0)
    for label, pitch in PITCHES.items():
        (root / "sounds" / label).mkdir(parents=True)
        for k in range(9):
            time = np.arange(int(RATE * draw.uniform(0.4, 0.6))) / RATE
            wave = 0.2 * np.sin(2 * np.pi * pitch * draw.uniform(0.97, 1.03) * time) + 0.05 * draw.standard_normal(len(time))
            write_wav(root / "sounds" / label / f"{k}.wav", wave.astype(np.float32), RATE)
    (root / "sounds" / "low" / "broken.wav").write_bytes(b"no sound")
    params = {path: draw.normal(0, 0.1, shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
    Model(Bundle(unflatten_dict(params, sep="/"), TINY_BEATS, AudioConfig(), (), False, "test")).save(root / "encoder")
    return root


@pytest.fixture(scope="module")
def probed(place):
    """The arguments of a probe, and its output folder."""
    arguments = ["--probe", str(place / "encoder"), "--data", str(place / "sounds"), "--cache", str(place / "cache")]
    arguments += ["--folds", "3", "--poolings", "mean,std", "--probe-kinds", "ridge,prototype"]
    assert evaluate([*arguments, "--baseline", "fbank,random", "--output", str(place / "out")]) == 0
    return arguments, place / "out"


def test_a_probe_leaves_what_the_help_says(probed):
    _, output = probed
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["n"], metrics["folds"], metrics["repeats"]) == (27, 3, 1)
    for name in (
        "accuracy",
        "ridge_accuracy",
        "prototype_accuracy",
        "fbank_accuracy",
        "random_accuracy",
        "random_ridge_accuracy",
    ):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    assert metrics["fbank_accuracy"] > 0.9  # tones of different pitch: the mel bands tell
    with open(output / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(metrics["accuracy"])
    assert "broken.wav" in (output / "errors.csv").read_text()
    table = json.loads((output / "probe.json").read_text())
    model = table["encoders"][0]
    assert len([row for row in model["table"] if row["kind"] == "ridge"]) == 3 * 2 * 8
    best = max(row["score"] for row in model["table"])
    assert model["to_use"]["score"] == pytest.approx(best)
    assert len(model["chosen_in_test_folds"]) == 3
    report = (output / "report.html").read_text()
    assert report.count("<svg") == 0
    assert report.count('<img src="data:image/svg') == 2 * 2 + 2  # maps of two encoders and kinds, bars, confusions
    assert "broken.wav" in report


def test_the_second_probe_reads_what_the_first_kept(probed, place, capsys, monkeypatch):
    arguments, output = probed
    monkeypatch.setattr("beats_jax.pipelines.probing.cache._compute", None)
    assert evaluate([*arguments, "--layers=-1,0", "--output", str(place / "again")]) == 0
    assert "read from" in capsys.readouterr().out
    assert "broken.wav" in (place / "again" / "errors.csv").read_text()
    tables = [json.loads((folder / "probe.json").read_text())["encoders"][0]["table"] for folder in (output, place / "again")]
    scores = [{tuple(list(row.values())[:-1]): row["score"] for row in table} for table in tables]
    assert {key[1] for key in scores[1]} == {"0", "2"}
    assert all(scores[0][key] == score for key, score in scores[1].items())


def test_embeddings_are_the_models_and_the_key_knows_what_changed(place, tmp_path):
    root = tmp_path / "sounds"
    for label in ("high", "low"):
        (root / label).mkdir(parents=True)
        for k in range(2):
            (root / label / f"{k}.wav").write_bytes((place / "sounds" / label / f"{k}.wav").read_bytes())
    data = DataConfig(source="folder", root=str(root), batch_size=3)
    manifest, model = load_manifest(data, workdir=tmp_path), load(place / "encoder")
    errors = ErrorLog(tmp_path / "errors.csv")

    def embed(encoder, data=data):
        return embed_manifest(encoder, manifest, data, errors, tmp_path / "cache")

    found = embed(model_encoder(model, ("max",)))
    waveform = read(str(found.manifest.files[3]), sample_rate=RATE)
    out = model.encode(waveform[None], layers=True)
    np.testing.assert_allclose(found.values[:, 0, 3], np.asarray(out.layers)[:, 0].max(axis=1), atol=2e-5)
    assert found.seconds > 0
    assert embed(model_encoder(model, ("max",))).seconds == 0
    paths = {found.cached, embed(filterbank_encoder(model.audio)).cached}
    windows = embed(filterbank_encoder(model.audio), DataConfig(source="folder", root=str(root), window_seconds=0.2))
    os.utime(root / "high" / "0.wav", (1, 1))
    paths |= {windows.cached, embed(filterbank_encoder(model.audio)).cached}
    assert len(paths) == 4
    tokens, mask = read_tokens(model, found.manifest, data, 1)
    mean = np.where(mask[:, :, None], tokens, -np.inf).max(axis=1)
    np.testing.assert_allclose(mean, found.values[1, 0], atol=2e-5)


def test_a_damaged_cache_is_made_again(place, tmp_path, capsys):
    data = DataConfig(source="folder", root=str(place / "sounds"))
    manifest, encoder = load_manifest(data, workdir=tmp_path), filterbank_encoder(AudioConfig())
    first = embed_manifest(encoder, manifest, data, ErrorLog(tmp_path / "a.csv"), tmp_path / "cache")
    first.cached.write_bytes(b"torn")
    again = embed_manifest(encoder, manifest, data, ErrorLog(tmp_path / "b.csv"), tmp_path / "cache")
    assert "is damaged" in capsys.readouterr().out
    np.testing.assert_array_equal(again.values, first.values)
    waveform = read(str(first.manifest.files[0]), sample_rate=RATE)
    bands = np.asarray(beats_filterbank(waveform[None]))[0]
    np.testing.assert_allclose(first.values[0, 0, 0], np.concatenate([bands.mean(0), bands.std(0)]), atol=1e-4)


def test_an_untrained_model_has_the_shape_and_nothing_else(place):
    model = load(place / "encoder")
    other = randomise(model, seed=3)
    assert other.config == model.config
    flat, plain = flatten_dict(other.params, sep="/"), flatten_dict(model.params, sep="/")
    assert {path: leaf.shape for path, leaf in flat.items()} == {path: leaf.shape for path, leaf in plain.items()}
    assert not np.allclose(flat["encoder/layers_0/fc1/kernel"], plain["encoder/layers_0/fc1/kernel"])
    assert model_encoder(other, ("max",)).program.identity() != model_encoder(model, ("max",)).program.identity()
    again = model_encoder(load(place / "encoder"), ("max",)).program.identity()
    assert model_encoder(model, ("max",)).program.identity() == again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe-kinds", "logistics"], "did you mean 'logistic'"),
        (["--poolings", "man"], "did you mean 'mean'"),
        (["--layers", "9"], "layers 0 to 2"),
        (["--layers", "one"], "'one' is no list of whole numbers"),
        (["--token-layer", "7"], "layers 0 to 2"),
        (["--baseline", "fbanks"], "did you mean 'fbank'"),
        (["--folds", "2"], "at least 3"),
        (["--folds", "99"], "take fewer folds"),
        (["--repeats", "0"], "at least 1"),
        (["--probe-kinds", "prototype", "--multi-label"], "gives one label an example"),
        (["--window-seconds", "-1"], "must be above 0"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--probe", "BEATs_iter9"], "no published checkpoint has this name"),
    ],
)
def test_mistakes_are_one_line_and_status_2(probed, place, tmp_path, capsys, arguments, message):
    plain, _ = probed
    assert evaluate([*plain, "--output", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_what_does_not_go_together(probed, place, tmp_path, capsys):
    plain, output = probed
    cases = {
        "needs --data": ["--probe", "x", "--output", str(tmp_path / "a")],
        "--folds belongs to --probe": ["--run", "x", "--folds", "5", "--output", str(tmp_path / "a")],
        "not allowed with": ["--run", "x", *plain, "--output", str(tmp_path / "a")],
        "one of the arguments --run --compare --audit --probe": ["--output", "x"],
        "is not empty": [*plain, "--output", str(output)],
    }
    for message, arguments in cases.items():
        assert evaluate(arguments) == 2
        assert message in capsys.readouterr().err


def test_empty_and_one_class_data_are_told(probed, place, tmp_path, capsys):
    plain, _ = probed
    (tmp_path / "empty").mkdir()
    assert evaluate([*plain, "--data", str(tmp_path / "empty"), "--output", str(tmp_path / "a")]) == 2
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "low").symlink_to(place / "sounds" / "low")
    capsys.readouterr()
    assert evaluate([*plain, "--data", str(tmp_path / "one"), "--output", str(tmp_path / "b")]) == 2
    assert "1 usable classes" in capsys.readouterr().err


@pytest.mark.slow
def test_several_labels_and_repeats_from_a_table(probed, place, tmp_path):
    plain, _ = probed
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label", "night"])
        for path in sorted((place / "sounds").glob("*/[0-9].wav")):
            label = path.parent.name
            writer.writerow([path, "" if label == "low" else f"{label};tone", f"{label}{int(path.stem) // 2}"])
    arguments = ["--data", str(tmp_path / "table.csv"), "--multi-label", "--group-column", "night", "--repeats", "2"]
    assert evaluate([*plain, *arguments, "--probe-kinds", "knn", "--layers", "2", "--output", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mAP_classes"] == 3
    assert metrics["groups"] == 15
    assert metrics["repeats"] == 2
    assert 0 <= metrics["mAP_repeats_mean"] <= 1
    assert metrics["knn_mAP_low"] <= metrics["knn_mAP"]


def rows(labels, **columns):
    return Manifest.from_columns([f"{i}.wav" for i in range(len(labels))], [[label] for label in labels], **columns)


def test_the_datas_own_folds_and_test_split_are_kept():
    labels = ["a", "b"] * 6
    own = plan_folds(rows(labels, metadata={"fold": list("112233112233")}), 5, 0)
    assert (own.names, own.drawn) == (("1", "2", "3"), False)
    assert own.codes.tolist() == [0, 0, 1, 1, 2, 2] * 2
    split = plan_folds(rows(labels, splits=["train"] * 8 + ["val"] * 2 + ["test"] * 2), 3, 0)
    assert split.codes[-2:].tolist() == [-1, -1]
    assert sorted(np.unique(split.codes[:-2])) == [0, 1, 2]
    with pytest.raises(UserError, match="every row is in the split 'test'"):
        plan_folds(rows(labels, splits=["test"] * 12), 3, 0)
    with pytest.raises(UserError, match="2 of 12 rows have no split"):
        plan_folds(rows(labels, splits=["train"] * 10 + [""] * 2), 3, 0)


def test_classes_that_a_fold_cannot_learn_are_named():
    plan = plan_folds(rows(["a", "b"] * 6, metadata={"fold": list("112233112233")}), 5, 0)
    targets = np.zeros((12, 4), np.float32)
    targets[np.arange(12), [0, 1] * 6] = 1
    targets[[0, 6]] = [0, 0, 1, 0]  # both in fold 1
    targets[3] = [0, 0, 0, 1]
    notes = fold_notes(targets, plan, ("a", "b", "local", "once"))
    assert notes[0].startswith("once: a single example")
    assert notes[1].startswith("local: in a test fold but not in the others")
    assert len(notes) == 2


def remembering(place, root, trained, chosen):
    """A model folder that remembers the given files of `place`."""
    hashes = [codes([content_hash(str(place / "sounds" / file)) for file in files]) for files in (trained, chosen)]
    bundle = load_bundle(place / "encoder")
    return save_bundle(root / "model", replace(bundle, seen=seen_from_codes(*hashes)))


def test_recordings_that_a_model_knows_are_found_by_their_content(tmp_path, place):
    remembering(place, tmp_path, ["low/1.wav"], ["low/2.wav"])
    copy = tmp_path / "another name.wav"
    shutil.copy(place / "sounds" / "low" / "1.wav", copy)
    files = [str(place / "sounds" / "low" / f"{k}.wav") for k in range(3)]
    manifest = with_hashes(Manifest.from_columns([*files, str(copy), "absent.wav"], [["low"]] * 5))
    for model in (tmp_path, tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        known = known_to_the_run(str(model), manifest)
        assert known is not None
        assert known.tolist() == [False, True, True, True, False]
    no_run = known_to_the_run("BEATs_iter3", manifest)
    assert no_run is not None
    assert not no_run.any()


def test_a_probe_counts_what_its_model_was_trained_on_and_leaves_it_out(place, tmp_path, capsys):
    remembering(place, tmp_path, ["low/1.wav", "high/0.wav"], ["middle/4.wav"])
    plain = ["--probe", str(tmp_path), "--data", str(place / "sounds"), "--cache", str(place / "cache"), "--folds", "3"]
    plain += ["--poolings", "mean,std", "--probe-kinds", "prototype", "--layers", "0"]
    assert evaluate([*plain, "--output", str(tmp_path / "a")]) == 0
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert (metrics["n"], metrics["rows_seen_in_training"]) == (27, 2)
    assert "3 of 27 examples are recordings that this run was trained on or chosen by" in capsys.readouterr().out
    assert evaluate([*plain, "--unseen", "--output", str(tmp_path / "b")]) == 0
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert (metrics["n"], metrics["rows_seen_in_training"]) == (24, 0)


def test_a_run_without_a_record_of_its_rows_is_no_reason_to_be_sure(place, tmp_path, capsys):
    run = tmp_path / "run"
    load(place / "encoder").save(run / "model")
    (run / "experiment.json").write_text(json.dumps({"data": {"source": "folder", "root": "recordings_of_another_place"}}))
    plain = ["--probe", str(run), "--data", str(place / "sounds"), "--cache", str(place / "cache"), "--folds", "3"]
    plain += ["--poolings", "mean,std", "--probe-kinds", "prototype", "--layers", "0"]
    assert evaluate([*plain, "--unseen", "--output", str(tmp_path / "a")]) == 2
    assert "--unseen cannot know" in capsys.readouterr().err
    assert evaluate([*plain, "--output", str(tmp_path / "b")]) == 0
    assert "no record of what it was trained on" in (tmp_path / "b" / "report.html").read_text()
    assert "rows_seen_in_training" not in json.loads((tmp_path / "b" / "metrics.json").read_text())
