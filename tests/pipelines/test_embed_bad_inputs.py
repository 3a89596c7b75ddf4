"""`embed` on what the field delivers: cards that go, disks that fill, files that grow, names that nobody should give."""

import json
import os
import resource
import struct
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.audio.io import write_wav
from beats_jax.config import AudioConfig
from beats_jax.embed import main
from beats_jax.inference.store import Store
from beats_jax.pipelines import embed as pipeline
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

RATE = 16_000


def noise(seconds, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)), np.float32)


@pytest.fixture
def recordings(tmp_path):
    (tmp_path / "card").mkdir()
    for number in range(4):
        write_wav(tmp_path / "card" / f"{number}.wav", noise(1.3, number), RATE)
    return tmp_path / "card"


def embed(recordings, output, *arguments):
    return main(["--input", str(recordings), "--output", str(output), "--window", "0.5", *arguments])


def rows(output):
    return pd.read_parquet(output / "embeddings").sort_values(["file", "start"], ignore_index=True)


def listed(output):
    return (output / "errors.csv").read_text(encoding="utf-8").splitlines()[1:]


def shards(output):
    return [path.name for path in (output / "embeddings").iterdir() if not path.name.startswith((".lock", "_job"))]


def require_one_line(capsys, part):
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert part in said


def test_a_card_that_goes_stops_the_job_which_resumes_when_it_is_back(recordings, tmp_path, monkeypatch, capsys):
    short = ("--window", "0.05", "--batch-size", "8")
    assert embed(recordings, tmp_path / "whole", *short) == 0

    def read_until_the_card_goes(groups, read, threads, ahead):
        for number, group in enumerate(groups):
            if number == 3:
                recordings.rename(tmp_path / "pulled")
            yield from read(group)

    with monkeypatch.context() as patch:
        patch.setattr("beats_jax.inference.stream._read_groups", read_until_the_card_goes)
        assert embed(recordings, tmp_path / "out", *short) == 2
    require_one_line(capsys, "card has gone while it was read; put it back and give the same command again")
    assert 1 <= len(rows(tmp_path / "out").file.unique()) < 4
    assert listed(tmp_path / "out") == []
    assert embed(recordings, tmp_path / "out", *short) == 2
    require_one_line(capsys, "card does not exist")
    (tmp_path / "pulled").rename(recordings)
    assert embed(recordings, tmp_path / "out", *short) == 0
    pd.testing.assert_frame_equal(rows(tmp_path / "whole"), rows(tmp_path / "out"))


def test_a_single_file_that_goes_is_an_error_of_its_own_until_it_is_back(recordings, tmp_path, monkeypatch):
    away = tmp_path / "2.wav"
    plan = pipeline.store_windows.__globals__["make_plan"]

    def plan_then_lose_one(*arguments):
        found = plan(*arguments)
        (recordings / "2.wav").rename(away)
        return found

    with monkeypatch.context() as patch:
        patch.setitem(pipeline.store_windows.__globals__, "make_plan", plan_then_lose_one)
        assert embed(recordings, tmp_path / "out") == 0
    assert listed(tmp_path / "out") == [f"{recordings / '2.wav'},no such file"]
    away.rename(recordings / "2.wav")
    assert embed(recordings, tmp_path / "out") == 0
    assert (len(rows(tmp_path / "out").file.unique()), listed(tmp_path / "out")) == (4, [])


def test_a_disk_that_fills_leaves_nothing_half_written(recordings, tmp_path, capsys):
    assert embed(recordings, tmp_path / "whole") == 0
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, most[1]))
    try:
        assert embed(recordings, tmp_path / "out") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    require_one_line(capsys, "the disk is full; free some space and give the same command again")
    assert shards(tmp_path / "out") == []
    assert embed(recordings, tmp_path / "out") == 0
    pd.testing.assert_frame_equal(rows(tmp_path / "whole"), rows(tmp_path / "out"))


def test_files_that_were_still_written_are_embedded_anew_when_they_are_whole(tmp_path, capsys):
    sound = noise(6.0)
    for name, form in (("copied.wav", "WAV"), ("copied.flac", "FLAC"), ("recording.wav", "WAV")):
        (tmp_path / "card").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "card" / name, sound, RATE, format=form)
    path = tmp_path / "card" / "recording.wav"  # recorders that cannot seek leave a size that means "to the end"
    path.write_bytes(path.read_bytes()[:40] + struct.pack("<I", 0xFFFFFFFF) + path.read_bytes()[44:])
    assert embed(tmp_path / "card", tmp_path / "whole") == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "card").iterdir()}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    assert embed(tmp_path / "card", tmp_path / "out") == 0
    assert sorted(line.split(",")[0].rsplit("/")[-1] for line in listed(tmp_path / "out")) == ["copied.flac", "copied.wav"]
    table = rows(tmp_path / "out")
    assert table.groupby(table.file.str[-12:]).size().between(5, 7).all()  # of 12: all that was there
    for path, content in whole.items():
        path.write_bytes(content)
    capsys.readouterr()
    assert embed(tmp_path / "card", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "3 recordings have grown since they were embedded, and are read again: " in said
    assert "copied.flac" in said
    pd.testing.assert_frame_equal(rows(tmp_path / "whole"), rows(tmp_path / "out"))
    assert listed(tmp_path / "out") == []
    (tmp_path / "card" / "copied.wav").write_bytes(b"")
    assert embed(tmp_path / "card", tmp_path / "out") == 0
    assert "warning: 1 recordings are smaller than when they were embedded; their rows stay: " in capsys.readouterr().out
    pd.testing.assert_frame_equal(rows(tmp_path / "whole"), rows(tmp_path / "out"))


def test_recordings_of_equal_size_that_were_written_later_are_named(recordings, tmp_path, capsys):
    assert embed(recordings, tmp_path / "out") == 0
    assert embed(recordings, tmp_path / "out") == 0
    assert "later time" not in capsys.readouterr().out
    changed = sorted(recordings.iterdir())[0]
    later = time.time() + 60
    os.utime(changed, (later, later))
    assert embed(recordings, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "warning: 1 recordings have a later time than their rows and the same size" in said
    assert changed.name in said


def test_a_file_that_grows_while_it_is_read_is_listed(recordings, tmp_path, monkeypatch):
    append = Store.append

    def grow(store, table, name, size):
        append(store, table, name, size)
        with (recordings / "3.wav").open("ab") as file:
            file.write(b"LIST\x04\0\0\0INFO")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", grow)
        assert embed(recordings, tmp_path / "out") == 0
    size = (recordings / "3.wav").stat().st_size
    assert f"3.wav,changed from {size - 48} to {size - 12} bytes while it was read" in listed(tmp_path / "out")[0]
    assert embed(recordings, tmp_path / "out") == 0
    assert (len(rows(tmp_path / "out")), listed(tmp_path / "out")) == (12, [])


def test_a_folder_that_another_job_holds_and_one_that_cannot_be_reached(recordings, tmp_path, monkeypatch, capsys):
    assert embed(recordings, tmp_path / "out") == 0
    job = (tmp_path / "out" / "embeddings" / "_job.json").read_text()
    capsys.readouterr()
    with Store(tmp_path / "out" / "embeddings", json.loads(job), pa.schema({})):
        assert embed(recordings, tmp_path / "out") == 2
    require_one_line(capsys, "is in use by another process")

    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.is_file", refuse)
        assert embed(recordings, tmp_path / "locked") == 2
    require_one_line(capsys, "cannot be written: Permission denied; choose another place")


def test_a_folder_that_cannot_be_listed_says_so(recordings, tmp_path, monkeypatch, capsys):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    assert embed(recordings, tmp_path / "out") == 2
    require_one_line(capsys, "holds no recordings: ")
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_trained_on_meanwhile_is_another_job(recordings, tmp_path, capsys):
    for seed, expected in ((0, 0), (1, 2)):
        draw, config = np.random.default_rng(seed), replace(TINY_BEATS, predictor_class=2)
        params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}
        bundle = Bundle(unflatten_dict(params, sep="/"), config, AudioConfig(), ("owl", "wren"), True, "a test")
        save_bundle(tmp_path / f"model{seed}", bundle)
        if seed:
            (tmp_path / "model0").rename(tmp_path / "old")
            (tmp_path / "model1").rename(tmp_path / "model0")
        capsys.readouterr()
        assert embed(recordings, tmp_path / "out", "--model", str(tmp_path / "model0")) == expected
    require_one_line(capsys, "holds the rows of another job: ")


NAMES = ["=cmd|' C calc'!A0", "+1", "@SUM(A1)", "-2", "owl", "20261025_023000", "20260230_999999", "x,y\"'", "a\nb"]


def test_hostile_names_and_names_without_clocks(tmp_path, monkeypatch):
    (tmp_path / "card").mkdir()
    monkeypatch.chdir(tmp_path / "card")
    for name in NAMES:
        write_wav(f"{name}.wav", noise(0.5), RATE)
    os.rename(b"owl.wav", b"owl\xff_20261025_013000.wav")  # of a system with another character set
    (tmp_path / "card" / "=bad.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    assert main(["--input", ".", "--output", str(tmp_path / "out"), "--window", "0.5"]) == 0
    table = rows(tmp_path / "out")
    assert len(table) == len(NAMES) - 1
    assert {name: clock for name, clock in zip(table.file, table.recorded_at, strict=True) if isinstance(clock, str)} == {
        "20261025_023000.wav": "2026-10-25T02:30:00",  # an hour that a change from summer time has twice: the zone is unknown
    }
    assert sorted(listed(tmp_path / "out")) == [
        "'=bad.wav,no samples: the file ends within its header",
        'owl\\udcff_20261025_013000.wav,"its name is not UTF-8, and no table can hold it; rename the file"',
    ]
    before = shards(tmp_path / "out")
    assert main(["--input", ".", "--output", str(tmp_path / "out"), "--window", "0.5"]) == 0
    assert shards(tmp_path / "out") == before


def test_recordings_given_by_other_names_are_not_doubled(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(recordings)
    assert main(["--input", "card", str(recordings), "link/2.wav", "--output", "out", "--window", "0.5"]) == 0
    assert "5 recordings are given under two names and count once" in capsys.readouterr().out
    whole = rows(tmp_path / "out")
    assert whole.file.unique().tolist() == [f"card/{number}.wav" for number in range(4)]
    for given in (recordings, tmp_path / "link", "../" + tmp_path.name + "/card"):
        assert embed(given, tmp_path / "out") == 0
        assert "4 recordings are embedded under other names, such as card/0.wav" in capsys.readouterr().out
    pd.testing.assert_frame_equal(rows(tmp_path / "out"), whole)
    write_wav(recordings / "2.wav", noise(2.0), RATE)  # has grown, whatever its name
    assert embed(recordings, tmp_path / "out") == 0
    grown = rows(tmp_path / "out")
    assert (len(grown.file.unique()), grown[grown.file.str.endswith("2.wav")].end.max()) == (4, 2.0)


def test_two_cards_of_one_relative_name_are_not_one(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--input", "card", "--output", "out", "--window", "0.5"]) == 0
    whole = rows(tmp_path / "out")
    other = tmp_path / "elsewhere" / "card"
    other.mkdir(parents=True)
    for number in range(4):
        write_wav(other / f"{number}.wav", noise(1.3, 10 + number), RATE)
    monkeypatch.chdir(other.parent)
    assert embed("card", tmp_path / "out") == 2
    require_one_line(capsys, f"card/0.wav was embedded from {tmp_path}/card/0.wav, and is another file here")
    assert embed(other, tmp_path / "out") == 0
    assert len(rows(tmp_path / "out")) == 2 * len(whole)


def test_a_project_that_was_moved_with_its_recordings_goes_on(recordings, tmp_path, monkeypatch, capsys):
    (tmp_path / "project").mkdir()
    recordings.rename(tmp_path / "project" / "card")
    monkeypatch.chdir(tmp_path / "project")
    assert main(["--input", "card", "--output", "out", "--window", "0.5"]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert main(["--input", "card", "--output", "out", "--window", "0.5"]) == 0
    assert "4 recordings, 4 done already" in capsys.readouterr().out
