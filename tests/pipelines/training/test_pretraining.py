"""Runs without labels, by the verb: what is left behind opens and starts others, a stopped run goes on, devices do not matter."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import beats_jax
from beats_jax.audio.io import write_wav
from beats_jax.command_line import read_experiment
from beats_jax.config import TokenizerConfig, experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.pipelines.measuring.evaluate import evaluate_run
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.starting_point import starting_point
from beats_jax.weights.architecture import check_params

pytestmark = pytest.mark.slow  # whole runs, each compiled anew

RATE = 16_000
PRETRAIN = {
    "name": "pretrain",
    "data": {
        "source": "recordings", "window_seconds": 0.7, "batch_size": 8, "draw": "time", "reject_below_dbfs": -70.0,
        "train_split": 0.75, "val_split": 0.25, "test_split": 0.0,
    },
    "objective": {
        "name": "masked_prediction", "codes": 16, "code_dim": 8, "predictor_layers": 1, "augment": {"roll": True},
    },
    "training": {
        "max_epochs": 1.0, "max_steps": 6, "learning_rate": 1e-3, "log_every_steps": 1, "monitor": "loss", "ema_decay": 0.9,
        "evaluate_every_epochs": 0.5, "checkpoint_every_steps": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """Four recordings of some seconds: chirps and hisses, one with a silent half; no labels."""
    root = tmp_path_factory.mktemp("forest")
    draw = np.random.default_rng(0)
    time = np.arange(4 * RATE) / RATE
    for number in range(4):
        chirps = np.sin(2 * np.pi * (800 * (number + 1) + 600 * (time % 0.3)) * time) * (time % 0.6 < 0.3)
        sound = 0.4 * chirps + 0.02 * draw.standard_normal(len(time))
        write_wav(root / f"night{number}.wav", (sound * (time > 2) if number == 1 else sound).astype(np.float32), RATE)
    return root


@pytest.fixture(scope="module")
def settings(tiny_settings, forest):
    """A function from changes to the settings of a tiny run without labels."""

    def make(**changes):
        base = tiny_settings(data={"root": str(forest)})
        merged = {**base, **PRETRAIN, "data": {**PRETRAIN["data"], "root": str(forest)}, "objective": dict(PRETRAIN["objective"])}
        for key, value in changes.items():
            merged[key] = {**merged[key], **value} if isinstance(value, dict) else value
        return merged

    return make


@pytest.fixture(scope="module")
def iter1(settings, write_config, tmp_path_factory):
    """A finished run of masked prediction."""
    workdir = tmp_path_factory.mktemp("runs") / "iter1"
    assert run(write_config(settings()), workdir) == 0
    return workdir


def run(config, workdir, *overrides):
    return run_experiment(read_experiment(config, overrides), workdir, strict=False, command="test")


def rows_of(workdir):
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "timing"} for row in rows]


def test_a_run_leaves_an_encoder_a_report_and_its_figures(iter1, forest):
    left = {path.name for path in iter1.iterdir()}
    assert {"model", "metrics.json", "report.html", "history.jsonl", "errors.csv", "data_report.json", "checkpoints"} <= left
    assert not left & {"predictions.csv", "labels.json"}
    metrics = json.loads((iter1 / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert metrics["clips_per_second"] > 0
    assert {"train_loss", "validation_loss", "train_masked_accuracy", "validation_target_codes"} <= set(metrics)
    assert metrics["validation_loss"] == [row for row in rows_of(iter1) if row["split"] == "validation"][-1]["loss"]
    report = (iter1 / "report.html").read_text()
    assert "entropy of" in report
    assert "loss and monitors against the training step" in report
    assert "<script" not in report
    model = beats_jax.load(iter1)
    assert (model.config.family, model.labels) == ("beats", ())
    assert np.isfinite(model.embed(np.zeros((1, RATE), np.float32) + 0.01)).all()


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(iter1, settings, write_config, capsys):
    assert run(write_config(settings()), iter1) == 0
    assert "finished" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"objective\.mask_ratio was 0\.75, now 0\.5"):
        run(write_config(settings()), iter1, "--config.objective.mask_ratio=0.5")


def test_the_encoder_is_watched_from_the_start(settings, write_config, forest, tmp_path):
    """Labelled clips are probed at every evaluation; the monitor may be that figure, and the report shows the clips."""
    labelled = tmp_path / "labelled"
    for kind, hertz in (("low", 300.0), ("high", 3000.0)):
        (labelled / kind).mkdir(parents=True)
        for number in range(6):
            noise = 0.05 * np.random.default_rng(number).standard_normal(RATE)
            tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
            write_wav(labelled / kind / f"{number}.wav", (tone + noise).astype(np.float32), RATE)
    monitor = {"monitor": "probe_accuracy", "select": "best"}
    config = write_config(settings(evaluation={"probe_data": str(labelled)}, training=monitor))
    assert run(config, tmp_path / "run") == 0
    validations = [row for row in rows_of(tmp_path / "run") if row["split"] == "validation"]
    assert all({"feature_rank", "feature_spread", "drift", "probe_accuracy"} <= set(row) for row in validations)
    assert all(row["drift"] > 0 for row in validations)
    start = json.loads((tmp_path / "run" / "watch" / "start.json").read_text())
    assert start["probe_accuracy"] == 1.0  # of tones a decade apart, even in random features
    assert np.load(tmp_path / "run" / "watch" / "start.npy").shape[0] == 12
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Embeddings of the watched clips" in report
    assert "accuracy of a linear probe: 1.000 at the start" in report
    tokenizer = ["--config.model.family=beats_tokenizer", "--config.objective.name=tokenizer"]
    tokenizer += [f"--config.objective.teacher={tmp_path / 'run'}", "--config.model.checkpoint=none"]
    with pytest.raises(UserError, match="a tokenizer has no embedding to probe"):
        run(config, tmp_path / "tokenizer", *tokenizer)


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(iter1, settings, write_config, tmp_path):
    shutil.copytree(iter1, tmp_path / "again")
    again = tmp_path / "again"
    for name in ("metrics.json", "report.html"):
        (again / name).unlink()
    shutil.rmtree(again / "model")
    shutil.rmtree(again / "checkpoints" / "6")
    assert run(write_config(settings()), again) == 0
    assert rows_of(again) == rows_of(iter1)
    tensors = [(place / "model" / "model.safetensors").read_bytes() for place in (again, iter1)]
    assert tensors[0] == tensors[1]


def test_eight_devices_give_what_one_gives(iter1, settings, write_config, train_command, tmp_path):
    for devices in (1, 8):
        command = train_command(write_config(settings()), tmp_path / str(devices), devices=devices)
        finished = subprocess.run(**command, timeout=300, check=False)
        assert finished.returncode == 0, finished.stdout
    one, eight = ([row["loss"] for row in rows_of(tmp_path / str(devices))] for devices in (1, 8))
    np.testing.assert_allclose(one, eight, rtol=1e-5)


def test_a_tokenizer_learns_from_the_encoder_and_the_next_encoder_from_the_tokenizer(iter1, settings, write_config, tmp_path):
    """iter1 -> tokenizer -> iter2, then fine-tuning: every step takes the run before by its folder."""
    tokenizer = settings(
        objective={"name": "tokenizer", "teacher": str(iter1), "estimator_layers": 1, "kmeans_batches": 2},
        model={"family": "beats_tokenizer", "quant_n": 8, "quant_dim": 4},
    )
    for name in ("codes", "code_dim", "predictor_layers"):
        tokenizer["objective"].pop(name)
    assert run(write_config(tokenizer), tmp_path / "tokenizer") == 0
    model = beats_jax.load(tmp_path / "tokenizer")
    assert isinstance(model.config, TokenizerConfig)
    codes = model.encode(0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)).codes
    assert 0 <= int(np.min(codes)) <= int(np.max(codes)) < 8
    assert float(model.params["quantizer"]["initted"][0]) == 1.0
    metrics = json.loads((tmp_path / "tokenizer" / "metrics.json").read_text())
    assert {"train_cosine", "train_dead_codes", "validation_commitment"} <= set(metrics)
    iter2 = settings(objective={"tokenizer": str(tmp_path / "tokenizer"), "largest_dead_share": 1.0})
    assert run(write_config(iter2), tmp_path / "iter2") == 0
    assert json.loads((tmp_path / "iter2" / "metrics.json").read_text())["train_target_codes"] <= 8


def test_fine_tuning_starts_from_it(iter1, tiny_settings):
    experiment = experiment_from_mapping(tiny_settings(model={"checkpoint": str(iter1)}))
    start = starting_point(experiment.model, experiment.audio, ("owl", "wren"))
    assert start.note == f"starting from {iter1} with a new head"
    check_params(flatten_dict(start.params, sep="/"), replace(start.model, predictor_class=0), "the encoder")


def test_the_verb_evaluate_says_that_there_is_nothing_to_measure(iter1, tmp_path):
    with pytest.raises(UserError, match="learnt without labels"):
        evaluate_run(iter1, None, tmp_path / "again", strict=False, command="test")


def test_mistakes_are_named(settings, write_config, tmp_path):
    def refused(message, *overrides):
        with pytest.raises(UserError, match=message):
            run(write_config(settings()), tmp_path / f"{len(list(tmp_path.iterdir()))}", *overrides)

    refused("without labels it can be: chance_loss, loss, masked_accuracy", "--config.training.monitor=acuracy")
    refused("'all' compares classifiers", "--config.data.fold=all")
    refused("20 batches in a row hold no usable window", "--config.data.reject_below_dbfs=-0.5", "--config.training.max_steps=30")
    silent = tmp_path / "silent"
    silent.mkdir()
    write_wav(silent / "a.wav", np.zeros(RATE, np.float32), RATE)
    refused("none of the 1 files can be used; the first error: .*silent", f"--config.data.root={silent}")
