"""A run from end to end while its folder changes: stopped, resumed, measured again, fine-tuned from; split by hand here."""

import csv
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.audio.synth import synthesize
from beats_jax.config import experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.evaluate import main as evaluate
from beats_jax.pipelines.training.preparation import prepare_data
from beats_jax.pipelines.training.run import require_best
from beats_jax.train import main as train
from beats_jax.training.loop import FitResult
from beats_jax.training.preemption import StopSignals
from beats_jax.training.progress import Progress

pytestmark = pytest.mark.slow  # whole runs

STEPS = 12


def call(path, seed, label):
    """A recording with one call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = synthesize(seed, labels=(label,), seconds=1.0, sample_rate=16_000, snr_db=20.0)
    write_wav(path, clip.waveform, clip.sample_rate)


def files_of(path):
    """Files of predictions.csv."""
    with open(path, newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def story(tmp_path_factory, tiny_settings, write_config):
    """A run that was stopped after its first step; then a training file and a test file went, a test file became a copy of a
    training file, and one came; then the same command again. Returns all that is needed to judge what came of it."""
    place = tmp_path_factory.mktemp("story")
    for number in range(12):
        for label in ("trill", "pulses"):
            call(place / "recordings" / label / f"{number}.wav", number, label)
    data = {"source": "folder", "root": str(place / "recordings")}
    settings = tiny_settings(data=data, training={"max_steps": STEPS, "select": "best"})
    arguments = ["--config", write_config(settings), "--workdir", str(place / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignals, "should_stop", lambda self, step: step == 1)
        assert train(arguments) == 143
    shutil.copytree(place / "run", place / "stopped")
    (place / "first").mkdir()
    manifest = prepare_data(
        experiment_from_mapping(settings), place / "first", strict=True
    ).manifest  # as it was dealt at the start
    by_split = {name: manifest.split(name).files.tolist() for name in ("train", "val", "test")}
    learnt, other, *_ = by_split["train"]
    gone, overwritten, *_ = by_split["test"]
    (place / "away").mkdir()
    for file in (other, gone):
        shutil.move(file, place / "away" / f"{len(list((place / 'away').iterdir()))}.wav")
    shutil.copy(learnt, overwritten)
    call(place / "recordings" / "trill" / "new.wav", 99, "trill")
    return place, arguments, by_split, {"gone": gone, "other": other, "overwritten": overwritten, "learnt": learnt}


@pytest.fixture(scope="module")
def resumed(story):
    """The folder of the finished run, and what was printed."""
    place, arguments, *_ = story
    with redirect_stdout(StringIO()) as printed:
        assert train(arguments) == 0
    return place / "run", printed.getvalue()


def test_a_resumed_run_names_what_has_changed_and_tests_nothing_that_it_learnt(story, resumed):
    _, _, by_split, named = story
    run, printed = resumed
    assert "resumed at step 1/12" in printed
    assert "starting from" not in printed
    for what in ("gone", "other", "overwritten"):
        assert named[what] in printed
    assert "new.wav" in printed
    tested = files_of(run / "predictions.csv")
    assert set(tested) == set(by_split["test"]) - {named["gone"], named["overwritten"]}
    assert not set(tested) & {*by_split["train"], *by_split["val"]}
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["n"], metrics["rows_seen_in_training"]) == (len(by_split["test"]) - 2, 0)
    with open(run / "errors.csv", newline="") as file:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(listed) == {named["gone"], named["other"], named["overwritten"]}
    assert "recordings gone since the run began" in (run / "report.html").read_text()
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history if row["split"] == "train"] == list(range(1, STEPS + 1))


def test_evaluate_measures_the_rows_of_the_run(story, resumed, tmp_path, capsys):
    """The same rows as the run measured, also when another one of them has gone; training rows never move in."""
    _, _, _, named = story
    run, _ = resumed
    own = files_of(run / "predictions.csv")
    shutil.move(own[0], tmp_path / "away.wav")
    try:
        assert evaluate(["--run", str(run), "--output", str(tmp_path / "own")]) == 0
    finally:
        shutil.move(tmp_path / "away.wav", own[0])
    assert files_of(tmp_path / "own" / "predictions.csv") == own[1:]
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.split(":")[1] for line in warnings] == [
        f" 2 of {len(own) + 2} recordings gone since the run began",
        f" 1 of {len(own) + 2} recordings changed since the run began and no longer used",
    ]
    assert named["gone"] in warnings[0]
    assert own[0] in warnings[0]
    assert warnings[1].endswith(named["overwritten"])
    metrics = json.loads((tmp_path / "own" / "metrics.json").read_text())
    assert (metrics["n"], metrics["rows_seen_in_training"]) == (len(own) - 1, 0)


def test_recordings_that_a_model_was_trained_on_are_counted_wherever_they_lie(story, resumed, tmp_path, capsys, tiny_settings):
    """In other data by `evaluate --data`; and among the test rows of a run that starts from the model, before it is trained."""
    _, _, by_split, named = story
    run, _ = resumed
    for number, file in enumerate((named["learnt"], *by_split["train"][3:5])):
        (tmp_path / "site" / "trill").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "site" / "trill" / f"copy {number}.wav")
    for number in range(3):
        call(tmp_path / "site" / "pulses" / f"{number}.wav", 500 + number, "pulses")
    assert evaluate(["--run", str(run), "--data", str(tmp_path / "site"), "--output", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["n"], metrics["rows_seen_in_training"]) == (6, 3)
    printed = capsys.readouterr().out
    assert f"{run} was trained on 3 of the 6 rows" in printed
    assert "copy 2.wav" in printed

    lines = ["filename,label,split"]
    splits = {"trill/copy 0.wav": "test", "trill/copy 1.wav": "train", "trill/copy 2.wav": "test", "pulses/0.wav": "train"}
    lines += [f"{file},{file.split('/')[0]},{split}" for file, split in splits.items()]
    (tmp_path / "site" / "labels.csv").write_text("\n".join(lines) + "\n")
    data = {"source": "csv", "metadata_file": str(tmp_path / "site" / "labels.csv"), "split_column": "split"}
    tuned = experiment_from_mapping(tiny_settings(data=data, model={"checkpoint": str(run)}))
    (tmp_path / "tuned").mkdir()
    prepared = prepare_data(tuned, tmp_path / "tuned", strict=True)
    assert f"warning: {run} was trained on 2 of the 2 test rows" in prepared.report.summary()
    assert prepared.before is not None
    assert prepared.seen is not None
    assert len(prepared.seen.trained) == len(prepared.before.trained) + 1  # what the start knows, and one new sound


def test_weights_are_chosen_by_a_figure_or_not_at_all():
    """An evaluation that gives no finite figure chooses nothing; infinity is none."""
    progress = Progress(step=3)
    for value in (float("nan"), float("inf"), float("-inf")):
        assert not progress.observe({"loss": value}, "loss", patience=0)
    fitted = FitResult(None, 3, progress.best, progress.best_step, False, progress.last, 0.0)
    with pytest.raises(UserError, match=r"training\.monitor 'loss' was not a finite number in any evaluation \(the last: -inf\)"):
        require_best(fitted, "loss")
    progress.observe({"loss": 2.0}, "loss", patience=0)
    require_best(replace(fitted, best_step=progress.best_step), "loss")


@pytest.mark.slow
def test_a_run_that_cannot_choose_exports_nothing(story, tmp_path, capsys, monkeypatch):
    """`training.select` "best" with a monitor that is NaN at every evaluation ends in one line and status 2."""
    place, arguments, *_ = story
    run = tmp_path / "run"
    shutil.copytree(place / "stopped", run)
    observe = Progress.observe
    monkeypatch.setattr(Progress, "observe", lambda self, values, *how: observe(self, dict.fromkeys(values, float("nan")), *how))
    assert train([*arguments[:-1], str(run)]) == 2
    told = capsys.readouterr().err
    assert "training.monitor 'accuracy' was not a finite number in any evaluation (the last: nan)" in told
    assert not (run / "model").exists()
    assert not (run / "metrics.json").exists()


def test_damaged_rows_are_refused_in_one_line(story, tmp_path, capsys):
    place, arguments, *_ = story
    run = tmp_path / "run"
    shutil.copytree(place / "stopped", run)
    table = run / "manifest.csv.gz"
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    assert train([*arguments[:-1], str(run)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {table} is damaged")
    assert told.count("\n") == 1
    np.testing.assert_array_equal(np.frombuffer(table.read_bytes(), np.uint8), np.frombuffer(bytes(data), np.uint8))
