"""The main job from end to end on tiny models: what it leaves, what resuming changes (nothing), what bad audio does (a row)."""

import csv
import json
import os
import re
from dataclasses import replace

import audio_cases
import numpy as np
import pytest
from safetensors.numpy import load_file

import beats_jax
from beats_jax.audio.io import read, write_wav
from beats_jax.audio.synth import synthesize
from beats_jax.config import experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.evaluate import main as evaluate
from beats_jax.pipelines.measuring.evaluate import data_of
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.preparation import prepare_data
from beats_jax.pipelines.training.pretraining import require_monitor
from beats_jax.pipelines.training.starting_point import starting_point
from beats_jax.train import main as train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_settings, write_config):
    """A finished run, trained by the verb in this process (on eight devices)."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    config = write_config(tiny_settings())
    assert train(["--config", config, "--workdir", str(workdir)]) == 0
    return workdir, config


def test_a_run_leaves_what_the_readme_says(finished):
    workdir, _ = finished
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["n"] == 12
    for name in ("accuracy", "f1_macro", "mAP", "auroc"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    with open(workdir / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = json.loads((workdir / "model" / "model.json").read_text())["labels"]
    assert list(rows[0]) == ["file", "start", "end", "label", "prediction", *(f"p:{label}" for label in labels)]
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(metrics["accuracy"])
    assert (workdir / "errors.csv").read_text() == "file,reason\n"
    report = (workdir / "report.html").read_text()
    assert "<h1>" in report
    assert report.count("<audio") >= 2  # one clip of each class, and errors
    assert {"<h2>Gallery</h2>", "<h2>Metrics</h2>"} <= set(re.findall("<h2>[^<]*</h2>", report))
    assert "http" not in report.replace("http://www.w3.org", "").split("</style>")[1].split("Settings")[0]
    history = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history if row["split"] == "train"] == list(range(1, 13))
    assert any((workdir / "tensorboard").iterdir())


def test_the_exported_model_gives_the_predictions_of_the_run(finished):
    """Two ways to the same numbers: the training mesh, and `beats_jax.load` clip by clip."""
    workdir, _ = finished
    model = beats_jax.load(str(workdir))
    with open(workdir / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:3]:
        waveform = read(row["file"], sample_rate=model.sample_rate)
        probabilities = np.asarray(model.predict(waveform[None], lengths=np.array([len(waveform)])))[0]
        expected = [float(row[f"p:{label}"]) for label in model.labels]
        np.testing.assert_allclose(probabilities, expected, atol=2e-5)


def test_a_finished_run_is_shown_and_another_experiment_refused(finished, capsys):
    workdir, config = finished
    before = (workdir / "metrics.json").read_bytes()
    assert train(["--config", config, "--workdir", str(workdir)]) == 0
    assert "finished" in capsys.readouterr().out
    assert train(["--config", config, "--workdir", str(workdir), "--config.training.seed=5"]) == 2
    assert "training.seed was 0, now 5" in capsys.readouterr().err
    assert (workdir / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_evaluate_repeats_the_figures_and_measures_other_folders(finished, tmp_path, capsys):
    workdir, _ = finished
    assert evaluate(["--run", str(workdir), "--output", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    own = json.loads((workdir / "metrics.json").read_text())
    assert again == pytest.approx({name: own[name] for name in again}, abs=1e-6)
    assert {name for name in own if name not in again and not name.startswith(("last_epoch_", "selected_"))} == set()
    labels = json.loads((workdir / "labels.json").read_text())
    names = labels if isinstance(labels, list) else labels["names"]
    for name in names[:2]:
        (tmp_path / "site" / name).mkdir(parents=True)
        for seed in range(2):
            clip = synthesize(seed + 900, labels=(name,), seconds=1.0, sample_rate=22_050, snr_db=15.0)
            write_wav(tmp_path / "site" / name / f"{seed}.wav", clip.waveform, clip.sample_rate)
    assert evaluate(["--run", str(workdir), "--data", str(tmp_path / "site"), "--output", str(tmp_path / "site_out")]) == 0
    assert json.loads((tmp_path / "site_out" / "metrics.json").read_text())["n"] == 4
    (tmp_path / "site" / "dragon").mkdir()
    write_wav(tmp_path / "site" / "dragon" / "a.wav", np.sin(np.arange(16_000) / 9).astype(np.float32), 16_000)
    assert evaluate(["--run", str(workdir), "--data", str(tmp_path / "site"), "--output", str(tmp_path / "no")]) == 2
    assert "dragon" in capsys.readouterr().err
    assert evaluate(["--run", str(workdir), "--output", str(tmp_path / "again")]) == 2


@pytest.mark.slow
def test_fine_tuning_starts_from_the_checkpoint(finished, tmp_path, tiny_settings, write_config, capsys):
    """With the encoder frozen its weights come out as they went in; the head is kept for the same labels, new for others."""
    workdir, _ = finished
    before = load_file(workdir / "model" / "model.safetensors")
    frozen = {"max_steps": 1, "freeze": ["(?!predictor).*"], "ema_decay": 0.0}
    settings = tiny_settings(model={"checkpoint": str(workdir), "encoder_layers": 7}, training=frozen)
    assert train(["--config", write_config(settings), "--workdir", str(tmp_path / "same")]) == 0
    assert "with its head" in capsys.readouterr().out
    after = load_file(tmp_path / "same" / "model" / "model.safetensors")
    assert set(after) == set(before)  # the architecture is the checkpoint's: one layer, not seven
    for key, leaf in after.items():
        if key.startswith("predictor"):  # one AdamW step moves no weight further than the learning rate and its decay
            np.testing.assert_allclose(leaf, before[key], atol=1.1e-3)
        else:
            np.testing.assert_array_equal(leaf, before[key])
    experiment = experiment_from_mapping(settings)
    others = starting_point(experiment.model, experiment.audio, ("frog", "owl", "wren"))
    assert "with a new head" in others.note
    assert others.params is not None
    assert "predictor" not in others.params
    other = tiny_settings(model={"checkpoint": str(workdir)}, audio={"filterbank": {"mean": 1.0}})
    assert train(["--config", write_config(other), "--workdir", str(tmp_path / "other")]) == 2
    assert "another filterbank: mean 15.41663" in capsys.readouterr().err


def test_bad_audio_is_listed_and_strict_stops(tmp_path, tiny_settings, write_config, capsys):
    root = tmp_path / "recordings"
    for name, label in (("owl", "trill"), ("frog", "pulses")):
        for seed in range(25):
            clip = synthesize(seed, labels=(label,), seconds=1.0, sample_rate=16_000, snr_db=20.0)
            (root / name).mkdir(parents=True, exist_ok=True)
            write_wav(root / name / f"{seed}.wav", clip.waveform, clip.sample_rate)
    bad = audio_cases.write_bad_files(root / "owl")
    assert len(bad) >= 20
    config = write_config(tiny_settings(data={"source": "folder", "root": str(root)}, training={"max_steps": 12}))
    assert train(["--config", config, "--workdir", str(tmp_path / "run")]) == 0
    with open(tmp_path / "run" / "errors.csv", newline="", encoding="utf-8") as file:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert sorted(listed) == sorted(str(path) for path in bad)
    for path, keyword in bad.items():
        assert keyword in listed[str(path)], (path, listed[str(path)])
    capsys.readouterr()
    assert train(["--config", config, "--workdir", str(tmp_path / "strict"), "--strict"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_window_without_room_for_a_patch_is_told(tmp_path, tiny_settings, write_config, capsys):
    config = write_config(tiny_settings(data={"window_seconds": 0.05}))
    assert train(["--config", config, "--workdir", str(tmp_path / "run")]) == 2
    assert "needs 0.175 s at least" in capsys.readouterr().err


@pytest.mark.slow
def test_all_folds_of_an_esc50_layout(tmp_path, tiny_settings):
    root = tmp_path / "esc"
    (root / "meta").mkdir(parents=True)
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2):
        for target, label in enumerate(("trill", "pulses", "harmonic")):
            for take in range(4):
                name = f"{fold}-{target}{take}-A-{target}.wav"
                clip = synthesize(fold * 100 + take, labels=(label,), seconds=1.0, sample_rate=16_000, snr_db=20.0)
                (root / "audio").mkdir(exist_ok=True)
                write_wav(root / "audio" / name, clip.waveform, clip.sample_rate)
                lines.append(f"{name},{fold},{target},{label},False,{fold}{target}{take},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    settings = tiny_settings(
        data={"source": "esc50", "root": str(root), "fold": "all", "classes": ["pulses", "trill"]}, training={"max_epochs": 1.0}
    )
    workdir = tmp_path / "run"
    assert run_experiment(experiment_from_mapping(settings), workdir, strict=False, command="") == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert (metrics["n"], metrics["folds"]) == (16, 2)
    each = [json.loads((workdir / f"fold_{fold}" / "metrics.json").read_text())["accuracy"] for fold in (1, 2)]
    assert metrics["accuracy_fold_mean"] == pytest.approx(np.mean(each))
    assert [metrics["fold_1_accuracy"], metrics["fold_2_accuracy"]] == each
    settings["data"]["fold"] = "7"
    with pytest.raises(UserError, match="folds are 1, 2"):
        run_experiment(experiment_from_mapping(settings), tmp_path / "other", strict=False, command="")


def test_a_figure_of_labels_without_labels_is_refused_before_the_folder_is_made(tmp_path):
    settings = {"objective": {"name": "contrastive"}, "data": {"source": "recordings", "root": str(tmp_path)}}
    with pytest.raises(UserError, match=r"training\.monitor is 'accuracy', which needs labels; .* use 'loss'"):
        run_experiment(experiment_from_mapping(settings), tmp_path / "run", strict=False, command="")
    assert not (tmp_path / "run").exists()
    require_monitor(experiment_from_mapping({**settings, "training": {"monitor": "loss"}}))
    require_monitor(experiment_from_mapping({**settings, "objective": {"name": "joint"}}))  # has labelled clips
    nothing_held_out = {"val_split": 0.0, "train_split": 1.0, "test_split": 0.0}
    require_monitor(experiment_from_mapping({**settings, "data": {**settings["data"], **nothing_held_out}}))


@pytest.mark.slow
def test_folds_made_of_a_table_by_site(tmp_path, tiny_settings):
    """Sites are dealt to two folds, of which training and a later evaluation test the same one."""
    rows = ["filename,label,site"]
    for site in range(4):
        for take, label in enumerate(("trill", "pulses") * 2):
            clip = synthesize(site * 10 + take, labels=(label,), seconds=1.0, sample_rate=16_000, snr_db=20.0)
            write_wav(tmp_path / f"{site}{take}.wav", clip.waveform, clip.sample_rate)
            rows.append(f"{site}{take}.wav,{label},s{site}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "csv", "metadata_file": str(tmp_path / "labels.csv"), "fold": "1", "num_folds": 2, "fold_by": "site"}
    experiment = experiment_from_mapping(tiny_settings(data=data, training={"max_steps": 1}))
    (tmp_path / "all").mkdir()
    every = replace(experiment, data=replace(experiment.data, fold="all"))
    manifest = prepare_data(every, tmp_path / "all", strict=True).manifest
    tested = [set(manifest.metadata["site"][manifest.metadata["fold"] == fold].tolist()) for fold in ("1", "2")]
    assert ([len(sites) for sites in tested], tested[0] | tested[1]) == ([2, 2], {"s0", "s1", "s2", "s3"})
    assert run_experiment(experiment, tmp_path / "run", strict=False, command="") == 0
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        assert {f"s{os.path.basename(row['file'])[0]}" for row in csv.DictReader(file)} == tested[0]
    assert evaluate(["--run", str(tmp_path / "run"), "--output", str(tmp_path / "again")]) == 0
    again, own = (json.loads((tmp_path / place / "metrics.json").read_text()) for place in ("again", "run"))
    assert again == pytest.approx(own, abs=1e-6)
    other = data_of(tmp_path / "labels.csv", experiment.data)
    assert (other.fold, other.num_folds, other.fold_by) == ("", 0, "")
