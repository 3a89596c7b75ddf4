"""TFDS folders: written and read back by TFDS itself and by us, windows and training batches as from the files, no TensorFlow."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from beats_jax.audio.decoding.tfds_records import Address, RecordDecoder, is_record, open_folder, parse_address
from beats_jax.audio.io import AudioError, audio_info, read, stream, write_wav
from beats_jax.audio.survey import survey
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.frames import csv_text, frame_from_manifest
from beats_jax.datasets.loader import Examples, training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.splits import assign_splits, leakage
from beats_jax.datasets.tfds.writer import write_tfds
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed: pip install 'beats-jax[tfds]'")
AUDIO = AudioConfig()
DATA = DataConfig(window_seconds=0.25, batch_size=4, num_workers=2)
RATES = (16_000, 22_050, 44_100, 8_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight mono 16 bit files at four rates, 0.3 to 0.65 s."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    paths = [root / f"site{k % 2}" / f"{k}.wav" for k in range(8)]
    for k, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write_wav(path, rng.uniform(-1, 1, round((0.3 + 0.05 * k) * RATES[k % 4])).astype(np.float32), RATES[k % 4])
    return paths


@pytest.fixture(scope="module")
def manifest(files: list[Path]) -> Manifest:
    splits = ["train"] * 5 + ["val", "test", "test"]
    return Manifest.from_columns(
        [str(path) for path in files],
        [[("owl", "wren")[k % 3 > 0]] for k in range(8)],
        splits=splits,
        groups=["", "", "g", "g", "", "", "", ""],
        metadata={"fold": [str(k % 2 + 1) for k in range(8)]},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> Path:
    return write_tfds(manifest, DATA, AUDIO, tmp_path_factory.mktemp("tfds"), "calls")


def load_folder(folder: Path, **settings: Any) -> Manifest:
    return load_manifest(DataConfig(source="tfds", root=str(folder), **settings), workdir=folder)


def test_others_read_it(folder: Path, files: list[Path]) -> None:
    assert folder.parts[-2:] == ("calls", "1.0.0")
    source = tfds.data_source("calls", data_dir=folder.parent.parent, split="train", download=False)
    assert len(source) == 5
    samples, rate = soundfile.read(files[1], dtype="int16")
    np.testing.assert_array_equal(source[1]["audio"], samples)
    assert source[1]["sample_rate"] == rate == 22_050
    assert source[1]["file"] == b"site1/1.wav"
    assert [source[k]["group"] for k in range(4)] == [b"site0/0.wav", b"site1/1.wav", b"g", b"g"]
    builder = tfds.builder_from_directory(folder)
    assert builder.info.features["label"].names == ["owl", "wren"]
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 5, "val": 1, "test": 2}
    described = "".join(path.read_text() for path in folder.glob("*.json")) + "".join(str(record) for record in source)
    assert str(files[0].parent.parent) not in described  # nothing tells where it was made


def test_we_read_it(folder: Path, manifest: Manifest) -> None:
    back = load_folder(folder)
    assert [back.labels[row] for row in range(8)] == [manifest.labels[row] for row in range(8)]
    assert back.splits.tolist() == manifest.splits.tolist()
    assert back.metadata["fold"].tolist() == manifest.metadata["fold"].tolist()
    assert back.metadata["file"][2] == "site0/2.wav"
    assert back.groups[2] == back.groups[3] == "g"
    assert str(back.files[6]) == f"tfds:{folder}/test#0"
    data = replace(DATA, trim_below_dbfs=-60.0)
    report = validate(back, data, AUDIO)
    assert report.errors == ()
    assert report.sample_rates == {"8000": 2, "16000": 2, "22050": 2, "44100": 2}
    assert report.encodings == {"TFDS int16": 8}
    np.testing.assert_allclose(report.manifest.metadata["seconds"], 0.3 + 0.05 * np.arange(8), atol=1e-4)
    assert len(set(report.manifest.metadata["content"].tolist())) == 8
    assert assign_splits(report.manifest, data).splits.tolist() == manifest.splits.tolist()


@pytest.mark.parametrize("row", range(4))
def test_windows_are_those_of_the_file(folder: Path, files: list[Path], row: int) -> None:
    address = f"tfds:{folder}/train#{row}"
    for settings in ({}, {"start_seconds": 0.1, "seconds": 0.15}, {"start_seconds": 0.25, "seconds": 9.0}):
        np.testing.assert_array_equal(
            read(address, sample_rate=16_000, **settings), read(files[row], sample_rate=16_000, **settings)
        )
    assert audio_info(address).frames == survey(Path(address)).info.frames == audio_info(files[row]).frames
    for (at, window), (start, other) in zip(
        stream(address, sample_rate=8000, window_seconds=0.1),
        stream(files[row], sample_rate=8000, window_seconds=0.1),
        strict=True,
    ):
        assert at == start
        np.testing.assert_array_equal(window, other)


def test_batches_are_those_of_the_files(folder: Path, manifest: Manifest) -> None:
    vocabulary = LabelVocabulary(("owl", "wren"))
    makers = [validate(rows, DATA, AUDIO).manifest.split("train") for rows in (manifest, load_folder(folder))]
    streams = [training_batches(rows, vocabulary, DATA, AUDIO, seed=3) for rows in makers]
    for _ in range(3):
        ours, theirs = (next(batches) for batches in streams)
        assert ours.errors == theirs.errors == ()
        for name in ours.arrays:
            np.testing.assert_array_equal(ours.arrays[name], theirs.arrays[name])
    for batches in streams:
        batches.close()


def test_a_stretch_of_a_recording_becomes_a_record(tmp_path: Path, files: list[Path]) -> None:
    rows = Manifest.from_columns([str(files[7])] * 2, [["owl"], ["wren"]], starts=[float("nan"), 0.2], ends=[0.2, 0.5])
    back = load_folder(write_tfds(rows, DATA, AUDIO, tmp_path, "stretches"))
    whole = read(files[7], sample_rate=8000)
    np.testing.assert_array_equal(read(back.files[0], sample_rate=8000), whole[:1600])
    np.testing.assert_array_equal(read(back.files[1], sample_rate=8000), whole[1600:4000])
    assert back.splits.tolist() == ["", ""]  # one split is none: it is drawn, and the recording stays on one side
    assert set(back.groups.tolist()) == {"7.wav"}
    assert leakage(assign_splits(back, DataConfig(train_split=0.5, val_split=0.0, test_split=0.5))) == ()


def test_float32_keeps_what_int16_cannot(tmp_path: Path) -> None:
    waveform = np.array([1e-6, 1.5, -1.5, *np.linspace(-0.9, 0.9, 500)], np.float32)
    write_wav(tmp_path / "a.wav", waveform, 16_000, "FLOAT")
    rows = Manifest.from_columns([str(tmp_path / "a.wav")] * 2, [["owl"], ["wren"]], starts=[0.0, 0.001])
    exact = load_folder(write_tfds(rows, DATA, AUDIO, tmp_path, "exact", dtype="float32"))
    np.testing.assert_array_equal(read(exact.files[0], sample_rate=16_000), waveform)
    near = read(load_folder(write_tfds(rows, DATA, AUDIO, tmp_path, "near")).files[0], sample_rate=16_000)
    np.testing.assert_allclose(near, np.clip(waveform, -1, 1 - 2**-15), atol=2**-16)


def test_several_labels(tmp_path: Path, files: list[Path]) -> None:
    data = replace(DATA, multi_label=True)
    rows = Manifest.from_columns([str(path) for path in files[:3]], [["owl", "rain, heavy"], [], ["owl"]])
    back = load_folder(write_tfds(rows, data, AUDIO, tmp_path, "scenes"), multi_label=True)
    assert [back.labels[row] for row in range(3)] == [("owl", "rain, heavy"), (), ("owl",)]
    report = validate(back, data, AUDIO)
    examples = Examples(report.manifest, LabelVocabulary(("owl", "rain, heavy")), data, AUDIO)
    drawn = [examples.draw((row, row), np.random.default_rng(0)) for row in range(3)]
    np.testing.assert_array_equal([example["labels"] for example in drawn], [[1, 1], [0, 0], [1, 0]])
    with pytest.raises(UserError, match=r"has 2 labels; set data\.multi_label=True"):
        write_tfds(rows, DATA, AUDIO, tmp_path, "refused")


def test_written_again_and_as_a_table(tmp_path: Path, folder: Path) -> None:
    back = load_folder(folder)
    again = load_folder(write_tfds(back, DATA, AUDIO, tmp_path, "again", version="2.0.1"))
    assert again.metadata["file"].tolist() == back.metadata["file"].tolist()
    np.testing.assert_array_equal(read(again.files[4], sample_rate=16_000), read(back.files[4], sample_rate=16_000))
    (tmp_path / "rows.csv").write_text(csv_text(frame_from_manifest(back)))
    data = DataConfig(source="csv", metadata_file=str(tmp_path / "rows.csv"))
    assert load_manifest(data, workdir=tmp_path).files.tolist() == back.files.tolist()


def test_damage_is_one_bad_row(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "calls" / "1.0.0"
    shutil.copytree(folder, copy)
    back = load_folder(copy)
    (copy / "calls-test.array_record-00000-of-00001").write_bytes(b"\0" * 70_000)
    report = validate(back, DATA, AUDIO)
    assert [(str(error.path), error.reason.split(":")[0]) for error in report.errors] == [
        (f"tfds:{copy}/test#{k}", "record cannot be read") for k in range(2)
    ]
    assert len(report.manifest) == 6
    shutil.rmtree(copy)
    with pytest.raises(AudioError, match="no such data set"):
        read(back.files[0], sample_rate=16_000)
    with pytest.raises(AudioError, match="record cannot be read"):
        read(f"tfds:{folder}/train#5", sample_rate=16_000)


def write_foreign(directory: Path, name: str, features: dict[str, Any], splits: dict[str, list[dict[str, Any]]]) -> Path:
    """A data set as others make it, by TFDS's own builder."""
    from beats_jax.datasets.tfds.writer import _builder, _prepare

    builder = _builder(tfds, name, "1.0.0", features, {split: iter(enumerate(rows)) for split, rows in splits.items()})
    _prepare(tfds, builder(data_dir=str(directory), file_format="array_record"))
    return directory / name / "1.0.0"


def tone(samples: int = 800, dtype: Any = np.int16) -> np.ndarray:
    return (np.sin(np.arange(samples)) * 10_000).astype(dtype)


def test_a_data_set_of_others(tmp_path: Path) -> None:
    kinds = tfds.features
    features = {
        "waveform": kinds.Tensor(shape=(None, 2), dtype=np.int16),
        "species": kinds.Text(),
        "site": kinds.Scalar(np.int64),
        "height": kinds.Scalar(np.float32),
    }
    rows = [
        {"waveform": np.stack([tone(), -tone()], 1), "species": name, "site": 7, "height": 1.5} for name in ("owl", "wren", "")
    ]
    folder = write_foreign(tmp_path, "stereo", features, {"train": rows, "unlabelled": rows[:1], "validation": rows[:1]})
    settings = {"audio_column": "waveform", "label_column": "species", "group_column": "site"}
    with pytest.raises(UserError, match=r"sample rate .* set data\.tfds_sample_rate"):
        load_folder(folder, **settings)
    back = load_folder(folder, tfds_sample_rate=4000, **settings)
    assert [(str(back.splits[k]), back.labels[k], str(back.groups[k])) for k in range(3)] == [
        ("train", ("owl",), "7"),
        ("train", ("wren",), "7"),
        ("val", ("owl",), "7"),
    ]
    assert back.metadata["height"].tolist() == ["1.5"] * 3
    assert [error.reason for error in back.errors] == ["the record has no label"]
    assert back.notes == ("splits of stereo that are left out: unlabelled (1 records)",)
    info = audio_info(back.files[0])
    assert (info.sample_rate, info.channels, info.frames) == (4000, 2, 800)
    np.testing.assert_allclose(read(back.files[0], sample_rate=4000, channel="1"), -tone() / 2**15)
    with pytest.raises(UserError, match=r"no feature 'filename' or 'audio'; name one with data\.audio_column"):
        load_folder(folder, tfds_sample_rate=4000)


@pytest.mark.parametrize("dtype", ["int16", "int64"])
def test_the_feature_audio_of_the_catalogue_needs_no_tensorflow(tmp_path: Path, dtype: str) -> None:
    """TFDS refuses such a folder without TensorFlow; on disk its sound is the tensor that is written here."""
    kinds = tfds.features
    features = {"audio": kinds.Tensor(shape=(None,), dtype=np.dtype(dtype)), "label": kinds.ClassLabel(names=["owl", "wren"])}
    rows = [{"audio": tone(dtype=dtype), "label": label} for label in (0, 1, 0, -1)]
    folder = write_foreign(tmp_path, "catalogue", features, {"train": rows})
    described = json.loads((folder / "features.json").read_text())
    described["featuresDict"]["features"]["audio"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {"dtype": dtype, "encoding": "none", "sampleRate": "8000", "shape": {"dimensions": ["-1"]}},
    }
    (folder / "features.json").write_text(json.dumps(described))
    back = load_folder(folder.parent)
    assert back.labels.counts() == {"owl": 2, "wren": 1}
    assert [str(error.path) for error in back.errors] == [f"tfds:{folder}/train#3?rate=8000"]
    assert audio_info(back.files[1]).sample_rate == 8000
    np.testing.assert_allclose(read(back.files[1], sample_rate=8000), tone() / 2**15)
    described["featuresDict"]["features"]["audio"]["audio"]["lazyDecode"] = True
    (folder / "features.json").write_text(json.dumps(described))
    open_folder.cache_clear()
    with pytest.raises(UserError, match="lazy_decode"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("samples", "waveform"),
    [
        (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
        (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
        (np.array([-(2**15), 2**14], np.int64), [-1, 0.5]),
        (np.array([-1.5, 0.25], np.float64), [-1.5, 0.25]),
        (np.array([[1, -1], [0.5, 0]], np.float32), [[1, -1], [0.5, 0]]),
    ],
)
def test_scale_of_stored_samples(samples: np.ndarray, waveform: list) -> None:
    decoder = RecordDecoder(Path("x"), samples, 8000)
    blocks = np.concatenate(list(decoder.blocks(0, len(samples))))
    np.testing.assert_array_equal(blocks, np.array(waveform, np.float32).reshape(len(samples), -1))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([40_000], np.int64), "beyond 16 bit"),
        (np.array([b"RIFF"]), "is no sound"),
        (np.array([True]), "is no sound"),
        (np.float32(1), "is no sound"),
    ],
)
def test_what_is_no_sound(samples: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        RecordDecoder(Path("x"), samples, 8000)


def test_addresses() -> None:
    for address in (Address("/a#b/1.0.0", "train", 3), Address("/a", "t", 0, "wave form", 44_100)):
        assert is_record(Path(str(address)))
        assert parse_address(Path(str(address))) == address
    assert not is_record("/data/tfds/a.wav")
    for wrong in ("tfds:", "tfds:/a/b", "tfds:/a/b#x", "tfds:/a#1", "tfds:/a/b#1?rate=x"):
        with pytest.raises(AudioError, match="no address"):
            parse_address(wrong)


def test_which_data_set_of_a_folder(tmp_path: Path, folder: Path) -> None:
    for place in ("calls/1.0.0", "calls/1.10.0", "calls/1.9.0", "other/small/1.0.0", "incomplete.X_1.0.0"):
        shutil.copytree(folder, tmp_path / place)
    assert source_at(folder) == "tfds"
    newest = load_folder(tmp_path / "calls")
    assert "/calls/1.10.0/" in newest.files[0]
    assert "/calls/1.9.0/" in load_folder(tmp_path, tfds_name="calls:1.9.0").files[0]
    assert "/other/small/1.0.0/" in load_folder(tmp_path, tfds_name="other/small").files[0]
    for settings, message in (
        ({}, "several data sets; set data.tfds_name to one of calls, other/small"),
        ({"tfds_name": "cals"}, "did you mean 'calls'"),
        ({"tfds_name": "calls:2.0.0"}, "the known versions are 1.0.0, 1.9.0, 1.10.0"),
    ):
        with pytest.raises(UserError, match=message):
            load_folder(tmp_path, **settings)
    with pytest.raises(UserError, match="holds no data set of TFDS"):
        load_folder(folder.parent.parent.parent / "nowhere")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Owls-1", {}, "lower case letters"),
        ("owls", {"version": "1"}, "three numbers"),
        ("owls", {"dtype": "int8"}, "allowed: int16, float32"),
        ("taken", {}, "exists; give another name"),
    ],
)
def test_requests_that_are_refused(tmp_path: Path, manifest: Manifest, name: str, settings: dict, message: str) -> None:
    (tmp_path / "taken" / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        write_tfds(manifest, DATA, AUDIO, tmp_path, name, **settings)


def test_rows_that_are_refused_leave_nothing(tmp_path: Path, manifest: Manifest) -> None:
    half = manifest.with_splits(np.array([*manifest.splits.tolist()[:-1], ""]))
    gone = Manifest.from_columns([*manifest.files.tolist(), str(tmp_path / "gone.wav")], [["owl"]] * 9)
    for rows, message in (
        (half, "1 of 8 rows have no split"),
        (manifest.take([]), "no rows"),
        (gone, r"gone\.wav: no such file"),
        (manifest.with_metadata(label=manifest.metadata["fold"]), "metadata label has the names of features"),
    ):
        with pytest.raises(UserError, match=message):
            write_tfds(rows, DATA, AUDIO, tmp_path, "owls")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_other_formats_are_refused(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "calls" / "1.0.0"
    shutil.copytree(folder, copy)
    info = copy / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(UserError, match="format tfrecord"):
        load_folder(copy)
    (copy / "features.json").write_text("{")
    open_folder.cache_clear()
    with pytest.raises(UserError, match="no folder of TFDS that can be read"):
        load_folder(copy)


def test_without_tensorflow(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from beats_jax.config.schema import DataConfig\n"
        "from beats_jax.datasets.sources import load_manifest; from beats_jax.audio.io import read\n"
        f"m = load_manifest(DataConfig(source='tfds', root={str(folder)!r}), workdir=Path())\n"
        "print(len(read(m.files[0], sample_rate=16000)), 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["4800", "False", "False"]
    assert output.stderr == ""
