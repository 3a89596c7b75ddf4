"""What has happened to a run's recordings since it began; expectations are written by hand."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig, experiment_from_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.loader import Batch
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.manifest_file import MANIFEST_FILES, read_manifest
from beats_jax.errors import UserError
from beats_jax.pipelines.measuring.seen_rows import known_to, remember_run, seen_figures, seen_notes
from beats_jax.pipelines.training.preparation import prepare_data, record_rows
from beats_jax.pipelines.training.recorded_rows import Changes, compare_rows, list_lost, require_enough
from beats_jax.pipelines.training.run import without_rows
from beats_jax.weights.seen import codes, seen_from_codes

RATE = 16_000


def validated(files, hashes, *, labels="x", seconds=1.0, **columns):
    """Rows as validation gives them."""
    manifest = Manifest.from_columns(files, [[label] for label in labels * len(files)][: len(files)], **columns)
    return manifest.with_metadata(
        seconds=np.full(len(files), seconds), file_hash=np.array(hashes, np.dtypes.StringDType())
    )  # fmt: skip


def test_every_kind_of_change_is_told_apart():
    recorded = validated(["same", "gone", "broken", "other", "moved"], ["1", "2", "3", "4", "5"], starts=[0.0] * 5)
    found = Manifest.from_columns(["same", "broken", "other", "moved", "new"], [["x"]] * 5)
    now = validated(["same", "other", "moved", "new"], ["1", "44", "5", "6"], starts=[0.0, 0.0, 0.25, 0.0])
    changes = compare_rows(recorded, found, now, DataConfig())
    assert changes == Changes(5, ("gone",), ("broken",), ("other",), ("moved",), ("new",))
    assert changes.lost == ("gone", "broken", "other")
    assert [note.split(":")[1] for note in changes.notes] == [" gone", " broken", " other", " moved", " 1 (new)"]
    assert changes.notes[0] == "1 of 5 recordings gone since the run began: gone"


def test_nothing_is_said_where_nothing_has_changed():
    recorded = validated(["a", "b"], ["1", "2"], splits=["train", "test"], ends=[np.nan, 0.1 + 0.2])
    assert compare_rows(recorded, recorded, recorded, DataConfig()) == Changes(2)
    drawn = recorded.with_splits(np.array(["", ""]))  # splits that the data does not name are the run's own
    assert compare_rows(recorded, drawn, drawn, DataConfig()).notes == ()


@pytest.mark.parametrize(
    ("recorded", "now", "data"),
    [
        ({"splits": ["train"]}, {"splits": ["test"]}, {}),
        ({"metadata": {"fold": ["1"]}}, {"metadata": {"fold": ["2"]}}, {"fold": "1"}),
        ({"labels": "x"}, {"labels": "y"}, {}),
        ({"ends": [1.0]}, {"ends": [2.0]}, {}),
    ],
)
def test_rows_described_otherwise(recorded, now, data):
    before, after = (validated(["a"], ["1"], **columns) for columns in (recorded, now))
    assert compare_rows(before, after, after, DataConfig(**data)).described == ("a",)
    drawn = DataConfig(fold="1", num_folds=2)  # folds that the run has drawn are its own
    assert compare_rows(before, after, after, drawn).described == (() if "metadata" in now or "splits" in now else ("a",))


def test_without_hashes_the_duration_tells():
    before, after = validated(["a"], [""], seconds=1.0), validated(["a"], [""], seconds=1.5)
    assert compare_rows(before, after, after, DataConfig()).changed == ("a",)
    assert compare_rows(before, before, before, DataConfig()).changed == ()


def test_more_than_a_fifth_lost_is_refused(tmp_path):
    require_enough(Changes(10, gone=("a",), changed=("b",)))
    with pytest.raises(UserError, match=r"3 of the 10 recordings of this run have gone or changed .*\(a, b, c\), more than 20%"):
        require_enough(Changes(10, gone=("a",), unreadable=("b",), changed=("c",)))
    errors = ErrorLog(tmp_path / "errors.csv")
    list_lost(Changes(10, gone=("a",), changed=("b",)), errors)
    assert errors.rows()[0] == ("a", "has gone since the run began")
    assert errors.rows()[1][0] == "b"
    with pytest.raises(UserError, match="has gone"):
        list_lost(Changes(10, gone=("a",)), ErrorLog(tmp_path / "strict.csv", strict=True))


def test_masked_rows_keep_the_others_in_place():
    arrays = {
        "rows": np.array([2, 0, 1], np.int32),
        "waveforms": np.arange(1.0, 7.0, dtype=np.float32).reshape(3, 2),
        "lengths": np.array([2, 2, 1], np.int32),
        "example_mask": np.array([True, True, False]),
        "positions": np.array([0, 1, 2], np.int32),
        "labeled_rows": np.array([1, 2], np.int32),
        "labeled_labels": np.array([[1, 1], [1, 0]], np.float32),
    }
    before = {name: array.copy() for name, array in arrays.items()}
    (batch,) = without_rows((batch for batch in [Batch(arrays, ())]), np.array([False, False, True]))
    assert batch.arrays["waveforms"].tolist() == [[0, 0], [3, 4], [5, 6]]
    assert batch.arrays["lengths"].tolist() == [0, 2, 1]
    assert batch.arrays["example_mask"].tolist() == [False, True, False]
    assert batch.arrays["labeled_labels"].tolist() == [[1, 1], [0, 0]]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])  # those of the loader are left alone
        assert batch.arrays[name].dtype == array.dtype


@pytest.fixture
def recordings(tmp_path):
    """A folder of two classes with ten short tones each, and the experiment that reads it."""
    root = tmp_path / "recordings"
    for label, pitch in (("owl", 400), ("wren", 1500)):
        (root / label).mkdir(parents=True)
        for k in range(10):
            wave = 0.2 * np.sin(2 * np.pi * (pitch + 37 * k) * np.arange(RATE // 4) / RATE)
            write_wav(root / label / f"{k}.wav", wave.astype(np.float32), RATE)
    data = {
        "source": "folder",
        "root": str(root),
        "window_seconds": 0.25,
        "train_split": 0.5,
        "val_split": 0.2,
        "test_split": 0.3,
    }
    return root, experiment_from_mapping({"name": "kept", "data": data})


def begun(experiment, run):
    """The splits of a run that has begun: file -> split."""
    run.mkdir()
    manifest = prepare_data(experiment, run, strict=False).manifest
    (run / "history.jsonl").touch()
    return dict(zip(manifest.files.tolist(), manifest.splits.tolist(), strict=True))


def tone(path, pitch):
    """Another sound in a file."""
    write_wav(path, (0.3 * np.sin(2 * np.pi * pitch * np.arange(RATE // 4) / RATE)).astype(np.float32), RATE)


def test_a_run_keeps_its_rows_whatever_the_folder_holds(recordings, tmp_path):
    root, experiment = recordings
    splits = begun(experiment, tmp_path / "run")
    gone = next(file for file, split in splits.items() if split == "train")
    learnt, tested = [[f for f, s in splits.items() if s == name and f != gone][0] for name in ("train", "test")]  # noqa: RUF015
    shutil.move(gone, tmp_path / "away.wav")
    tone(root / "owl" / "new.wav", 700)
    for file in (learnt, tested):
        tone(file, 5000)
    data = prepare_data(experiment, tmp_path / "run", strict=False)
    kept = dict(zip(data.manifest.files.tolist(), data.manifest.splits.tolist(), strict=True))
    assert kept == {file: split for file, split in splits.items() if file != tested}  # what has changed is not measured
    order = [file for file in splits if splits[file] == "train"]
    assert data.manifest.split("train").files.tolist() == order  # rows of gone and changed files are where they were
    assert data.changed == {learnt, tested}
    assert data.has_changed(data.manifest.split("train")).tolist() == [file == learnt for file in order]
    listed = dict(data.errors.rows())
    assert set(listed) == {gone, learnt, tested}
    assert "has gone" in listed[gone]
    printed = data.report.summary()
    for name in (gone, learnt, tested, str(root / "owl" / "new.wav")):
        assert name in printed
    assert f"added since the run began, and are not used: 1 ({root / 'owl' / 'new.wav'})" in printed


def test_nothing_changes_where_nothing_has_changed(recordings, tmp_path):
    _, experiment = recordings
    (tmp_path / "run").mkdir()
    first = prepare_data(experiment, tmp_path / "run", strict=False)
    before = {name: (tmp_path / "run" / name).read_bytes() for name in MANIFEST_FILES}
    again = prepare_data(experiment, tmp_path / "run", strict=False)
    assert again.report.to_json() == first.report.to_json()
    assert again.vocabulary == first.vocabulary
    for name in ("files", "splits", "starts", "ends", "groups"):
        np.testing.assert_array_equal(getattr(again.manifest, name), getattr(first.manifest, name))
    np.testing.assert_array_equal(again.manifest.labels.ids, first.manifest.labels.ids)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in MANIFEST_FILES} == before


def test_a_lost_class_is_refused_by_the_share_that_is_lost(recordings, tmp_path):
    root, experiment = recordings
    begun(experiment, tmp_path / "run")
    shutil.rmtree(root / "owl")
    with pytest.raises(UserError, match=r"10 of the 20 recordings of this run have gone or changed since it began"):
        prepare_data(experiment, tmp_path / "run", strict=False)
    assert (tmp_path / "run" / "errors.csv").read_text() == "file,reason\n"


def test_drawn_folds_are_kept(recordings, tmp_path):
    root, experiment = recordings
    every = replace(experiment, data=replace(experiment.data, fold="all", num_folds=3))
    (tmp_path / "run").mkdir()
    first = prepare_data(every, tmp_path / "run", strict=False).manifest
    (root / "wren" / "3.wav").unlink()
    tone(root / "wren" / "new.wav", 900)
    again = prepare_data(every, tmp_path / "run", strict=False).manifest
    assert again.files.tolist() == first.files.tolist()
    assert again.metadata["fold"].tolist() == first.metadata["fold"].tolist()
    assert len(set(first.metadata["fold"].tolist())) == 3


def test_roles_and_unlabelled_rows_are_kept(recordings, tmp_path):
    """A run without labels has no classes; its held-out clips stay in place though one has changed."""
    root, _ = recordings
    settings = {"data": {"source": "recordings", "root": str(root), "window_seconds": 0.25}}
    unlabelled = experiment_from_mapping({**settings, "objective": {"name": "eat"}, "model": {"family": "eat"}})
    splits = begun(unlabelled, tmp_path / "run")
    held = next(file for file, split in splits.items() if split == "val")
    tone(held, 5000)
    data = prepare_data(unlabelled, tmp_path / "run", strict=False)
    assert dict(zip(data.manifest.files.tolist(), data.manifest.splits.tolist(), strict=True)) == splits
    assert held in data.report.summary()


def test_a_run_of_a_version_that_recorded_no_rows_says_so(recordings, tmp_path):
    _, experiment = recordings
    begun(experiment, tmp_path / "run")
    for name in MANIFEST_FILES:
        (tmp_path / "run" / name).unlink()
    assert "did not record its rows" in prepare_data(experiment, tmp_path / "run", strict=False).report.summary()
    assert "did not record its rows" not in prepare_data(experiment, tmp_path / "run", strict=False).report.summary()


def test_the_rows_of_a_run_are_written_once_and_by_the_first_process(tmp_path, monkeypatch):
    rows = Manifest.from_columns(["a"], [["x"]])
    monkeypatch.setattr("jax.process_index", lambda: 1)
    record_rows(tmp_path, rows)
    assert read_manifest(tmp_path) is None
    monkeypatch.setattr("jax.process_index", lambda: 0)
    record_rows(tmp_path, rows)
    record_rows(tmp_path, Manifest.from_columns(["b"], [["x"]]))
    found = read_manifest(tmp_path)
    assert found is not None
    assert found.files.tolist() == ["a"]
    assert json.loads((tmp_path / MANIFEST_FILES[1]).read_text())["rows"] == 1


def test_what_is_said_of_a_start(tmp_path):
    """A run of ours without a memory may have seen anything, and says so; published weights are no run."""
    rows = validated(["a", "b"], ["1" * 32, "2" * 32])
    (tmp_path / "experiment.json").write_text("{}")
    assert "has no record of what it was trained on" in seen_notes(tmp_path, None, rows, "test rows")[0]
    assert seen_notes("BEATs_iter3", None, rows, "test rows") == []
    knows = seen_from_codes(codes(["2" * 32]), codes(["1" * 32]))
    (note,) = seen_notes(tmp_path, knows, rows, "test rows")
    assert "was trained on 1 of the 2 test rows" in note
    assert note.endswith(": b")
    assert (
        seen_notes(tmp_path, seen_from_codes(codes(["3" * 32]), codes(["1" * 32])), rows, "test rows") == []
    )  # chosen by is not trained on
    assert seen_figures(knows, rows) == {"rows_seen_in_training": 1}
    assert seen_figures(None, rows) == {}
    assert seen_figures(knows, validated(["a"], [""])) == {}  # without hashes nothing can be counted


def test_a_copy_of_a_recording_is_known_by_the_sound_it_shares():
    """Validation gives a copy at another level the `content` of the first one; either hash is enough."""
    rows = validated(["loud", "quiet"], ["a" * 32, "b" * 32], splits=["train", "train"])
    rows = rows.with_metadata(content=np.array(["a" * 32, "a" * 32], np.dtypes.StringDType()))
    seen = remember_run(rows, None)
    assert seen.trained.tolist() == [0xAAAAAAAAAAAAAAAA, 0xBBBBBBBBBBBBBBBB]
    assert known_to(seen, validated(["x"], ["b" * 32])).tolist() == [True]
