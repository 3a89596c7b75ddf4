"""Verdicts on disk: several writers, kills, undo."""

import errno
import os
import subprocess
import sys

import pytest

from beats_jax.datasets.tables.reviews import Review, read_reviews, review_lines, standing
from beats_jax.errors import UserError
from beats_jax.pipelines.reviewing.review_file import ReviewFile


def review(number, verdict="yes", **others):
    return Review("a.wav", number, number + 1, "owl", 0.5, verdict, **others)


def taken_back(table, *arguments):
    """The start of the clip whose verdict an undo takes back."""
    found = table.undo(*arguments)
    return None if found is None else found.start


def verdicts(path):
    return {place[1]: found.verdict for place, found in standing(ReviewFile(path).reviews()).items()}


def test_undo_takes_back_own_verdicts_one_after_the_other(tmp_path):
    table = ReviewFile(tmp_path / "review.csv")
    table.add([review(0)], "ana")
    table.add([review(1, "no")], "bo")
    table.add([review(2, "unsure")], "ana")
    table.add([review(0, "no")], "bo")  # bo's verdict counts now, and ana cannot undo it
    assert taken_back(table, "ana") == 2
    assert table.undo("ana") is None
    assert verdicts(table.path) == {"1.0": "no", "0.0": "no"}
    assert taken_back(table, "bo") == 0
    assert verdicts(table.path) == {"1.0": "no"}  # the clip is undecided, and comes up again
    assert len(table.reviews()) == 6  # nothing was removed


def test_undo_can_be_limited_to_a_label(tmp_path):
    table = ReviewFile(tmp_path / "review.csv")
    table.add([review(0), review(1)._replace(label="crow")], "ana")
    assert taken_back(table, "ana", lambda one: one.label == "owl") == 0


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_line_that_a_kill_cut_off_is_removed_or_completed(tmp_path, cut):
    path = tmp_path / "review.csv"
    ReviewFile(path).add([review(0)], "ana")
    whole = path.read_bytes()
    line = review_lines([review(1)._replace(label='a "b"\nc', reviewer="ana", time="2026-01-01T00:00:00+00:00")], header=False)
    path.write_bytes(whole + line[:-cut])
    table = ReviewFile(path)
    removed = table.repair()
    assert bool(removed) == (cut > 1)  # without its line break only, it is whole
    assert len(read_reviews(path)) == (1 if removed else 2)
    table.add([review(2)], "ana")
    assert [one.start for one in read_reviews(path)] == ([0, 2] if removed else [0, 1, 2])


def test_a_torn_header_is_written_again(tmp_path):
    path = tmp_path / "review.csv"
    path.write_bytes(b"file,start,e")
    ReviewFile(path).add([review(0)], "ana")
    assert verdicts(path) == {"0.0": "yes"}
    (tmp_path / "other.csv").write_bytes(b"file,start,end,label,score,verdict,other_label,reviewer,time\n")
    assert ReviewFile(tmp_path / "other.csv").reviews() == ()


def test_two_processes_lose_nothing(tmp_path):
    path = tmp_path / "review.csv"
    code = (
        "import sys; from pathlib import Path; from beats_jax.datasets.tables.reviews import Review;"
        "from beats_jax.pipelines.reviewing.review_file import ReviewFile; table = ReviewFile(Path(sys.argv[1]));"
        "[table.add([Review('a.wav', i, i + 1, sys.argv[2], .5, 'yes')], sys.argv[2]) for i in range(60)]"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("ana", "bo")]
    assert [job.wait(60) for job in jobs] == [0, 0]
    found = read_reviews(path)
    assert len(found) == 120
    for name in ("ana", "bo"):
        assert sorted(one.start for one in found if one.reviewer == name) == list(range(60))


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "review.csv"
    table = ReviewFile(path)
    table.add([review(0)], "ana")
    before, write = path.read_bytes(), os.write

    def full(descriptor, data):
        if b"a.wav" in data:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("beats_jax.pipelines.reviewing.review_file.os.write", full)
    with pytest.raises(UserError, match="the disk is full"):
        table.add([review(1)], "ana")
    assert path.read_bytes() == before


def test_a_table_that_a_spreadsheet_changed_is_not_written_to(tmp_path):
    path = tmp_path / "review.csv"
    path.write_text("file;start;end;label;score;verdict;other_label;reviewer;time\na.wav;0,5;1;owl;0,5;yes;;me;28.11.2026\n")
    table = ReviewFile(path)
    assert table.reviews()[0].start == 0.5
    before = path.read_bytes()
    with pytest.raises(UserError, match="another header"):
        table.add([review(1)], "ana")
    assert path.read_bytes() == before


@pytest.mark.parametrize("label", ["\x07", " ", "a\nb", "x" * 201])
def test_other_labels_are_checked(tmp_path, label):
    with pytest.raises(UserError, match="the label is"):
        ReviewFile(tmp_path / "review.csv").add([review(0, "no", other_label=label)], "ana")
    assert not (tmp_path / "review.csv").exists()
