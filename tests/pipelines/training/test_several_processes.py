"""Whole runs in two real processes: the figures of one process, every file written once."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from several_processes import end_job, run_job, start_job

RATE, DEVICES = 16_000, 4
BY_CODES = ("target_codes", "target_entropy", "predicted_codes", "predicted_entropy", "chance_loss")
BY_BATCH = (*BY_CODES, "target_spread", "estimate_spread")
SCRIPT = str(Path(__file__).with_name("run_verbs.py"))
MASKED = {"name": "masked_prediction", "codes": 16, "code_dim": 8, "predictor_layers": 1, "components": 8}
CONTRASTIVE = {"name": "contrastive", "bank_size": 20, "projection_dim": 8, "augment": {"gain_db": 6.0, "roll": True}}
EAT = {"name": "eat", "clones": 2, "decoder_layers": 1, "decoder_groups": 4, "utterance_weight": 1.0}
EAT_MODEL = {"family": "eat", "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0, "max_length": 8}
KINDS = ("supervised", "masked", "contrastive", "eat")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three classes of 14 clips of one to three seconds; one is broken behind its first second, and its header is right."""
    root = tmp_path_factory.mktemp("recordings")
    for number, name in enumerate(("high", "low", "noise")):
        (root / name).mkdir()
        for clip in range(14):
            random = np.random.default_rng([number, clip])
            sound = 0.1 * random.standard_normal(RATE + RATE * clip // 7)
            if name != "noise":
                sound += 0.3 * np.sin(2 * np.pi * (300 if name == "low" else 3000) / RATE * np.arange(len(sound)))
            soundfile.write(root / name / f"{clip:02d}.flac", sound, RATE)
    broken = root / "low" / "12.flac"
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    broken.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def configs(tiny_settings, write_config, recordings):
    """Config files of a run of each kind; the rows are read only while training goes on."""
    source = {"source": "folder", "root": str(recordings), "check": "header", "num_workers": 2}
    steps = {"max_steps": 6, "evaluate_every_epochs": 1.0, "checkpoint_every_steps": 2, "mesh_fsdp": 4}
    settings = {"supervised": tiny_settings(data=source, training={**steps, "select": "best"})}
    steps |= {"monitor": "loss", "select": "last", "ema_decay": 0.0}
    for kind, fsdp, objective in (("masked", 4, MASKED), ("contrastive", 2, CONTRASTIVE), ("eat", 1, EAT)):
        changed = tiny_settings(data={**source, "source": "recordings"}, training={**steps, "mesh_fsdp": fsdp})
        settings[kind] = {**changed, "objective": objective}
    settings["eat"]["model"] = EAT_MODEL
    return {kind: write_config(found) for kind, found in settings.items()}


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    """All runs in one process."""
    return train_all(configs, tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def together(configs, tmp_path_factory):
    """All runs in two processes."""
    return train_all(configs, tmp_path_factory.mktemp("together"), 2)


def train_all(configs, place, count):
    commands = place / "commands.json"
    commands.write_text(json.dumps([command(configs[kind], place / kind)[2:] for kind in KINDS]))
    for ended in run_job([SCRIPT, str(commands)], count, DEVICES // count, timeout=900):
        assert ended.status == 0, ended.errors
    return {kind: place / kind for kind in KINDS}


def command(config, workdir):
    return ["-m", "beats_jax.train", "--config", config, "--workdir", str(workdir)]


def train(config, workdir, count):
    for ended in run_job(command(config, workdir), count, DEVICES // count, timeout=400):
        assert ended.status == 0, ended.errors
    return workdir


def assert_same_figures(workdir, other):
    found, expected = (json.loads((place / "metrics.json").read_text()) for place in (workdir, other))
    assert found.keys() == expected.keys()
    # those of single batches depend on which windows share one
    others = {"clips_per_second", *(f"validation_{name}" for name in BY_BATCH)}
    for name in expected.keys() - others:
        assert found[name] == pytest.approx(expected[name], abs=1e-5), name


def listed(workdir):
    with (workdir / "errors.csv").open(newline="") as file:
        return sorted(tuple(row) for row in csv.reader(file))


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_measure_what_one_does_and_write_once(alone, together, kind):
    workdir, other = together[kind], alone[kind]
    assert len(losses(workdir)) == 6
    assert losses(workdir) == pytest.approx(losses(other), abs=1e-5)
    if kind != "contrastive":  # its validation compares the clips of a process with each other
        assert_same_figures(workdir, other)
    left = {place: {path.name for path in place.iterdir() if path.name[0] != "."} for place in (workdir, other)}
    assert left[workdir] == left[other] >= {"model", "report.html", "metrics.json"}
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    assert listed(workdir) == listed(other)
    if kind == "supervised":
        assert any(file.endswith("low/12.flac") for file, _ in listed(workdir))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["supervised", "masked"])
def test_killed_processes_go_on_as_one_or_two(alone, configs, tmp_path, kind):
    workdir = tmp_path / "run"
    job = start_job(command(configs[kind], workdir), 2, DEVICES // 2)
    deadline = time.monotonic() + 300
    while not any((workdir / "checkpoints" / step).is_dir() for step in "234"):
        assert all(process.poll() is None for process in job), end_job(job)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in job:
        os.kill(process.pid, signal.SIGKILL)
    end_job(job)
    assert not (workdir / "metrics.json").exists()
    assert_same_figures(train(configs[kind], workdir, 2 if kind == "masked" else 1), alone[kind])


@pytest.mark.slow
def test_two_processes_measure_a_run_again(alone, tmp_path):
    output = tmp_path / "evaluation"
    argv = ["-m", "beats_jax.evaluate", "--run", str(alone["supervised"]), "--output", str(output)]
    for ended in run_job(argv, 2, DEVICES // 2):
        assert ended.status == 0, ended.errors
    found, expected = (json.loads((place / "metrics.json").read_text()) for place in (output, alone["supervised"]))
    assert {name: value for name, value in found.items() if name in expected} == pytest.approx(
        {name: value for name, value in expected.items() if name in found}, abs=1e-5
    )
    assert not list(output.glob("errors.process-*"))
