"""The verb `embed`: every window once, whatever happens on the way."""

import json
import signal
import time
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import unflatten_dict
from several_processes import end_job, run_job, start_job
from tiny_beats import TINY_BEATS

import beats_jax
from beats_jax.audio.filterbank import beats_filterbank
from beats_jax.audio.io import read, write_wav
from beats_jax.config import AudioConfig
from beats_jax.embed import main
from beats_jax.inference.store import Store
from beats_jax.pipelines import window_job
from beats_jax.pipelines.progress import WindowProgress
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

RATE = 16_000
SECONDS = {"20260412_053000": 0.7, "b": 1.0, "night/c": 2.3, "night/d": 0.2, "night/e": 1.9}


@pytest.fixture
def recordings(tmp_path):
    """Five recordings in two folders, and one file that is none."""
    rng = np.random.default_rng(0)
    for name, seconds in SECONDS.items():
        path = tmp_path / "recordings" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32), RATE)
    (tmp_path / "recordings" / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    return tmp_path / "recordings"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """Folder of a random BEATs with a head of two classes."""
    draw, config = np.random.default_rng(0), replace(TINY_BEATS, predictor_class=2)
    params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}
    bundle = Bundle(unflatten_dict(params, sep="/"), config, AudioConfig(), ("owl", "wren"), True, "a test")
    return save_bundle(tmp_path_factory.mktemp("embed") / "model", bundle)


def embed(recordings, output, *arguments):
    """Exit status of the verb with windows of half a second."""
    return main(["--input", str(recordings), "--output", str(output), "--window", "0.5", *arguments])


def rows(output):
    """The table, in an order that does not depend on the way."""
    table = pd.read_parquet(output / "embeddings")
    return table.sort_values(["file", "start"], ignore_index=True)


def test_every_window_has_the_statistics_of_its_bands(recordings, tmp_path, capsys):
    assert embed(recordings, tmp_path / "out") == 0
    printed, table = capsys.readouterr().out, rows(tmp_path / "out")
    assert "6 recordings; 0.00 h to embed: 14 windows of 0.5 s" in printed
    assert "5 recordings in" in printed
    assert len(table) == 2 + 2 + 5 + 1 + 4
    for row in table.iloc[[0, 4, 6, 9]].itertuples():
        sound = read(row.file, sample_rate=RATE, start_seconds=row.start, seconds=row.end - row.start)
        fbank = np.asarray(beats_filterbank(sound[None])[0], np.float64)
        np.testing.assert_allclose(row.embedding, [*fbank.mean(0), *fbank.std(0)], rtol=1e-4, atol=1e-4)
    listed = (tmp_path / "out" / "errors.csv").read_text()
    assert "broken.wav" in listed
    assert listed.count("\n") == 2
    record = json.loads((tmp_path / "out" / "embed.json").read_text())
    assert (record["model"], record["columns"]) == ("filterbank", {"embedding": 256})


def test_what_the_recorder_wrote_stands_in_every_row(recordings, tmp_path):
    assert embed(recordings, tmp_path / "out") == 0
    table = rows(tmp_path / "out")
    of_clock = table[table.file.str.contains("20260412")]
    assert [datetime.fromisoformat(text) for text in of_clock.recorded_at] == [datetime(2026, 4, 12, 5, 30)] * 2
    assert table[table.file.str.endswith("b.wav")].recorded_at.isna().all()


def test_a_job_that_stopped_goes_on_without_a_window_lost_or_doubled(recordings, tmp_path, monkeypatch):
    assert embed(recordings, tmp_path / "whole") == 0
    append, taken = Store.append, []

    def stop_after_two(store, table, name, size):
        if len(taken) == 2:
            raise OSError("the power went")
        taken.append(name)
        append(store, table, name, size)
        store.flush()

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", stop_after_two)
        assert embed(recordings, tmp_path / "stopped") == 1
    assert len(rows(tmp_path / "stopped").file.unique()) == 2
    assert embed(recordings, tmp_path / "stopped") == 0
    pd.testing.assert_frame_equal(rows(tmp_path / "whole"), rows(tmp_path / "stopped"))


def test_new_recordings_are_added_and_another_job_is_refused(recordings, tmp_path, capsys):
    assert embed(recordings, tmp_path / "out") == 0
    write_wav(recordings / "new.wav", np.full(RATE, 0.1, np.float32), RATE)
    capsys.readouterr()
    assert embed(recordings, tmp_path / "out") == 0
    assert "7 recordings, 5 done already" in capsys.readouterr().out
    assert len(rows(tmp_path / "out").file.unique()) == 6
    assert embed(recordings, tmp_path / "out", "--hop", "0.25") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'grid was {"window_seconds": 0.5, "hop_seconds": 0.0' in said


@pytest.mark.slow
def test_layers_poolings_and_logits_in_one_pass(recordings, tmp_path, tiny_model):
    arguments = ("--model", str(tiny_model), "--dtype", "float32")
    assert embed(recordings, tmp_path / "out", *arguments, "--layer", "0", "-1", "--pooling", "mean", "std", "--logits") == 0
    assert embed(recordings, tmp_path / "half", *arguments, "--keep", "float16") == 0
    table, model = rows(tmp_path / "out"), beats_jax.load(tiny_model)
    width = model.num_features
    assert {f"embedding_{layer}_{pooling}" for layer in (0, -1) for pooling in ("mean", "std")} <= set(table.columns)
    for layer, pooling in ((0, "mean"), (-1, "std")):
        expected = model.embed_files(recordings, 0.5, pooling=pooling, layer=layer)
        expected = expected[expected.end.notna()].sort_values(["file", "start"])
        found = np.stack(table[f"embedding_{layer}_{pooling}"].to_list())
        assert found.shape == (len(table), width)
        np.testing.assert_allclose(found, np.stack(expected.embedding.to_list()), atol=1e-5)
    scores = model.predict_files(recordings, 0.5)
    scores = scores[scores.end.notna()].sort_values(["file", "start"])[["owl", "wren"]].to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-np.stack(table.logits.to_list()))), scores, atol=1e-5)
    half = np.stack(rows(tmp_path / "half").embedding.to_list())
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, np.stack(table["embedding_-1_mean"].to_list()), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "nowhere"], "--input nowhere does not exist"),
        (["--layer", "3"], "filterbank has one vector"),
        (["--batch-size", "12"], "--batch-size 12"),
        (["--threads", "0"], "threads is 0; it must be 1 or more"),
        (["--window", "-1"], "the window is -1.0 s long"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(recordings, tmp_path, capsys, arguments, message):
    assert embed(recordings, tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_refused_before_the_work(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(window_job.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    assert embed(recordings, tmp_path / "out") == 2
    assert "has 1 kB free" in capsys.readouterr().err


def test_strict_stops_at_a_file_that_cannot_be_read(recordings, tmp_path, capsys):
    assert embed(recordings, tmp_path / "out", "--strict") == 2
    assert "broken.wav" in capsys.readouterr().err


@pytest.mark.parametrize(("tail", "last"), [("shift", (1.8, 2.3)), ("pad", (2.0, 2.3)), ("drop", (1.5, 2.0))])
def test_the_end_of_a_recording_is_as_asked_and_as_many_windows_are_announced(recordings, tmp_path, capsys, tail, last):
    assert embed(recordings, tmp_path / "out", "--tail", tail) == 0
    table = rows(tmp_path / "out")
    assert f" {len(table)} windows of 0.5 s" in capsys.readouterr().out
    end = table[table.file.str.endswith("c.wav")].iloc[-1]
    assert (end.start, end.end) == pytest.approx(last)


def test_progress_tells_when_the_job_ends():
    with WindowProgress(3600.0, "embedding", "embedded", show=False) as progress:
        progress.advance(10.0, 1)
        progress._counted_from -= 10.0
        progress.advance(100.0, 10)
        line = progress.line(datetime(2026, 4, 12, 5, 30))
    assert line.startswith("0.03 of 1.00 h embedded, ")
    assert "ends about 05:3" in line


@pytest.mark.slow
def test_two_processes_killed_and_given_again_make_the_table_of_one(tmp_path):
    rng = np.random.default_rng(1)
    for number in range(12):
        path = tmp_path / "recordings" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, 0.1 * rng.standard_normal(RATE * (1 + number)).astype(np.float32), RATE)
    command = ["-m", "beats_jax.embed", "--input", str(tmp_path / "recordings"), "--window", "0.5", "--output"]
    assert run_job([*command, str(tmp_path / "one")], 1, 1)[0].status == 0
    job = start_job([*command, str(tmp_path / "two")], 2, 2)
    while not (tmp_path / "two" / "embeddings" / "_job.json").exists() and job[0].poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    for process in job:
        process.send_signal(signal.SIGKILL)
    end_job(job)
    ended = run_job([*command, str(tmp_path / "two")], 2, 2)
    assert [process.status for process in ended] == [0, 0], ended
    assert "12 recordings in" in ended[0].output
    assert {path.name[:8] for path in (tmp_path / "two" / "embeddings").glob("*.parquet")} == {"part-000", "part-001"}
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    pd.testing.assert_frame_equal(one.drop(columns="embedding"), two.drop(columns="embedding"))
    np.testing.assert_allclose(np.stack(one.embedding), np.stack(two.embedding), rtol=1e-5, atol=1e-5)
