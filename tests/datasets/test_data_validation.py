"""Validation: every kind of bad audio is listed and left out, rows with impossible times too, and the report counts rightly."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import audio_cases
import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets import validation
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import content_hash, validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.stream import NO_ROW, window_batches

AUDIO = AudioConfig()
NAN = float("nan")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six files of one second, the last two with the same bytes."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for k in range(5):
        write_wav(root / f"{k}.wav", rng.uniform(-0.5, 0.5, 16_000).astype(np.float32), 16_000)
    shutil.copy(root / "4.wav", root / "5.wav")
    return [str(root / f"{k}.wav") for k in range(6)]


def test_every_kind_of_bad_file_is_listed_and_the_run_goes_on(tmp_path: Path, clips: list[str]) -> None:
    bad = audio_cases.write_bad_files(tmp_path / "bad")
    files = [clips[0], *map(str, bad), clips[1]]
    manifest = Manifest.from_columns(files, [["x"], *[["y"]] * len(bad), ["z"]])
    log = ErrorLog(tmp_path / "errors.csv")
    seen: list[tuple[int, int]] = []
    report = validate(manifest, DataConfig(), AUDIO, error_log=log, progress=lambda *at: seen.append(at))
    assert report.manifest.files.tolist() == [clips[0], clips[1]]
    assert report.labels == {"x": 1, "z": 1}
    assert report.files_given == len(files) == seen[-1][0] == seen[-1][1]
    reasons = {error.path: error.reason for error in report.errors}
    assert set(reasons) == set(bad)
    assert [path.name for path, word in bad.items() if word not in reasons[path]] == []
    with open(log.path, newline="", encoding="utf-8") as file:
        assert {Path(row["file"]): row["reason"] for row in csv.DictReader(file)} == reasons


def test_files_that_are_odd_but_good_pass_and_are_read(tmp_path: Path) -> None:
    good = audio_cases.write_odd_but_good_files(tmp_path)
    manifest = Manifest.from_columns([str(path) for path in good], [["xy"[k % 2]] for k in range(len(good))])
    data = DataConfig(window_seconds=1.0, batch_size=4, num_workers=1)
    report = validate(manifest, data, AUDIO)
    assert report.errors == ()
    np.testing.assert_allclose(report.manifest.metadata["seconds"], 1.0, atol=0.12)
    batches = list(window_batches(report.manifest, Grid(2.0), AUDIO, 4))
    assert all(batch.errors == () for batch in batches)
    lengths = np.concatenate([batch.lengths[batch.row != NO_ROW] for batch in batches])
    assert len(lengths) == len(good)
    np.testing.assert_allclose(lengths / 16_000, 1.0, atol=0.12)


def test_header_check_is_cheaper_and_knows_less(tmp_path: Path, clips: list[str]) -> None:
    write_wav(tmp_path / "silent.wav", np.zeros(16_000, np.float32), 16_000)
    manifest = Manifest.from_columns([*clips[:2], str(tmp_path / "silent.wav"), "gone.wav"], [["x"], ["y"], ["y"], ["y"]])
    assert [e.path.name for e in validate(manifest, DataConfig(check="header"), AUDIO).errors] == ["gone.wav"]
    assert sorted(e.path.name for e in validate(manifest, DataConfig(check="decode"), AUDIO).errors) == ["gone.wav", "silent.wav"]
    twins = Manifest.from_columns([clips[4], clips[5]], [["x"], ["y"]])
    reports = [validate(twins, DataConfig(check=how), AUDIO) for how in ("header", "decode")]
    assert [(report.content_compared, len(report.duplicate_files)) for report in reports] == [(False, 0), (True, 1)]


def test_classes_that_differ_in_case_or_spaces_are_named(clips: list[str]) -> None:
    labels = ["owl", "Owl", "wood  pigeon", "wood pigeon ", "cafe\u0301", "caf\u00e9"]
    report = validate(Manifest.from_columns(clips, [[name] for name in labels]), DataConfig(), AUDIO)
    assert report.similar_labels == (("Owl", "owl"), ("cafe\u0301", "caf\u00e9"), ("wood  pigeon", "wood pigeon "))
    assert "classes differ only in case or spaces: 'Owl' and 'owl'" in report.summary()
    assert len(report.labels) == 6  # said, not decided: which is right is for the user to say
    plain = validate(Manifest.from_columns(clips[:2], [["owl"], ["owls"]]), DataConfig(), AUDIO)
    assert plain.similar_labels == ()


def test_what_the_source_has_to_say_becomes_a_warning(clips: list[str]) -> None:
    manifest = Manifest.from_columns(clips[:2], [["x"], ["y"]], notes=["mind the folds"])
    assert "warning: mind the folds" in validate(manifest, DataConfig(), AUDIO).summary()


def test_strict_stops_at_the_first(tmp_path: Path, clips: list[str]) -> None:
    manifest = Manifest.from_columns([*clips[:2], "gone.wav"], [["x"], ["y"], ["y"]])
    with pytest.raises(UserError, match=r"gone\.wav: no such file"):
        validate(manifest, DataConfig(), AUDIO, strict=True)
    log = ErrorLog(tmp_path / "errors.csv", strict=True)
    with pytest.raises(UserError, match=r"gone\.wav: no such file"):
        validate(manifest, DataConfig(), AUDIO, error_log=log)
    assert {file for file, _ in log.rows()} == {"gone.wav"}


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (0.5, 0.5, "no length"),
        (0.7, 0.2, "ends before it starts"),
        (-0.1, 0.5, "starts before 0"),
        (1.0, NAN, "behind the end"),
        (3.0, 4.0, "behind the end"),
        (0.5, 0.51, "shorter than one frame"),
        (0.99, 5.0, "shorter than one frame"),
    ],
)
def test_impossible_rows_are_listed_and_left_out(clips: list[str], start: float, end: float, reason: str) -> None:
    manifest = Manifest.from_columns(
        [clips[0], clips[1], clips[1]], [["x"], ["y"], ["y"]], starts=[NAN, 0.0, start], ends=[NAN, 0.5, end]
    )
    report = validate(manifest, DataConfig(), AUDIO)
    assert report.manifest.files.tolist() == clips[:2]
    assert [(str(error.path), reason in error.reason) for error in report.errors] == [(clips[1], True)]


def test_rows_that_reach_behind_the_end_are_cut_and_counted(clips: list[str]) -> None:
    manifest = Manifest.from_columns(clips[:3], [["x"], ["y"], ["y"]], starts=[0, 0, 0], ends=[1.001, 5, float("inf")])
    report = validate(manifest, DataConfig(), AUDIO)
    assert len(report.manifest) == 3
    assert report.cut_rows == 2


def test_rows_given_twice(clips: list[str]) -> None:
    files = [clips[0], clips[1], clips[0], clips[0]]
    manifest = Manifest.from_columns(files, [["x"], ["y"], ["x"], ["x"]], starts=[NAN, NAN, 0.0, 0.5])
    report = validate(manifest, DataConfig(), AUDIO)
    assert report.manifest.files.tolist() == [clips[0], clips[1], clips[0]]
    assert report.repeated_rows == (clips[0],)
    conflict = Manifest.from_columns(files, [["x"], ["y"], ["z"], ["x"]])
    with pytest.raises(UserError, match=r"different labels: x and z; keep one row or set data\.multi_label"):
        validate(conflict, DataConfig(), AUDIO)
    merged = validate(conflict, DataConfig(multi_label=True), AUDIO).manifest
    assert [merged.labels[0], merged.labels[1]] == [("x", "z"), ("y",)]


@pytest.mark.parametrize(
    ("labels", "multi_label", "fine"),
    [
        ([["x"], ["x"]], False, False),
        ([["x"], ["y"]], False, True),
        ([["x"], []], True, True),
        ([["x"], ["x"]], True, False),
        ([[], []], True, False),
    ],
)
def test_one_class_is_not_enough(clips: list[str], labels: list[list[str]], multi_label: bool, fine: bool) -> None:
    manifest = Manifest.from_columns(clips[:2], labels)
    data = DataConfig(multi_label=multi_label)
    if fine:
        assert len(validate(manifest, data, AUDIO).manifest) == 2
        return
    with pytest.raises(UserError, match="usable classes"):
        validate(manifest, data, AUDIO)
    if any(labels):
        assert len(validate(manifest, data, AUDIO, min_classes=1).manifest) == 2


def test_nothing_usable() -> None:
    with pytest.raises(UserError, match=r"none of the 2 files can be used; the first error: a\.wav: no such file"):
        validate(Manifest.from_columns(["a.wav", "b.wav"], [["x"], ["y"]]), DataConfig(), AUDIO)
    with pytest.raises(UserError, match="no rows"):
        validate(Manifest.from_columns([], []), DataConfig(), AUDIO)


def test_files_with_the_same_bytes_share_a_split(clips: list[str]) -> None:
    assert content_hash(clips[4]) == content_hash(clips[5]) != content_hash(clips[3])
    manifest = Manifest.from_columns(clips, [["xy"[k % 2]] for k in range(6)])
    report = validate(manifest, DataConfig(), AUDIO)
    assert report.duplicate_files == ((clips[4], clips[5]),)
    for seed in range(5):
        split = assign_splits(report.manifest, DataConfig(split_seed=seed, train_split=0.5, val_split=0.0, test_split=0.5))
        assert split.splits[4] == split.splits[5]


def test_report_as_json_and_text(clips: list[str]) -> None:
    splits = ["train", "train", "train", "test", "train", "test"]
    manifest = Manifest.from_columns(
        [*clips, "gone.wav"], [["x"], ["x"], ["x"], ["y"], ["z"], ["z"], ["x"]], splits=[*splits, "val"]
    )
    report = validate(manifest, DataConfig(), AUDIO)
    plain = json.loads(report.to_json())
    assert plain["rows_given"] == 7
    assert plain["rows"] == 6
    assert plain["total_seconds"] == 6.0
    assert plain["sample_rates"] == {"16000": 6}
    assert plain["encodings"] == {"WAV PCM_16": 6}
    assert plain["labels"] == {"x": 3, "y": 1, "z": 2}
    assert plain["splits"] == {"train": {"x": 3, "z": 1}, "val": {}, "test": {"y": 1, "z": 1}}
    assert plain["errors"] == [{"file": "gone.wav", "reason": "no such file"}]
    assert plain["absent_from_training"] == {"test": ["y"]}
    assert plain["leaks"] == [{"kind": "content", "what": clips[4], "splits": ["train", "test"]}]
    text = report.summary()
    for part in ("6 of 7 rows", "single example: y", "absent from training: y", "gone.wav: no such file", "more than one split"):
        assert part in text


def test_report_follows_the_splits(clips: list[str]) -> None:
    manifest = Manifest.from_columns(clips, [["xy"[k % 2]] for k in range(6)])
    report = validate(manifest, DataConfig(), AUDIO)
    assert report.splits == {}
    split = report.manifest.with_splits(np.array(["train", "train", "train", "val", "train", "test"]))
    later = report.with_splits(split)
    assert later.split_rows == {"train": 4, "val": 1, "test": 1}
    assert [leak.kind for leak in later.leaks] == ["content"]


def test_the_number_of_workers_changes_nothing(clips: list[str]) -> None:
    manifest = Manifest.from_columns([*clips, "gone.wav", "away.wav"], [["xy"[k % 2]] for k in range(8)])
    one, four = (validate(manifest, replace(DataConfig(), num_workers=n), AUDIO) for n in (0, 4))
    assert one.to_json() == four.to_json()


def test_a_class_that_is_lost_is_named(tmp_path: Path, clips: list[str]) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    manifest = Manifest.from_columns([*clips[:3], str(tmp_path / "a.wav")], [["x"], ["y"], ["x"], ["bat"]])
    warnings = validate(manifest, DataConfig(), AUDIO).warnings
    assert "1 classes have no usable recording and are left out: bat" in warnings


def test_the_same_bytes_under_two_labels_are_named(clips: list[str]) -> None:
    labels = [["x"], ["y"], ["x"], ["y"], ["x"], ["y"]]
    report = validate(Manifest.from_columns(clips, labels), DataConfig(), AUDIO)
    assert report.disputed_files == (((clips[4], clips[5]), ("x", "y")),)
    assert f"1 groups of files have the same bytes and different labels: {clips[4]} = {clips[5]} (x and y)" in report.warnings
    labels[5] = ["x"]
    assert validate(Manifest.from_columns(clips, labels), DataConfig(), AUDIO).disputed_files == ()


@pytest.mark.parametrize(
    "surprise", [UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "odd tag"), RuntimeError("x"), KeyError("y"), OSError(22, "z")]
)
def test_a_surprise_of_a_decoder_is_the_files_line(
    clips: list[str], monkeypatch: pytest.MonkeyPatch, surprise: Exception
) -> None:
    whole = validation.survey

    def survey(path: str, **options: object) -> object:
        if path == clips[1]:
            raise surprise
        return whole(path, **options)

    monkeypatch.setattr(validation, "survey", survey)
    report = validate(Manifest.from_columns(clips[:3], [["x"], ["y"], ["y"]]), DataConfig(), AUDIO)
    assert [(str(error.path), error.reason.startswith("cannot be read: ")) for error in report.errors] == [(clips[1], True)]
    monkeypatch.setattr(validation, "survey", whole)
    with pytest.raises(UserError, match="channel"):  # a setting is no fault of the file
        validate(Manifest.from_columns(clips[:2], [["x"], ["y"]]), DataConfig(), replace(AUDIO, channel="٣"))
