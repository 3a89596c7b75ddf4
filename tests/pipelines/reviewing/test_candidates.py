"""What is reviewed, and in which order."""

import json

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import write_events
from beats_jax.errors import UserError
from beats_jax.pipelines.reviewing.candidates import open_candidates
from beats_jax.pipelines.reviewing.order import ORDERS, review_order


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "diverse"])
def test_every_clip_comes_once_and_always_in_the_same_order(order):
    scores = np.random.default_rng(0).random(37)
    found = review_order(scores, order)
    assert sorted(found.tolist()) == list(range(37))
    assert (found == review_order(scores, order)).all()


def test_orders():
    scores = np.array([0.1, 0.9, 0.5, 0.55, 0.2])
    assert review_order(scores, "strongest").tolist() == [1, 3, 2, 4, 0]
    assert review_order(scores, "uncertain", threshold=0.54).tolist() == [3, 2, 4, 1, 0]


def test_any_beginning_of_a_stratified_review_is_like_the_whole():
    scores = np.random.default_rng(1).beta(0.3, 2, 1000)
    order = review_order(scores, "stratified")
    for count in (50, 100, 400):
        ranks = np.searchsorted(np.sort(scores), scores[order[:count]])
        assert np.bincount(ranks // 100, minlength=10).tolist() == [count // 10] * 10


def test_diverse_takes_a_clip_of_each_kind_before_a_second_one():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(5), 20)
    vectors = np.eye(5)[kinds] + 0.01 * rng.standard_normal((100, 5))
    vectors[7] = np.nan
    order = review_order(rng.random(100), "diverse", vectors=vectors)
    assert sorted(kinds[order[:5]].tolist()) == list(range(5))
    assert sorted(order.tolist()) == list(range(100))
    assert order[-1] == 7
    with pytest.raises(UserError, match="--embeddings"):
        review_order(np.ones(3), "diverse")


FILES = ["x/a.wav", "x/a.wav", "b.wav"]


@pytest.fixture
def detections(tmp_path):
    """An output of detect with two labels, a threshold, and three other tables."""
    folder = tmp_path / "found"
    events = Events.from_columns(FILES, [0, 3, 0], [3, 6, 3], ["owl", "=crow", "owl"], scores=[0.9, 0.6, 0.7])
    tables = write_events(events, folder, ["csv", "raven"], {"x/a.wav": 6.0, "b.wav": 3.0})
    (folder / "rates.csv").write_text("site,label\n")
    record = {
        "labels": ["owl", "=crow"],
        "thresholds": {"owl": {"value": 0.8, "origin": ""}, "=crow": {"value": None, "origin": ""}},
    }
    record["tables"] = {path.relative_to(folder).as_posix(): "" for path in tables}
    (folder / "detect.json").write_text(json.dumps(record))
    return folder


def test_detections_are_read_once_from_whichever_table_is_there(detections):
    found = open_candidates(detections)
    assert (len(found), found.threshold("owl"), found.threshold("=crow")) == (3, 0.8, 0.5)
    assert {label: len(rows) for label, rows in found.labels.items()} == {"owl": 2, "=crow": 1}
    assert len(open_candidates(detections, labels=["=crow"])) == 1
    with pytest.raises(UserError, match="did you mean 'owl'"):
        open_candidates(detections, labels=["owll"])
    (detections / "detections.csv").unlink()
    again = open_candidates(detections)
    assert again.events.scores.tolist() == pytest.approx(sorted([0.9, 0.6, 0.7], key=again.events.scores.tolist().index))
    assert len(again) == 3


def test_clips_that_no_table_can_hold_are_counted(tmp_path):
    table = tmp_path / "found.csv"
    table.write_text('file,start,end,label,score\na.wav,0,1,owl,0.5\na.wav,0,1,owl,0.5\na.wav,1,2,owl,\n"a\nb.wav",0,1,owl,0.5\n')
    found = open_candidates(table)
    assert (len(found), found.left_out) == (1, {"without a score": 1, "of files with such a name": 1, "given twice": 1})
    table.write_text("file,start,end,label\na.wav,0,1,owl\n")
    with pytest.raises(UserError, match="no scores"):
        open_candidates(table)


def test_recordings_are_opened_below_the_given_folder_only(tmp_path):
    (tmp_path / "audio").mkdir()
    for name in ("audio/a.wav", "secret.wav"):
        write_wav(tmp_path / name, np.zeros(1600, np.float32), 16_000)
    (tmp_path / "audio" / "link.wav").symlink_to(tmp_path / "secret.wav")
    table, inside = tmp_path / "found.csv", tmp_path / "audio"
    names = ["elsewhere/a.wav", str(tmp_path / "secret.wav"), "../secret.wav", "link.wav", "gone.wav"]
    table.write_text(
        "\n".join(["file,start,end,label,score", *(f"{name},0,0.1,owl,0.{row + 1}" for row, name in enumerate(names))])
    )
    found = open_candidates(table, audio=str(inside))
    assert found.recording(0) == inside / "a.wav"
    for row in (1, 2, 3):
        with pytest.raises(UserError, match="outside"):
            found.recording(row)
    with pytest.raises(UserError, match="missing"):
        found.recording(4)
