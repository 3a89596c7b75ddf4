"""`evaluate --detections` and `--reviewed` as a user gives them."""

import csv
import json

import pytest

from beats_jax.datasets.tables.registry import Events, write_events
from beats_jax.datasets.tables.same_recordings import match_recordings
from beats_jax.errors import UserError
from beats_jax.evaluate import main
from beats_jax.evaluation.metrics.precision_table import read_precision_table, threshold_for

TRUTH = "file,start,end,label\nnight/a.wav,1,2,owl\nnight/a.wav,5,6,owl\nnight/b.wav,1,2,=wren\nnight/c.wav,3,4,owl\n"


@pytest.fixture
def tables(tmp_path):
    """Annotations of three recordings; detections in two of them and in a fourth, by paths of another machine."""
    (tmp_path / "annotations.csv").write_text(TRUTH)
    files = ["D:\\card\\night\\a.wav", "D:\\card\\night\\a.wav", "D:\\card\\night\\b.wav", "D:\\card\\other.wav"]
    found = Events.from_columns(files, [1.1, 8, 1, 0], [2, 9, 2, 1], ["owl", "owl", "=wren", "owl"], scores=[0.9, 0.5, 0.8, 0.7])
    write_events(found, tmp_path / "found", ["csv", "raven", "parquet"], dict.fromkeys(files, 10.0))
    return tmp_path


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("place", ["found", "found/detections.csv", "found/raven", "found/detections.parquet"])
def test_every_table_of_a_detector_gives_the_same_figures(tables, capsys, place):
    arguments = ["--detections", str(tables / place), "--data", str(tables / "annotations.csv")]
    assert main([*arguments, "--output", str(tables / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 recordings are matched by the end of their paths, such as D:\\card\\night\\a.wav with night/a.wav." in said
    assert "1 detections are left out: the annotations lack their 1 recordings (D:\\card\\other.wav)." in said
    assert "2 of 4 events are found; 1 of 3 detections are wrong." in said
    metrics = json.loads((tables / "out" / "metrics.json").read_text())
    assert (metrics["n"], metrics["detections"], metrics["recordings"]) == (4, 3, 3)
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == pytest.approx((2 / 3, 1 / 2, 4 / 7))
    assert metrics["f1_low"] <= metrics["f1"] <= metrics["f1_high"]
    assert metrics["average_precision"] == pytest.approx(0.5)
    # a: the segments 1 and 8 found, 1 and 5 true; b: 1; c: 3
    assert metrics["segment_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    outcomes = [(row["file"], row["label"], row["outcome"]) for row in rows(tables / "out" / "matches.csv")]
    assert outcomes == [
        ("night/a.wav", "owl", "matched"), ("night/a.wav", "owl", "missed"), ("night/a.wav", "owl", "false"),
        ("night/b.wav", "'=wren", "matched"), ("night/c.wav", "owl", "missed"),
    ]  # fmt: skip
    labels = {row["label"]: row for row in rows(tables / "out" / "labels.csv")}
    assert (labels["owl"]["n"], labels["owl"]["matched"], float(labels["'=wren"]["f1"])) == ("3", "1", 1.0)
    assert "average precision" in (tables / "out" / "report.html").read_text(encoding="utf-8")


def test_rules_and_folders_with_empty_tables(tables, capsys):
    (tables / "notes").mkdir()
    for name, text in (("a", "1\t2\towl\n5\t6\towl\n"), ("other", "")):
        (tables / "notes" / f"{name}.labels.txt").write_text(text)
    arguments = ["--detections", str(tables / "found"), "--data", str(tables / "notes"), "--format", "md"]
    assert main([*arguments, "--tolerance", "0.05", "--segment", "10", "--output", str(tables / "strict")]) == 0
    metrics = json.loads((tables / "strict" / "metrics.json").read_text())
    # other.wav is known to be quiet, so its detection is wrong; b.wav was not annotated. A start is 0.1 s late
    assert (metrics["recordings"], metrics["n"], metrics["detections"], metrics["f1"]) == (2, 2, 3, 0.0)
    assert metrics["segment_precision"] == 0.5
    assert main([*arguments, "--tolerance", "0.15", "--output", str(tables / "loose")]) == 0
    assert json.loads((tables / "loose" / "metrics.json").read_text())["recall"] == 0.5
    assert (tables / "loose" / "RESULTS.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detections", "found"], "--detections needs --data"),
        (["--detections", "nowhere", "--data", "annotations.csv"], "--detections nowhere does not exist"),
        (["--detections", "found", "--data", "nowhere"], "--data nowhere does not exist"),
        (["--detections", "found", "--data", "others.csv"], "no recording of found is one of others.csv"),
        (["--detections", "found", "--data", "labels.csv"], "no label is in both tables"),
        (["--detections", "found", "--data", "annotations.csv", "--iou", "0"], "iou is 0.0; it must be in (0, 1]"),
        (["--detections", "found", "--data", "annotations.csv", "--segment", "0"], "segments of 0.0 s"),
        (["--run", "found", "--iou", "0.5"], "--iou belongs to --detections"),
        (["--reviewed", "found", "--data", "annotations.csv"], "--reviewed holds the verdicts"),
        (["--reviewed", "annotations.csv"], "has no column 'score'"),
        (["--reviewed", "odd.csv"], "odd.csv line 3: the verdict is 'maybe'; write yes, no or unsure"),
        (["--reviewed", "blank.csv"], "no verdict yes or no"),
        (["--reviewed", "scoreless.csv"], "scoreless.csv line 2: the score is ''"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tables, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tables)
    (tables / "others.csv").write_text("file,start,end,label\nx.wav,0,1,owl\n")
    (tables / "labels.csv").write_text("file,start,end,label\nnight/a.wav,0,1,Strix\n")
    head = "file,start,end,label,score,verdict\n"
    (tables / "odd.csv").write_text(head + "a,0,1,owl,0.5,yes\na,1,2,owl,0.5,maybe\n")
    (tables / "blank.csv").write_text(head + "a,0,1,owl,0.5,\na,1,2,owl,0.5,unsure\n")
    (tables / "scoreless.csv").write_text(head + "a,0,1,owl,,yes\n")
    assert main([*arguments, "--output", "out"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tables / "out").exists()


def test_reviewed_detections_become_the_table_that_a_detector_takes(tmp_path, capsys):
    head = "file,start,end,label,score,verdict\n"
    verdicts = [("0.9", "yes"), ("0.8", "Yes"), ("0.7", "no"), ("0.6", "yes"), ("0.5", "unsure"), ("0.4", "no")]
    lines = [f"a.wav,{number},{number + 1},'=owl,{score},{verdict}\n" for number, (score, verdict) in enumerate(verdicts)]
    lines.append("a.wav,3,4,'=owl,0.6,no\n")  # looked at again
    (tmp_path / "review.csv").write_text(head + "".join(lines))
    assert main(["--reviewed", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 detections without a verdict, or unsure, are left out." in said
    assert "1 rows are of detections that were reviewed again; the last verdict counts." in said
    assert "=owl: 2 of 5 right, 0.400" in said
    assert "from a score of 0.8 on at least 0.9" in said
    table = read_precision_table(tmp_path / "out" / "precision.csv")
    assert [(row.threshold, row.right, row.reviewed) for row in table["=owl"]] == [
        (0.4, 2, 5), (0.6, 2, 4), (0.7, 2, 3), (0.8, 2, 2), (0.9, 1, 1),
    ]  # fmt: skip
    assert threshold_for(table["=owl"], 0.9) == 0.8


def test_recordings_are_matched_by_the_longest_common_end():
    others = ["/d/site1/a.wav", "/d/site2/a.wav", "b.flac", "/d/c.wav"]
    assert match_recordings(["E:\\site2\\a.wav", "x/b", "c.flac", "none.wav"], others) == {
        "E:\\site2\\a.wav": "/d/site2/a.wav", "x/b": "b.flac",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"a\.wav may be /d/site. ?/?a\.wav or"):
        match_recordings(["a.wav"], others)
    with pytest.raises(UserError, match=r"c\.wav may be p/c\.wav or q/c\.wav"):
        match_recordings(["p/c.wav", "q/c.wav"], others)
    assert match_recordings(["d/c.wav", "q/c.wav"], others) == {"d/c.wav": "/d/c.wav"}


def test_a_recording_that_another_name_fits_better_is_free_for_none_else():
    others = ["/d/b.wav", "/d/night/b.wav"]
    assert match_recordings(["b", "night/b"], others) == {"b": "/d/b.wav", "night/b": "/d/night/b.wav"}
    assert match_recordings(["x/site1/a.wav", "site1/a.wav"], ["x/site1/a.wav", "site2/a.wav"]) == {
        "x/site1/a.wav": "x/site1/a.wav"
    }


def test_neither_case_nor_accents_tell_recordings_apart():
    assert match_recordings(["D:\\Mu\u0301sica\\A.wav"], ["/d/m\xfasica/a.WAV"]) == {
        "D:\\Mu\u0301sica\\A.wav": "/d/m\xfasica/a.WAV"
    }


def test_events_that_stand_in_several_tables_count_once(tables, capsys):
    found = tables / "twice"
    found.mkdir()
    text = "file,start,end,label,score\nnight/a.wav,1,2,owl,0.9\nnight/b.wav,5,6,owl,0.8\n"
    (found / "a.BirdNET.results.csv").write_text(text)
    (found / "BirdNET_CombinedTable.csv").write_text(text)
    arguments = ["--detections", str(found), "--data", str(tables / "annotations.csv"), "--output", str(tables / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"2 events stand in --detections {found} again and count once." in said
    assert "1 of 4 events are found; 1 of 2 detections are wrong." in said
