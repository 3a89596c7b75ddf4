"""The verb `detect`: scores as by every other door, and tables that are a pure function of them."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import unflatten_dict
from several_processes import end_job, run_job, start_job
from tiny_beats import TINY_BEATS

import beats_jax
from beats_jax.audio.io import write_wav
from beats_jax.config import AudioConfig
from beats_jax.datasets.tables.registry import read_events
from beats_jax.detect import main
from beats_jax.errors import UserError
from beats_jax.evaluate import main as evaluate
from beats_jax.evaluation.metrics.precision_table import PrecisionRow, precision_table, write_precision_table
from beats_jax.inference.store import Store
from beats_jax.pipelines.detecting.detector import Detector, open_detector
from beats_jax.pipelines.detecting.scores import score_columns
from beats_jax.pipelines.detecting.thresholds import Threshold, WantedThresholds, choose, parse_thresholds
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

RATE = 16_000
LABELS = ("=owl", "site", "<b>wren</b>")
SECONDS = {"20260412_053000": 0.7, "b": 1.0, "night/b": 2.3, "night/d": 0.2, "night/20260412_233000": 1.9}
ALL_FORMATS = "csv,raven,audacity,kaleidoscope,parquet,birdnet,hawkears"


def make_model(folder, labels, seed=0):
    draw, config = np.random.default_rng(seed), replace(TINY_BEATS, predictor_class=len(labels))
    params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}
    return save_bundle(folder, Bundle(unflatten_dict(params, sep="/"), config, AudioConfig(), tuple(labels), True, "a test"))


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """Folder of a random BEATs with a head of three classes."""
    return make_model(tmp_path_factory.mktemp("detect") / "model", LABELS)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Five recordings in two folders, two of one name and two with a clock, and one file that is none."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("detect") / "recordings"
    for name, seconds in SECONDS.items():
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        loud = np.where(np.arange(round(seconds * RATE)) % RATE < 6000, 0.3, 0.01)
        write_wav(path, (loud * rng.standard_normal(len(loud))).astype(np.float32), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    return folder


@pytest.fixture(scope="module")
def expected(recordings, tiny_model):
    """Scores by the other door, and for each label a threshold that half of its windows reach."""
    table: Any = beats_jax.load(tiny_model).predict_files(recordings, 0.5, 0.25)
    table = table[table.end.notna()].sort_values(["file", "start"], ignore_index=True)
    return table, {label: float(table[label].median()) for label in LABELS}


@pytest.fixture(scope="module")
def finished(recordings, tiny_model, expected, tmp_path_factory):
    """A finished output with every kind of table."""
    output = tmp_path_factory.mktemp("detect") / "out"
    limits = [f"{label}={value!r}" for label, value in expected[1].items()]
    assert detect(recordings, output, tiny_model, "--threshold", *limits, "--format", ALL_FORMATS) == 0
    return output


@pytest.fixture
def output(finished, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(finished, tmp_path / "out")


def detect(recordings, output, model, *arguments):
    """Exit status of the verb with windows of half a second."""
    places = ["--input", str(recordings), "--output", str(output), "--model", str(model)]
    return main([*places, "--window", "0.5", "--hop", "0.25", "--dtype", "float32", *arguments])


def rows(output) -> Any:
    """The scores, in an order that does not depend on the way."""
    return pd.read_parquet(output / "scores").sort_values(["file", "start"], ignore_index=True)


def sorted_events(events) -> Any:
    """As a table; those of a recording come by time."""
    for rows_of in events.rows_of().values():
        assert (np.diff(events.starts[rows_of]) >= 0).all()
    table = events.to_pandas().sort_values(["file", "label", "start"], ignore_index=True)
    return table[["file", "start", "end", "label", "score"]]


def test_scores_are_those_of_predict_files(finished, expected):
    table, other = rows(finished), expected[0]
    assert table.columns[:3].tolist() == ["file", "start", "end"]
    assert table.columns[-3:].tolist() == ["=owl", "p:site", "<b>wren</b>"]
    pd.testing.assert_frame_equal(table[["file", "start", "end"]], other[["file", "start", "end"]])
    np.testing.assert_allclose(table.iloc[:, -3:].to_numpy(), other[list(LABELS)].to_numpy(), atol=1e-6)
    assert table[table.file.str.contains("20260412_0530")].recorded_at.unique().tolist() == ["2026-04-12T05:30:00"]
    assert table[table.file.str.endswith("d.wav")].site.isna().all()
    record = json.loads((finished / "detect.json").read_text())
    assert record["columns"]["site"] == "p:site"
    assert record["grid"] == {"window_seconds": 0.5, "hop_seconds": 0.25, "tail": "shift"}
    assert "broken.wav" in (finished / "errors.csv").read_text()


def test_events_are_runs_of_windows_above_the_threshold(finished, expected):
    table, limits = expected
    found = []
    for file, windows in table.groupby("file", sort=True):
        for label in sorted(limits):
            runs = (windows[label] < limits[label]).cumsum()[windows[label] >= limits[label]]
            for _, run in windows.loc[runs.index].groupby(runs):
                found.append((file, run.start.min(), run.end.max(), label, run[label].max()))
    raws: Any = pd.DataFrame(found, columns=["file", "start", "end", "label", "score"])
    # Runs of one label that still touch, because windows overlap, are one event
    events = sorted_events(read_events(finished / "detections.csv"))
    for (file, label), own in events.groupby(["file", "label"]):
        raw = raws[(raws.file == file) & (raws.label == label)]
        assert own.start.iloc[0] == pytest.approx(raw.start.min())
        assert own.end.iloc[-1] == pytest.approx(raw.end.max())
        assert own.score.max() == pytest.approx(raw.score.max(), abs=1e-6)
        inside = [((own.start - 1e-6 <= row.start) & (row.end <= own.end + 1e-6)).sum() for row in raw.itertuples()]
        assert inside == [1] * len(raw)
    assert set(zip(events.file, events.label, strict=True)) == set(zip(raws.file, raws.label, strict=True))


def test_every_table_reads_back_as_the_same_events(finished):
    events = sorted_events(read_events(finished / "detections.csv"))
    assert set(events.label) == set(LABELS)
    for name in (
        "detections.selections.txt",
        "detections.parquet",
        "kaleidoscope.csv",
        "BirdNET_CombinedTable.csv",
        "HawkEars.csv",
    ):
        pd.testing.assert_frame_equal(sorted_events(read_events(finished / name)), events, atol=2e-6)
    for kind, ending in (("raven", ".selections.txt"), ("audacity", ".labels.txt")):
        for file, own in events.groupby("file"):
            table = finished / kind / os.path.relpath(file, os.path.commonpath(set(events.file)))
            found = sorted_events(read_events(table.with_suffix("").with_name(table.stem + ending)))
            columns = ["start", "end", "label"]
            pd.testing.assert_frame_equal(found[columns], own[columns].reset_index(drop=True))
    everything = (finished / "detections.selections.txt").read_text().splitlines()
    cells: Any = pd.DataFrame([line.split("\t") for line in everything[1:]], columns=everything[0].split("\t"))
    order = sorted(events.file.unique())
    lengths = [SECONDS[os.path.relpath(file, os.path.commonpath(order)).removesuffix(".wav")] for file in order]
    begun = dict(zip(order, np.cumsum([0, *lengths]), strict=False))
    shift = cells["Begin Time (s)"].astype(float) - cells["File Offset (s)"].astype(float)
    np.testing.assert_allclose(shift, cells["Begin Path"].map(begun), atol=1e-6)


def test_a_job_that_stopped_goes_on_to_the_same_scores_and_tables(recordings, tiny_model, finished, tmp_path, monkeypatch):
    append, taken = Store.append, []

    def stop_after_two(store, table, name, size):
        if len(taken) == 2:
            raise OSError("the power went")
        taken.append(name)
        append(store, table, name, size)
        store.flush()

    command = json.loads((finished / "detect.json").read_text())["command"]
    assert "--threshold" in command
    limits = [
        f"{label}={item['value']!r}" for label, item in json.loads((finished / "detect.json").read_text())["thresholds"].items()
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", stop_after_two)
        assert detect(recordings, tmp_path / "out", tiny_model, "--threshold", *limits) == 1
    assert len(rows(tmp_path / "out").file.unique()) == 2
    assert not (tmp_path / "out" / "detections.csv").exists()
    assert detect(recordings, tmp_path / "out", tiny_model, "--threshold", *limits) == 0
    pd.testing.assert_frame_equal(rows(tmp_path / "out"), rows(finished), atol=1e-6)
    pd.testing.assert_frame_equal(
        read_events(tmp_path / "out" / "detections.csv").to_pandas(),
        read_events(finished / "detections.csv").to_pandas(),
        atol=1e-6,
    )


def test_other_rules_make_the_tables_anew_from_the_scores_alone(output, finished, recordings, tiny_model, tmp_path, capsys):
    silent = shutil.copytree(recordings, tmp_path / "recordings")
    for path in (output / "scores").glob("*.parquet"):  # the same recordings, whose sound is gone
        path.unlink()
    assert detect(silent, output, tiny_model, "--scores-only") == 0
    assert read_events(output / "detections.csv").files[0].startswith(str(recordings))  # not touched
    for path in silent.rglob("*.wav"):
        path.write_bytes(b"")
    capsys.readouterr()
    assert (
        detect(silent, output, tiny_model, "--threshold", "0.999999", "site=0", "--labels", "site", "=owl", "--format", "csv")
        == 0
    )
    printed = capsys.readouterr().out
    assert "5 done already; 0.00 h to score: 0 windows" in printed
    assert "5 events in 5 of 5 recordings; 1 tables" in printed
    events = read_events(output / "detections.csv")
    assert events.labels.tolist() == ["site"] * 5
    assert sorted(events.ends.tolist()) == pytest.approx(sorted(SECONDS.values()))
    assert not (output / "raven").exists()
    assert not (output / "detections.selections.txt").exists()
    assert (finished / "raven").exists()


def test_a_table_that_somebody_changed_is_not_replaced(output, recordings, tiny_model, capsys):
    table = output / "raven" / "b.selections.txt"
    table.write_text(table.read_text() + "\n")
    assert detect(recordings, output, tiny_model) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "raven/b.selections.txt" in said
    table.rename(output / "reviewed.txt")
    assert detect(recordings, output, tiny_model) == 0
    assert (output / "reviewed.txt").is_file()


def test_without_recordings_the_tables_are_made_from_the_scores(output, finished, tiny_model, tmp_path, capsys):
    places = ["--model", str(tiny_model), "--window", "0.5", "--hop", "0.25", "--dtype", "float32", "--output"]
    limits = [
        f"{label}={item['value']!r}" for label, item in json.loads((output / "detect.json").read_text())["thresholds"].items()
    ]
    assert main([*places, str(output), "--format", ALL_FORMATS, "--threshold", *limits]) == 0
    for name in ("detections.csv", "detections.selections.txt", "raven/night/b.selections.txt"):
        assert (output / name).read_bytes() == (finished / name).read_bytes()
    assert main([*places, str(tmp_path / "nothing")]) == 2
    assert "--input is missing" in capsys.readouterr().err


def test_no_events_at_all_are_tables_of_nothing(output, recordings, tiny_model, capsys):
    assert detect(recordings, output, tiny_model, "--threshold", "1", "--format", ALL_FORMATS) == 0
    assert "0 events in 0 of 5 recordings" in capsys.readouterr().out
    for name in ("detections.csv", "detections.parquet", "detections.selections.txt", "kaleidoscope.csv"):
        assert len(read_events(output / name)) == 0


def test_rates_count_recorded_time_and_name_recordings_without_a_clock(output, recordings, tiny_model, tmp_path, capsys):
    reviewed = precision_table(["site"] * 4, np.array([0.0, 0.0, 0.0, 0.0]), np.array([True, True, True, False]))
    write_precision_table(reviewed, tmp_path / "reviewed.csv")
    arguments = (
        "--threshold",
        "0",
        "--labels",
        "site",
        "=owl",
        "--rates",
        "day",
        "--precision-table",
        str(tmp_path / "reviewed.csv"),
    )
    assert detect(recordings, output, tiny_model, *arguments) == 0
    assert "3 recordings have no clock" in capsys.readouterr().out
    rates: Any = pd.read_csv(output / "rates.csv")
    assert rates.period.tolist() == ["2026-04-12"] * 2
    hours = (0.7 + 1.9) / 3600
    np.testing.assert_allclose(rates.hours, hours, rtol=1e-4)
    by_label = dict(zip(rates.label, rates.calls_per_hour, strict=True))
    assert by_label == {"site": pytest.approx(0.75 * 2 / hours, rel=1e-4), "'=owl": pytest.approx(2 / hours, rel=1e-4)}
    assert len(json.loads((output / "detect.json").read_text())["without_clock"]) == 3


def test_the_first_that_knows_a_label_gives_its_threshold():
    table = {"owl": (PrecisionRow(0.2, 5, 10), PrecisionRow(0.7, 9, 10)), "wren": (PrecisionRow(0.1, 1, 10),)}
    point = {"owl": 0.3, "wren": 0.4, "crow": 0.45, "rook": None}
    detector = Detector(None, ("owl", "wren", "crow", "rook", "jay"), True, None, point, "the run")  # type: ignore[arg-type]

    def values(**wanted):
        return {label: found.value for label, found in choose(detector.labels, WantedThresholds(**wanted), detector).items()}

    assert values() == {"owl": 0.3, "wren": 0.4, "crow": 0.45, "rook": None, "jay": 0.5}
    reached = {"owl": 0.7, "wren": None, "crow": 0.45, "rook": None, "jay": 0.5}
    assert values(precision=0.9, table=table) == reached
    assert values(precision=0.9, table=table, sure=True) == reached | {"owl": None}
    assert values(precision=0.9, table=table, given={"owl": 0.6}) == reached | {"owl": 0.6}
    assert values(given={"": 0.8, "jay": 0.9}) == dict.fromkeys(detector.labels, 0.8) | {"jay": 0.9}
    with pytest.raises(UserError, match="both given"):
        values(given={"": 0.8}, precision=0.9, table=table)
    assert choose(["jay"], WantedThresholds(), detector)["jay"] == Threshold(0.5, "default")
    assert parse_thresholds(["0.5", "a=b=0.7"], ["a=b"]) == {"": 0.5, "a=b": 0.7}


def test_labels_never_share_a_column():
    columns = score_columns(["file", "p:file", "Owl", "owl", "recorded_at"])
    assert columns == {"file": "p:file", "p:file": "p:p:file", "Owl": "Owl", "owl": "p:owl", "recorded_at": "p:recorded_at"}


def test_a_run_gives_its_thresholds_and_leaves_out_its_background(tiny_model, recordings, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "model")
    point = {"class_names": LABELS, "goal": "f1", "wanted": None, "thresholds": [0.0, None, 0.0], "reasons": ["", "no", ""]}
    (run / "operating_point.json").write_text(json.dumps({**point, "temperature": 3.0, "at_limit": False, "n": 9}))
    (run / "experiment.json").write_text(json.dumps({"data": {"source": "raven", "background": "<b>wren</b>"}}))
    assert detect(recordings, tmp_path / "out", run) == 0
    printed = capsys.readouterr().out
    assert "no threshold reaches the goal of site" in printed
    assert "label '<b>wren</b>' is of time without a sound" in printed
    assert Counter(read_events(tmp_path / "out" / "detections.csv").labels.tolist()) == {"=owl": 5}
    # Its thresholds were chosen without the temperature, and so are the scores
    probabilities: Any = beats_jax.load(tiny_model).predict_files(recordings / "b.wav", 0.5)["=owl"]
    assert rows(tmp_path / "out")["=owl"].isin(probabilities.astype(np.float32)).sum() >= 2


def test_identifiers_of_audioset_have_their_names(tmp_path):
    model = make_model(tmp_path / "model", ("/m/09x0r", "wren"))
    assert open_detector(str(model), dtype="float32", window=None, hop=None).labels == ("Speech", "wren")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "wrem"], "label 'wrem' is not one of the model's 3 labels"),
        (["--threshold", "2"], "--threshold '2' has no number from 0 to 1"),
        (["--threshold", "siet=0.5"], "did you mean 'site'?"),
        (["--format", "csv,ravn"], "did you mean 'raven'?"),
        (["--precision", "0.9"], "--precision needs --precision-table"),
        (["--rates", "dya"], "did you mean 'day'?"),
        (["--smoothing", "max"], "--smoothing has no use without --smooth"),
        (["--scores-only", "--gap", "2"], "--scores-only makes no events, and --gap is about them"),
        (["--scores-only", "--format", "raven"], "--scores-only makes no events, and --format is about them"),
        (["--format", ","], "--format names no kind of table"),
        (["--scores-only", "--rates"], "--scores-only makes no events, and --rates is about them"),
        (["--threshold", "site=0.5", "--labels", "=owl"], "--threshold names site"),
        (["--smooth", "2"], "smooth is 2 windows"),
        (["--species-list", "nowhere.txt"], "nowhere.txt is missing"),
        (["--input", "nowhere"], "--input nowhere does not exist"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(recordings, tiny_model, tmp_path, capsys, arguments, message):
    assert detect(recordings, tmp_path / "out", tiny_model, *arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_species_list_and_another_job_into_the_same_output(output, recordings, tiny_model, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("\ufeffsite\r\n\r\n=owl\n")
    assert detect(recordings, output, tiny_model, "--threshold", "0", "--species-list", str(tmp_path / "list.txt")) == 0
    assert set(read_events(output / "detections.csv").labels.tolist()) == {"site", "=owl"}
    other = make_model(tmp_path / "other", LABELS, seed=1)
    assert detect(recordings, output, other) == 2
    assert "params_sha256 was" in capsys.readouterr().err


def test_labels_and_names_that_a_table_cannot_hold(recordings, tmp_path, capsys):
    model = make_model(tmp_path / "model", ("a\tb", "+c\nd", "@e"))
    assert detect(recordings / "b.wav", tmp_path / "raven", model, "--format", "raven") == 2
    assert "cannot be written to this table" in capsys.readouterr().err
    assert not (tmp_path / "raven").exists()
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("=x.wav", "t\tab.wav", os.fsdecode(b"\xff.wav")):
        shutil.copy(recordings / "b.wav", folder / name)
    arguments = ("--threshold", "0", "--labels", "@e", "--format", "csv,raven")
    assert detect(folder, tmp_path / "out", model, *arguments) == 0
    assert read_events(tmp_path / "out" / "detections.csv").files.tolist() == [str(folder / "=x.wav")]
    listed = (tmp_path / "out" / "errors.csv").read_text()
    assert "its name is not UTF-8" in listed
    assert "because raven is among them" in listed
    assert detect(folder, tmp_path / "out", model, "--threshold", "0", "--format", "csv,parquet") == 0
    for name in ("detections.csv", "detections.parquet"):
        assert set(read_events(tmp_path / "out" / name).labels.tolist()) == {"a\tb", "+c\nd", "@e"}


@pytest.mark.parametrize("labels", [("owl", "owl "), ("owl", " ")])
def test_labels_that_tables_cannot_tell_apart_are_refused(labels):
    with pytest.raises(UserError, match="the model has a label"):
        Detector(None, labels, True, None)  # type: ignore[arg-type]


def test_a_model_without_a_head_is_refused(recordings, tmp_path, capsys):
    params = {path: np.zeros(shape, np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
    model = save_bundle(
        tmp_path / "model", Bundle(unflatten_dict(params, sep="/"), TINY_BEATS, AudioConfig(), (), False, "a test")
    )
    assert detect(recordings, tmp_path / "out", model) == 2
    assert "has no classification head" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_killed_and_given_again_make_the_tables_of_one(tiny_model, tmp_path):
    rng = np.random.default_rng(1)
    for number in range(12):
        path = tmp_path / "recordings" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, 0.1 * rng.standard_normal(RATE * (1 + number)).astype(np.float32), RATE)
    command = ["-m", "beats_jax.detect", "--input", str(tmp_path / "recordings"), "--window", "0.5", "--model", str(tiny_model)]
    command += ["--dtype", "float32", "--format", "csv,raven", "--threshold", "0.3", "--output"]
    assert run_job([*command, str(tmp_path / "one")], 1, 1)[0].status == 0
    job = start_job([*command, str(tmp_path / "two")], 2, 2)
    while not (tmp_path / "two" / "scores" / "_job.json").exists() and job[0].poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    for process in job:
        process.send_signal(signal.SIGKILL)
    end_job(job)
    ended = run_job([*command, str(tmp_path / "two")], 2, 2)
    assert [process.status for process in ended] == [0, 0], ended
    assert "12 recordings in" in ended[0].output
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(tmp_path / "two"), atol=1e-5)
    one, two = (read_events(tmp_path / name / "detections.csv").to_pandas() for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, atol=1e-5)


def test_rates_of_an_earlier_call_do_not_stay_beside_other_tables(output, recordings, tiny_model, capsys):
    assert detect(recordings, output, tiny_model, "--threshold", "0", "--rates") == 0
    assert (output / "rates.csv").is_file()
    assert detect(recordings, output, tiny_model, "--threshold", "1") == 0
    assert not (output / "rates.csv").exists()
    assert detect(recordings, output, tiny_model, "--threshold", "0", "--rates") == 0
    (output / "rates.csv").write_text("mine\n")
    assert detect(recordings, output, tiny_model) == 2
    assert "rates.csv" in capsys.readouterr().err
    assert (output / "rates.csv").read_text() == "mine\n"


@pytest.mark.parametrize("formats", ["audacity", "birdnet,hawkears", "raven,kaleidoscope"])
def test_an_output_is_measured_whatever_its_tables_each_event_once(output, finished, recordings, tiny_model, tmp_path, formats):
    truth = finished / "detections.csv"
    limits = [
        f"{label}={item['value']!r}" for label, item in json.loads((finished / "detect.json").read_text())["thresholds"].items()
    ]
    assert detect(recordings, output, tiny_model, "--threshold", *limits, "--format", formats, "--rates") == 0
    assert evaluate(["--detections", str(output), "--data", str(truth), "--output", str(tmp_path / "measured")]) == 0
    found = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    assert (found["detections"], found["n"], found["f1"]) == (len(read_events(truth)), len(read_events(truth)), 1.0)


def test_recordings_that_relative_names_do_not_reach_are_named(recordings, tiny_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    shutil.copytree(recordings, tmp_path / "here" / "card")
    monkeypatch.chdir(tmp_path / "here")
    assert detect("card", tmp_path / "out", tiny_model, "--format", "raven") == 0
    assert "not where their names lead" not in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    places = ["--model", str(tiny_model), "--window", "0.5", "--hop", "0.25", "--dtype", "float32", "--output", "out"]
    assert main([*places, "--format", "raven"]) == 0
    assert "warning: 5 recordings are not where their names lead from this folder, such as card/" in capsys.readouterr().out


@pytest.mark.parametrize("name", [" lead.wav", "odd /a.wav", "x" * 251 + ".wav", "\U0001f989" * 62 + ".wav"])
def test_names_that_some_table_cannot_hold_end_nothing(tiny_model, tmp_path, name):
    card = tmp_path / "card"
    for place in (card / "plain.wav", card / name):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_wav(place, np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), RATE)
    assert detect(card, tmp_path / "out", tiny_model, "--threshold", "0", "--format", ALL_FORMATS) == 0
    held = {os.path.basename(file) for file in read_events(tmp_path / "out" / "detections.csv").files.tolist()}
    listed = (tmp_path / "out" / "errors.csv").read_text().count("it has scores and is in no table")
    assert "plain.wav" in held
    assert (len(held), listed) == ((1, 1) if " " in name else (2, 0))
