"""Training in two real processes whose parameters lie on both: the same numbers as in one, also after all were killed."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from several_processes import end_job, run_job, start_job

SCRIPT = str(Path(__file__).with_name("run_training.py"))
DEVICES = 4


def train(workdir, count):
    workdir.mkdir(exist_ok=True)
    for ended in run_job([SCRIPT, str(workdir), "0"], count, DEVICES // count):
        assert ended.status == 0, ended.errors
    return weights(workdir, count - 1), rows(workdir)


def weights(workdir, index):
    with np.load(workdir / f"weights-{index}.npz") as found:
        return dict(found)


def rows(workdir):
    lines = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "timing"} for line in lines]


def kill_after(workdir, count, step, number=signal.SIGKILL):
    """Starts a job, and sends it a signal when its first process has drawn a batch; all its processes, or the last one."""
    workdir.mkdir()
    job = start_job([SCRIPT, str(workdir), "0.3"], count, DEVICES // count)
    assert job[0].stderr is not None
    for line in job[0].stderr:
        if line.strip() == f"batch {step}":
            break
    for process in job if number == signal.SIGKILL else job[-1:]:
        os.kill(process.pid, number)
    return end_job(job)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone") / "run", 1)


def assert_same(found, expected):
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, atol=1e-5, err_msg=name)
    assert len(found[1]) == len(expected[1])
    for row, other in zip(found[1], expected[1], strict=True):
        assert row == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
def test_two_processes_train_as_one_and_write_once(alone, tmp_path):
    assert_same(train(tmp_path / "run", 2), alone)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["12", "9"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(4, 2), (1, 2), (2, 1)])
def test_a_killed_job_is_resumed_by_any_number_of_processes(alone, tmp_path, before, after):
    for ended in kill_after(tmp_path / "run", before, 8):
        assert ended.status < 0
    assert [row["step"] for row in rows(tmp_path / "run")]
    assert_same(train(tmp_path / "run", after), alone)


@pytest.mark.slow
def test_a_wish_to_stop_one_process_stops_all_at_the_same_step(alone, tmp_path):
    first, second = kill_after(tmp_path / "run", 2, 4, signal.SIGTERM)
    assert first.status == second.status == 143, first.errors + second.errors
    (message,) = {line for ended in (first, second) for line in ended.errors.splitlines() if line.startswith("stopped by")}
    assert "stopped by SIGTERM after step" in message
    assert_same(train(tmp_path / "run", 2), alone)
