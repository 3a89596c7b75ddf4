"""One process at a time holds a folder; the note of a dead one is taken over."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beats_jax.config import BEATsConfig, Experiment, to_mapping
from beats_jax.errors import UserError
from beats_jax.pipelines.measuring.evaluate import new_folder
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, write_json
from beats_jax.pipelines.training.workdir_lock import HOLDER_FILE, SILENT_SECONDS, hold, others

ROOT = Path(__file__).parents[3]
HOLDS = """
import sys, time
from pathlib import Path
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, write_json
from beats_jax.pipelines.training.workdir_lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
print("left", flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / "run"`, until its standard input is closed."""
    (tmp_path / "run").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_harms_nothing(holder, tmp_path):
    run = tmp_path / "run"
    experiment = Experiment(model=BEATsConfig(checkpoint="none"))
    write_json(run / EXPERIMENT_FILE, to_mapping(experiment))
    (run / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)  # the first one is writing it
    before = {name: (run / name).stat().st_mtime_ns for name in os.listdir(run)}
    who = f"run is in use by process {holder.pid} on {platform.node()} since 20"
    with pytest.raises(UserError, match=who):
        run_experiment(experiment, run, strict=False, command="")
    with pytest.raises(UserError, match="is not empty"), new_folder(run):
        pass
    assert {name: (run / name).stat().st_mtime_ns for name in os.listdir(run)} == before
    assert (run / "checkpoints" / "7.orbax-checkpoint-tmp").is_dir()
    assert holder.communicate()[0] == "left\n"  # it ends undisturbed, and leaves nothing of the lock
    assert sorted(os.listdir(run)) == ["checkpoints", EXPERIMENT_FILE]
    with hold(run):
        assert others(run) == ["checkpoints", EXPERIMENT_FILE]


def test_what_a_killed_process_held_is_taken_over(holder, tmp_path, capsys):
    holder.kill()
    holder.wait()
    with hold(tmp_path / "run"):
        assert f"held by process {holder.pid} on {platform.node()}, which has died" in capsys.readouterr().out
        assert json.loads((tmp_path / "run" / HOLDER_FILE).read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path / "run") == []


def test_a_holder_on_another_machine_counts_as_long_as_it_shows_that_it_lives(tmp_path, capsys):
    """On a network disk whose locks do not reach other machines the note alone decides."""
    note = tmp_path / HOLDER_FILE
    note.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01"}))
    with pytest.raises(UserError, match=r"process 1 on elsewhere since 2026-01-01, alive \d s ago"), hold(tmp_path):
        pass
    assert json.loads(note.read_text())["host"] == "elsewhere"
    silent = time.time() - SILENT_SECONDS - 1
    os.utime(note, (silent, silent))
    with hold(tmp_path):
        assert "process 1 on elsewhere, which has died" in capsys.readouterr().out


def test_a_new_process_with_the_number_of_a_dead_one_is_no_holder(tmp_path):
    (tmp_path / HOLDER_FILE).write_text(json.dumps({"pid": os.getppid(), "host": platform.node()}))
    with hold(tmp_path):
        pass
    (tmp_path / HOLDER_FILE).write_text('{"pid": 1')  # damaged
    with hold(tmp_path):
        pass


def test_a_holder_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr("beats_jax.pipelines.training.workdir_lock.RENEWED_SECONDS", 0.01)
    with hold(tmp_path):
        note = tmp_path / HOLDER_FILE
        os.utime(note, (0, 0))
        deadline = time.monotonic() + 10
        while note.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - note.stat().st_mtime < 60


def test_two_outputs_in_one_folder(tmp_path):
    with new_folder(tmp_path / "out"):
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} "), new_folder(tmp_path / "out"):
            pass
        (tmp_path / "out" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="is not empty"), new_folder(tmp_path / "out"):
        pass
