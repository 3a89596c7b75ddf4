"""Reviewed detections as rows to train on."""

import csv

import numpy as np
import pandas as pd
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.review import add_reviewed
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.tables.reviews import Review, read_reviews, review_lines, standing
from beats_jax.errors import UserError

TIME = "2026-01-01T00:00:00+00:00"


def write_reviews(path, rows):
    """A table of (file, start, end, label, verdict, other label) rows."""
    reviews = [
        Review(file, start, end, label, 0.5, verdict, other, "me", TIME) for file, start, end, label, verdict, other in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(review_lines(reviews, header=True))
    return path


def rows_of(manifest):
    return {
        (file.rpartition("/")[2], start, end): manifest.labels[row]
        for row, (file, start, end) in enumerate(
            zip(manifest.files.tolist(), manifest.starts.tolist(), manifest.ends.tolist(), strict=True)
        )
    }


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", np.zeros(1600, np.float32), 16_000)
    return tmp_path


ROWS = [
    ("a.wav", 0, 3, "owl", "yes", ""),
    ("a.wav", 2, 5, "owl", "no", ""),  # overlaps a confirmed one: may hold its call
    ("a.wav", 6, 9, "owl", "no", ""),
    ("a.wav", 10, 13, "owl", "unsure", ""),
    ("a.wav", 12, 15, "owl", "no", ""),  # overlaps an unsure one
    ("b.wav", 0, 3, "owl", "no", "crow"),
    ("b.wav", 3, 6, "owl", "no", ""),  # touches the one before without sharing time
    ("b.wav", 6, 9, "owl", "yes", ""),
    ("b.wav", 6, 9, "crow", "yes", ""),  # two labels
    ("b.wav", 9, 12, "owl", "yes", ""),
    ("b.wav", 9, 12, "owl", "", ""),  # taken back
]


def test_rejected_clips_become_background_and_unsure_ones_neither(folder):
    table = write_reviews(folder / "review.csv", ROWS)
    manifest = load_manifest(DataConfig(source="review", metadata_file=str(table)), workdir=folder)
    assert rows_of(manifest) == {
        ("a.wav", 0, 3): ("owl",),
        ("a.wav", 6, 9): ("background",),
        ("b.wav", 0, 3): ("crow",),
        ("b.wav", 3, 6): ("background",),
    }
    assert sorted(manifest.notes) == [
        "1 reviewed clips are left out: several labels, and data.multi_label is off",
        "1 reviewed clips are left out: unsure",
        "2 reviewed clips are left out: rejected, beside a sound that is confirmed or unsure",
    ]


def test_several_labels_of_a_clip_are_kept_with_multi_label(folder):
    table = write_reviews(
        folder / "review.csv", [*ROWS, ("b.wav", 12, 15, "owl", "yes", ""), ("b.wav", 12, 15, "crow", "unsure", "")]
    )
    data = DataConfig(source="review", metadata_file=str(table), multi_label=True, background="")
    found = rows_of(load_manifest(data, workdir=folder))
    assert found["b.wav", 6, 9] == ("crow", "owl")
    assert found["b.wav", 3, 6] == ()
    assert ("b.wav", 12, 15) not in found  # whether the crow is there is not known


def test_added_clips_train_only_and_leave_the_other_rows_as_they_are(folder):
    files = [str(folder / "a.wav"), *(f"c{i}.wav" for i in range(19))]
    data = DataConfig(source="csv", reviewed=(str(folder),))
    source = Manifest.from_columns(files, [["owl"], ["crow"]] * 10, starts=[20.0] * 20, ends=[30.0] * 20)
    before = assign_splits(source, data)
    write_reviews(folder / "round1" / "review.csv", [(str(folder / "a.wav"), *row[1:]) for row in ROWS[:1]])
    write_reviews(folder / "round2" / "review.csv", [(str(folder / "b.wav"), *row[1:]) for row in ROWS[5:7]])
    after = assign_splits(add_reviewed(source, data), data)
    assert after.splits.tolist()[:20] == before.splits.tolist()
    assert set(after.splits.tolist()[20:]) == {"train"}
    measured = before.splits[0] != "train"  # then the reviewed clip of the same recording may not train
    assert [file.rpartition("/")[2] for file in after.files.tolist()[20:]] == ([] if measured else ["a.wav"]) + ["b.wav", "b.wav"]
    in_test = add_reviewed(source.with_splits(np.array(["test"] + ["train"] * 19)), data)
    assert len(assign_splits(in_test, data)) == 22
    assert "1 reviewed clips are left out, because their recordings are measured" in assign_splits(in_test, data).notes


def test_a_clip_that_the_data_knows_already_is_left_out(folder):
    table = write_reviews(folder / "review.csv", [("a.wav", 0, 3, "owl", "no", ""), ("b.wav", 0, 3, "owl", "no", "")])
    source = Manifest.from_columns([str(folder / "a.wav")], [["owl"]])
    found = add_reviewed(source, DataConfig(source="csv", reviewed=(str(table),)))
    assert len(found) == 2
    assert "1 reviewed clips are left out, because the data has rows there" in found.notes


def test_hostile_names_and_labels_come_back(tmp_path):
    rows = [
        ("=cmd|' /C calc'!A0.wav", 0, 1, "+owl", "yes", ""),
        ("a\tb,c.wav", 1, 2, '<b>wren</b> & "co"', "no", "=1+1"),
        ("'=x.wav", 0.1, 1e-7 + 0.1, "'quoted", "unsure", ""),
        ("línea.wav", 0, 1, "two words; and more", "yes", ""),
    ]
    table = write_reviews(tmp_path / "review.csv", rows)
    assert [(one.file, one.start, one.end, one.label, one.verdict, one.other_label) for one in read_reviews(table)] == rows
    with table.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+@\t" and cell]  # nothing that a spreadsheet would compute
    assert len(pd.read_csv(table)) == len(rows)


def test_the_last_line_on_a_detection_counts():
    first, second = Review("a", 0, 1, "owl", 1, "yes"), Review("a", 0.0, 1.0, "owl", 1, "no")
    assert list(standing([first, second]).values()) == [second]
    assert standing([first, second, second._replace(verdict="")]) == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,0,3,owl,0.5,maybe,,me,2026-01-01", "line 2: the verdict is 'maybe'"),
        ("a.wav,0,3,owl,0.5,yes,crow,me,2026-01-01", "another label needs no"),
        ("a.wav,x,3,owl,0.5,yes,,me,2026-01-01", "line 2: column 'start'"),
        ("a.wav,0,3,owl", "line 2 is not whole"),
        (",0,3,owl,0.5,yes,,me,2026-01-01", "the file is blank"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    table = tmp_path / "review.csv"
    table.write_text(f"file,start,end,label,score,verdict,other_label,reviewer,time\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_reviews(table)


def test_reviews_without_a_verdict_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no review\.csv"):
        load_manifest(DataConfig(source="review", metadata_file=str(tmp_path)), workdir=tmp_path)
    with pytest.raises(UserError, match="trains only"):
        DataConfig(reviewed=("review.csv",), fold="1")
