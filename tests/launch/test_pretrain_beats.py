"""The chain of pre-training stages as a script: every stage finds the one before, and a chain that was killed goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import beats_jax
from beats_jax.audio.io import write_wav

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "pretrain_beats.sh"
RATE = 16_000
SETTINGS = [
    "--config.training.max_steps=2",
    "--config.data.batch_size=16",
    "--config.training.checkpoint_every_steps=1",
    "--config.model.encoder_layers=1",
    "--config.data.num_workers=0",
]
FINETUNING = " ".join([*SETTINGS[:2], "--config.data.window_seconds=2", "--config.evaluation.bootstrap_resamples=100"])


@pytest.fixture
def recordings(tmp_path):
    """Four seconds of noise of each of two colours, eight times."""
    root = tmp_path / "recordings"
    for kind in ("hiss", "rumble"):
        (root / kind).mkdir(parents=True)
        for number in range(8):
            noise = np.random.default_rng(number).standard_normal(4 * RATE)
            sound = noise if kind == "hiss" else np.convolve(noise, np.ones(20) / 20, "same")
            write_wav(root / kind / f"{number}.wav", (0.1 * sound).astype(np.float32), RATE)
    return root


def chain(recordings, runs, labelled=""):
    environment = {
        **os.environ, "SIZE": "small", "LABELLED": labelled, "FINETUNING": FINETUNING, "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": "",
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(SCRIPT), str(recordings), str(runs), *SETTINGS],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_chain_goes_on_where_it_was_killed_and_ends_in_the_third_encoder(recordings, tmp_path):
    runs = tmp_path / "runs"
    first = chain(recordings, runs)
    deadline = time.monotonic() + 240
    while not (runs / "tokenizer_small" / "checkpoints").is_dir():
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    again = chain(recordings, runs, labelled=str(recordings))
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert f"{runs / 'iter1_small'} holds this experiment, finished" in output
    for stage in ("iter1", "tokenizer", "iter2", "finetuned", "tokenizer_finetuned", "iter3"):
        assert (runs / f"{stage}_small" / "model").is_dir(), stage
    assert beats_jax.load(runs / "finetuned_small").labels == ("hiss", "rumble")
    assert beats_jax.load(runs / "iter3_small").config.encoder_layers == 1


def test_without_arguments_it_shows_how():
    found = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "launch/pretrain_beats.sh RECORDINGS RUNS" in found.stderr


def test_every_stage_of_a_job_on_several_machines_joins_it():
    place = "--coordinator 10.0.0.1:9876 --num-processes 2 --process-id 1"
    variables = {"PYTHON": "echo", "JOB": place, "LABELLED": "owls", "FINETUNING": "--config.training.max_steps=1"}
    environment = {**os.environ, **variables}
    command = ["bash", str(SCRIPT), "recordings", "runs", "--config.data.batch_size=64"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    stages = [line for line in found.stdout.splitlines() if "beats_jax.train" in line]
    assert len(stages) == 6
    assert all(f" {place} " in line for line in stages)
