"""The folder of a run: another experiment is refused by name of what differs, the same one is gone on with."""

from dataclasses import replace

import pytest

from beats_jax.config import Experiment
from beats_jax.errors import UserError
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, is_finished, open_workdir, read_json, write_json


def test_the_same_experiment_may_go_on_and_another_may_not(tmp_path):
    place = tmp_path / "runs" / "Ünïcode run"
    first = Experiment(name="first")
    open_workdir(place, first)
    (place / "history.jsonl").touch()
    open_workdir(place, first)
    other = replace(first, training=replace(first.training, learning_rate=0.5), data=replace(first.data, classes=("owl",)))
    with pytest.raises(UserError) as refusal:
        open_workdir(place, other)
    assert "training.learning_rate was 0.0001, now 0.5" in str(refusal.value)
    assert "data.classes was [], now ['owl']" in str(refusal.value)


def test_settings_of_speed_may_change(tmp_path):
    first = Experiment()
    open_workdir(tmp_path / "run", first)
    (tmp_path / "run" / "checkpoints").mkdir()
    faster = replace(first, data=replace(first.data, num_workers=7), training=replace(first.training, mesh_fsdp=2))
    open_workdir(tmp_path / "run", faster)


def test_folders_that_hold_something_else_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        open_workdir(tmp_path, Experiment())
    with pytest.raises(UserError, match="is a file"):
        open_workdir(tmp_path / "notes.txt", Experiment())
    with pytest.raises(UserError, match="cannot write"):
        open_workdir(tmp_path / "notes.txt" / "run", Experiment())


def test_a_run_that_failed_before_its_first_step_binds_nobody(tmp_path):
    """A wrong data.root must not make the next try, with the right one, an experiment of its own."""
    open_workdir(tmp_path / "run", Experiment(name="wrong"))
    (tmp_path / "run" / "errors.csv").write_text("file,reason\nold.wav,empty\n")
    open_workdir(tmp_path / "run", Experiment(name="right"))
    assert read_json(tmp_path / "run" / EXPERIMENT_FILE)["name"] == "right"
    assert not (tmp_path / "run" / "errors.csv").exists()


def test_a_damaged_record_is_named(tmp_path):
    open_workdir(tmp_path / "run", Experiment())
    (tmp_path / "run" / "history.jsonl").touch()
    (tmp_path / "run" / EXPERIMENT_FILE).write_text('{"name": ')
    with pytest.raises(UserError, match="is damaged"):
        open_workdir(tmp_path / "run", Experiment())


def test_finished_means_that_the_last_file_is_there(tmp_path):
    open_workdir(tmp_path / "run", Experiment())
    assert not is_finished(tmp_path / "run")
    write_json(tmp_path / "run" / "metrics.json", {"accuracy": 1.0})
    assert is_finished(tmp_path / "run")
    assert read_json(tmp_path / "run" / "metrics.json") == {"accuracy": 1.0}


def test_a_record_of_an_older_version_has_the_defaults_of_what_came_since(tmp_path):
    open_workdir(tmp_path / "run", Experiment())
    (tmp_path / "run" / "history.jsonl").touch()
    record = tmp_path / "run" / EXPERIMENT_FILE
    settings = read_json(record)
    write_json(record, {**settings, "training": {name: v for name, v in settings["training"].items() if name != "mode"}})
    open_workdir(tmp_path / "run", Experiment())
    write_json(record, {**settings, "data": {**settings["data"], "owls": 3}})
    with pytest.raises(UserError, match=r"experiment\.json: unknown setting config\.data\.owls"):
        open_workdir(tmp_path / "run", Experiment())
