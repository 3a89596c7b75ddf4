"""Columns of times, splits, groups and labels: found by every door, said, overruled and switched off."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beats_jax.api.trainer import BEATsTrainer
from beats_jax.config import BEATsConfig
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets import load_csv_dataset, validate_dataset
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.columns import number
from beats_jax.datasets.sources.frame import manifest_from_frame
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError

Tree = Callable[[Path, dict[str, float]], None]
ROWS = [
    ("a.wav", 0.0, 0.25, "owl", "train", "s1"),
    ("a.wav", 0.25, 0.5, "owl", "train", "s1"),
    ("b.wav", 0.1, 0.4, "wren", "test", "s2"),
]
NAMES = {
    "plain": ("start", "end", "split", "group"),
    "opensoundscape": ("start_time", "end_time", "Split", "Group"),
    "BirdNET": ("Start (s)", "End (s)", "split", "group"),
    "Raven": ("Begin Time (s)", "End Time (s)", "split", "group"),
    "DCASE": ("onset", "offset", "split", "group"),
    "seconds": ("start_seconds", "end [s]", "SPLIT", "GROUP"),
}


@pytest.fixture
def recordings(tmp_path: Path, write_tree: Tree) -> Path:
    write_tree(tmp_path, {"a.wav": 0.5, "b.wav": 0.6})
    return tmp_path


def frame_of(names: tuple[str, ...] = NAMES["plain"], label: str = "label") -> pd.DataFrame:
    start, end, split, group = names
    return pd.DataFrame(ROWS, columns=["filename", start, end, label, split, group])


def by_csv(folder: Path, frame: pd.DataFrame) -> Manifest:
    frame.to_csv(folder / "t.csv", index=False)
    return load_manifest(DataConfig(source="csv", metadata_file=str(folder / "t.csv")), workdir=folder)


def by_frame(folder: Path, frame: pd.DataFrame) -> Manifest:
    return manifest_from_frame(frame, DataConfig(root=str(folder)))


def by_loader(folder: Path, frame: pd.DataFrame) -> Manifest:
    frame.to_csv(folder / "t.csv", index=False)
    return manifest_from_frame(load_csv_dataset(folder / "t.csv"), DataConfig())


def by_from_csv(folder: Path, frame: pd.DataFrame) -> Manifest:
    frame.to_csv(folder / "t.csv", index=False)
    trainer = BEATsTrainer.from_csv(folder / "t.csv", model_config=BEATsConfig())
    return load_manifest(trainer.experiment.data, workdir=folder)


def by_from_dataframe(folder: Path, frame: pd.DataFrame) -> Manifest:
    trainer = BEATsTrainer.from_dataframe(frame, data_dir=folder, model_config=BEATsConfig())
    return load_manifest(trainer.experiment.data, workdir=folder)


DOORS = (by_csv, by_frame, by_loader, by_from_csv, by_from_dataframe)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("label", ["label", "category"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_every_door_finds_the_columns_and_says_so(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, door: Callable, label: str, names: tuple[str, ...]
) -> None:
    monkeypatch.chdir(recordings)
    manifest = door(recordings, frame_of(names, label))
    np.testing.assert_array_equal(manifest.starts, [0, 0.25, 0.1])
    np.testing.assert_array_equal(manifest.ends, [0.25, 0.5, 0.4])
    assert manifest.splits.tolist() == ["train", "train", "test"]
    assert manifest.groups.tolist() == ["s1", "s1", "s2"]
    assert [manifest.labels[row][0] for row in range(3)] == ["owl", "owl", "wren"]
    assert len(manifest.notes) == 1
    assert all(name in manifest.notes[0] for name in names)


@pytest.mark.parametrize("door", [by_csv, by_frame])
def test_a_setting_wins_and_none_switches_off(recordings: Path, door: Callable) -> None:
    frame = frame_of().assign(t0=[0.1, 0.2, 0.3])
    frame.to_csv(recordings / "t.csv", index=False)
    data = DataConfig(
        source="csv", metadata_file=str(recordings / "t.csv"), root=str(recordings), start_column="t0", end_column="none",
        split_column="none", group_column="none",
    )  # fmt: skip
    manifest = load_manifest(data, workdir=recordings) if door is by_csv else manifest_from_frame(frame, data)
    np.testing.assert_array_equal(manifest.starts, [0.1, 0.2, 0.3])
    assert np.isnan(manifest.ends).all()
    assert (set(manifest.splits.tolist()), set(manifest.groups.tolist()), manifest.notes) == ({""}, {""}, ())


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        (
            "start",
            ["2021-05-03 04:00", "2021-05-04 04:00", ""],
            "column 'start' is not used: it holds no seconds, for example '2021-",
        ),
        ("split", ["fold1", "fold2", "fold1"], "column 'split' is not used: it holds no splits, for example 'fold1'"),
        ("end", ["", "nan", "NA"], None),
        ("start (ms)", ["100", "200", "300"], None),
        ("offset", ["0.1", "0.2", "0.3"], None),  # of Kaleidoscope a start, of DCASE an end
    ],
)
def test_columns_that_mean_something_else_are_not_used(
    recordings: Path, column: str, cells: list[str], words: str | None
) -> None:
    frame = pd.DataFrame({"filename": ["a.wav", "b.wav", "a.wav"], "label": ["owl", "wren", "owl"], column: cells})
    manifest = by_csv(recordings, frame)
    assert np.isnan([manifest.starts, manifest.ends]).all()
    assert set(manifest.splits.tolist()) == {""}
    assert len(manifest.notes) == (words is not None)
    assert words is None or words in manifest.notes[0]


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("start", ["0", "soon", "1"], "line 3: start is 'soon'"),
        ("start", ["0", "inf", "1"], "line 3: start is 'inf'"),
        ("start", ["0", "1_0", "1"], "line 3: start is '1_0'"),
        ("split", ["train", "", "test"], "line 3: the split is blank"),
        ("split", ["train", "tset", "test"], "line 3: split 'tset' is not known"),
    ],
)
def test_a_wrong_cell_among_right_ones_is_named_by_its_line(
    recordings: Path, column: str, cells: list[str], message: str
) -> None:
    frame = pd.DataFrame({"filename": ["a.wav"] * 3, "label": ["owl"] * 3, column: cells})
    with pytest.raises(UserError, match=message):
        by_csv(recordings, frame)


def test_the_line_is_right_below_quoted_lines_and_comments(recordings: Path) -> None:
    text = 'sep=;\n# by hand\nfilename;label;start;note\na.wav;owl;0;"one\ntwo"\n\nb.wav;wren;soon;\n'
    (recordings / "t.csv").write_text(text)
    with pytest.raises(UserError, match=f"line {text[: text.index('b.wav')].count(chr(10)) + 1}: start is 'soon'"):
        load_manifest(DataConfig(source="csv", metadata_file=str(recordings / "t.csv")), workdir=recordings)


def test_the_labels_are_never_the_group(recordings: Path) -> None:
    frame = pd.DataFrame({"filename": ["a.wav", "b.wav"], "group": ["owl", "wren"]})
    assert set(manifest_from_frame(frame, DataConfig(root=str(recordings), label_column="group")).groups.tolist()) == {""}


def test_two_columns_of_labels(recordings: Path) -> None:
    frame = pd.DataFrame({"filename": ["a.wav", "b.wav"], "label": ["owl", "wren"], "category": ["owl", "wren"]})
    assert by_frame(recordings, frame).notes == ()
    frame["category"] = ["bird", "bird"]
    manifest = by_frame(recordings, frame)
    assert manifest.labels.counts() == {"owl": 1, "wren": 1}
    assert "labels come from column 'label'; column 'category' differs" in manifest.notes[0]
    assert "column 'category' differs" in " ".join(validate_dataset(frame, recordings, label_column="label")["warnings"])
    other = manifest_from_frame(frame, DataConfig(root=str(recordings), label_column="category"))
    assert other.labels.counts() == {"bird": 2}
    (recordings / "t.csv").write_text("filename,label,label\na.wav,owl,wren\n")
    with pytest.raises(UserError, match="several columns 'label'"):
        load_manifest(DataConfig(source="csv", metadata_file=str(recordings / "t.csv")), workdir=recordings)


def test_a_fold_leaves_the_split_alone(recordings: Path) -> None:
    frame = frame_of().assign(fold=[1, 1, 2])
    manifest = manifest_from_frame(frame, DataConfig(root=str(recordings), fold="2"))
    assert set(manifest.splits.tolist()) == {""}
    assert "split" not in manifest.notes[0].split("(")[0]


@pytest.mark.parametrize(
    ("cell", "comma", "value"),
    [
        ("1.5", False, 1.5),
        ("1,5", False, 1.5),
        ("-0,25", False, -0.25),
        ("1,234", False, math.nan),  # a thousand, perhaps
        ("1,234", True, 1.234),
        ("1,2345", False, 1.2345),
        ("1.234,5", True, math.nan),
        ("1,2,3", True, math.nan),
        ("1e3", False, 1000.0),
        ("inf", False, math.nan),
        ("1_0", False, math.nan),
        ("0:30", False, math.nan),
    ],
)
def test_numbers(cell: str, comma: bool, value: float) -> None:
    np.testing.assert_equal(number(cell, decimal_comma=comma), value)


@pytest.mark.parametrize("above", ["", "sep=;\n"])
def test_decimal_commas_are_read(recordings: Path, above: str) -> None:
    (recordings / "t.csv").write_text(above + "filename;label;start;end\na.wav;owl;0,125;0,5\nb.wav;wren;0,1;0,4\n")
    data = DataConfig(source="csv", metadata_file=str(recordings / "t.csv"))
    manifest = validate(load_manifest(data, workdir=recordings), data, AudioConfig()).manifest
    np.testing.assert_array_equal([manifest.starts, manifest.ends], [[0.125, 0.1], [0.5, 0.4]])
