"""DataFrames: seed code that others wrote runs, cells of every kind, and what is refused or warned of."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import beats_jax.datasets
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets import load_csv_dataset, load_esc50, load_urbansound8k, scan_directory_dataset, validate_dataset
from beats_jax.datasets.frames import csv_text, frame_from_manifest
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.frame import manifest_from_frame
from beats_jax.datasets.splits import assign_splits, folds
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.files import write_text

Tree = Callable[[Path, dict[str, float]], None]
CATEGORY = DataConfig(label_column="category")


@pytest.fixture
def tree(tmp_path: Path, write_tree: Tree) -> Path:
    """Two classes of two files of different content."""
    root = tmp_path / "set"
    write_tree(root, {"owl/a.wav": 0.1, "owl/b.flac.wav": 0.2, "wren/c.wav": 0.3, "wren/d.wav": 0.4})
    return root


def test_a_folder_is_inspected_as_people_do(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    df = scan_directory_dataset("set")
    assert list(df.columns) == ["filename", "category"]
    assert df["category"].nunique() == 2
    assert df["category"].value_counts().to_dict() == {"owl": 2, "wren": 2}
    report = validate_dataset(df, "set")
    assert (report["errors"], report["warnings"]) == ([], [])
    assert report["class_distribution"] == {"owl": 2, "wren": 2}
    assert (report["total_samples"], report["usable_samples"], report["existing_files"], report["missing_files"]) == (4, 4, 4, 0)
    assert report["total_seconds"] == pytest.approx(1.0)


def test_what_a_folder_holds_besides_is_passed_on(tree: Path) -> None:
    (tree / "owl" / "x.mp4").write_bytes(b"x")
    (tree / "bat").mkdir()
    report = validate_dataset(scan_directory_dataset(tree), tree)
    assert [Path(error.split(":")[0]).name for error in report["errors"]] == ["x.mp4"]
    assert report["warnings"] == [f"{tree}: 1 class folders hold no usable recording: bat"]


def test_folders_of_splits_give_a_column(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"train/owl/a.wav": 0.1, "train/wren/b.wav": 0.1, "test/owl/c.wav": 0.1})
    df = scan_directory_dataset(tmp_path)
    assert df["split"].tolist() == ["test", "train", "train"]
    assert "1 classes" not in " ".join(validate_dataset(df)["errors"])


def test_a_table_with_any_column_names(tree: Path) -> None:
    path = tree / "data.csv"
    path.write_text("file_path,species,site\nowl/a.wav,owl,s1\nwren/c.wav,07,s2\n")
    df = load_csv_dataset(path, audio_col="file_path", label_col="species")
    assert list(df.columns) == ["filename", "category", "site"]
    assert df["category"].tolist() == ["owl", "07"]
    assert df["filename"].tolist() == [str(tree / "owl" / "a.wav"), str(tree / "wren" / "c.wav")]
    with pytest.raises(UserError, match="no column 'specie'; did you mean 'species'"):
        load_csv_dataset(path, audio_col="file_path", label_col="specie")


def test_esc50_as_a_table(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path / "audio", {"1-1-A-0.wav": 0.1, "2-2-A-1.wav": 0.1})
    (tmp_path / "meta").mkdir()
    header = "filename,fold,target,category,esc10,src_file,take"
    (tmp_path / "meta" / "esc50.csv").write_text(header + "\n1-1-A-0.wav,1,0,dog,True,1,A\n2-2-A-1.wav,2,1,rooster,True,2,A\n")
    df = load_esc50(tmp_path)
    assert df[["category", "group", "fold", "target"]].to_numpy().tolist() == [["dog", "1", "1", "0"], ["rooster", "2", "2", "1"]]
    manifest = manifest_from_frame(df, CATEGORY)
    assert folds(manifest) == ("1", "2")
    assert assign_splits(manifest, DataConfig(fold="2")).splits.tolist() == ["train", "test"]


def test_urbansound8k_as_a_table(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path / "audio", {"fold1/7-3-0-0.wav": 0.1, "fold10/9-8-0-0.wav": 0.1})
    (tmp_path / "metadata").mkdir()
    rows = "7-3-0-0.wav,7,10.5,14.5,1,1,3,dog_bark\n9-8-0-0.wav,9,0.0,4.0,2,10,8,siren\n"
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text("slice_file_name,fsID,start,end,salience,fold,classID,class\n" + rows)
    df = load_urbansound8k(tmp_path)
    assert list(df.columns) == ["filename", "category", "group", "fold", "target", "salience"]
    assert df["fold"].tolist() == ["1", "10"]
    assert validate_dataset(df)["errors"] == []


def test_cells_of_every_kind(tree: Path) -> None:
    files = [Path("owl/a.wav"), "owl/b.flac.wav", "wren/c.wav", str(tree / "wren" / "d.wav")]
    frame = pd.DataFrame({"f": files, "y": [3.0, 12.0, 3.0, 7.0], "t0": [0.05, np.nan, 0, 0], "t1": [None, 0.15, 1, 2.5]})
    frame["s"], frame["g"], frame["k"] = ["train", "TRAINING", "val", "test"], [1, 1.0, None, 2], pd.Categorical([1, 2, 1, 2])
    frame.index = [9, 9, 9, 9]  # what is in the index does not matter
    columns = {"start_column": "t0", "end_column": "t1", "split_column": "s", "group_column": "g"}
    data = DataConfig(root=str(tree), audio_column="f", label_column="y", **columns)
    manifest = manifest_from_frame(frame, data, fold_column="k")
    assert manifest.files.tolist() == [str(tree / name) for name in ("owl/a.wav", "owl/b.flac.wav", "wren/c.wav", "wren/d.wav")]
    assert [manifest.labels[row] for row in range(4)] == [("3",), ("12",), ("3",), ("7",)]
    np.testing.assert_array_equal(manifest.starts, [0.05, np.nan, 0, 0])
    np.testing.assert_array_equal(manifest.ends, [np.nan, 0.15, 1, 2.5])
    assert manifest.splits.tolist() == ["train", "train", "val", "test"]
    assert manifest.groups.tolist() == ["1", "1", "", "2"]
    assert folds(manifest) == ("1", "2")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2], ["1", "2"]),
        ([1.5, 2.0], ["1.5", "2.0"]),
        ([True, False], ["True", "False"]),
        (pd.array([1, 2], dtype="Int64"), ["1", "2"]),
        (pd.Categorical(["owl", "wren"]), ["owl", "wren"]),
        (["owl", 3], ["owl", "3"]),
        (["naïve", "鳥"], ["naïve", "鳥"]),
    ],
)
def test_labels_of_every_type(tree: Path, labels: list, names: list[str]) -> None:
    frame = pd.DataFrame({"filename": ["owl/a.wav", "wren/c.wav"], "category": labels})
    manifest = manifest_from_frame(frame, DataConfig(root=str(tree), label_column="category"))
    assert [manifest.labels[row][0] for row in range(2)] == names


def test_lists_in_cells_are_several_labels(tree: Path) -> None:
    frame = pd.DataFrame(
        {"filename": ["owl/a.wav", "wren/c.wav", "wren/d.wav"], "category": [["owl", "rain, heavy"], [], "wren"]}
    )
    data = DataConfig(root=str(tree), label_column="category", multi_label=True)
    manifest = manifest_from_frame(frame, data)
    assert [manifest.labels[row] for row in range(3)] == [("owl", "rain, heavy"), (), ("wren",)]
    with pytest.raises(UserError, match=r"row 0: column 'category' holds 2 labels; set data\.multi_label"):
        manifest_from_frame(frame, DataConfig(root=str(tree), label_column="category"))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"filename": ["owl/a.wav"], "categorie": ["x"]}), "no column 'category'; did you mean 'categorie'"),
        (pd.DataFrame({"path": ["owl/a.wav"], "category": ["x"]}), "no column 'filename'; columns: path, category"),
        (pd.DataFrame({"filename": ["owl/a.wav"] * 2, "category": ["x", None]}), "row 1: column 'category' is blank"),
        (pd.DataFrame({"filename": ["owl/a.wav"] * 2, "category": [2.0, np.nan]}), "row 1: column 'category' is blank"),
        (pd.DataFrame({"filename": ["owl/a.wav", np.nan], "category": ["x", "y"]}), "row 1: the file name is blank"),
        (pd.DataFrame({"filename": [], "category": []}), "has no rows"),
        (pd.DataFrame({"filename": ["no.wav", "nor.wav"], "category": ["x", "y"]}), "none of the 2 files of DataFrame exists"),
        (pd.DataFrame([["owl/a.wav", "x", "y"]], columns=["filename", "category", "category"]), "2 columns 'category'"),
        (["owl/a.wav"], "of type list"),
        (None, "of type NoneType"),
    ],
)
def test_frames_that_are_refused(tree: Path, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        manifest_from_frame(frame, DataConfig(root=str(tree), label_column="category"))


def test_missing_files_are_listed_and_counted(tree: Path) -> None:
    frame = scan_directory_dataset(tree)
    frame.loc[4] = [str(tree / "owl" / "gone.wav"), "owl"]
    report = validate_dataset(frame, tree)
    assert [error.endswith("gone.wav: no such file") for error in report["errors"]] == [True]
    assert report["warnings"] == ["1 files or rows cannot be used and are left out"]
    assert (report["total_samples"], report["usable_samples"], report["existing_files"], report["missing_files"]) == (5, 4, 4, 1)
    nothing = validate_dataset(pd.DataFrame({"filename": ["x.wav"], "category": ["y"]}), tree)
    assert "none of the 1 files" in nothing["errors"][0]
    assert nothing["usable_samples"] == 0


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"category": ["owl", "Owl", "wren", "wren"]}, "warnings", "classes differ only in case or spaces: 'Owl' and 'owl'"),
        ({"category": ["owl", " owl", "wren", "wren"]}, "warnings", "1 labels have spaces around them, which are cut: ' owl'"),
        ({"category": ["owl", "wren", "wren", "wren"]}, "warnings", "1 classes have a single example: owl"),
        ({"category": ["owl"] * 4}, "errors", "1 usable classes (only 'owl')"),
        ({"split": ["train", "train", "train", "tset"]}, "errors", "row 3: split 'tset' is not known; did you mean 'test'"),
        ({"split": ["train", "train", "train", "test"], "group": ["a", "b", "c", "c"]}, "warnings", "group c in train and test"),
        ({"split": ["train", "train", "val", "test"]}, "warnings", "1 classes of test are absent from training: wren"),
    ],
)
def test_what_deserves_a_look_is_said(tree: Path, change: dict, kind: str, words: str) -> None:
    report = validate_dataset(scan_directory_dataset(tree).assign(**change), tree)
    assert words in " ".join(report[kind])


def test_rows_given_twice(tree: Path) -> None:
    frame = scan_directory_dataset(tree)
    twice = pd.concat([frame, frame.iloc[:1]])
    report = validate_dataset(twice, tree)
    assert (report["total_samples"], report["usable_samples"]) == (5, 4)
    assert report["warnings"][0].startswith("1 rows are given more than once: ")
    twice.iloc[4, 1] = "wren"
    assert "has different labels: owl and wren" in validate_dataset(twice, tree)["errors"][0]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_manifest_survives_the_way_through_a_table(tmp_path: Path, tree: Path, multi_label: bool) -> None:
    files = [str(path) for path in sorted(tree.rglob("*.wav"))]
    labels = [["owl"], ["owl", "rain, heavy"], [], ["wren"]] if multi_label else [["owl"], ["rain, heavy"], ["07"], ["wren"]]
    times, nan = [0.012345678901234567, 0.0, 0.1, 0.0], float("nan")
    manifest = Manifest.from_columns(
        files, labels, starts=times, ends=[nan, 0.15, nan, 0.35], splits=["train", "val", "test", "train"],
        groups=["1", "", "2", "1"], metadata={"fold": ["1", "2", "1", "2"]},
    )  # fmt: skip
    write_text(tmp_path / "rows.csv", csv_text(frame_from_manifest(manifest)))
    data = DataConfig(source="csv", metadata_file=str(tmp_path / "rows.csv"), multi_label=multi_label)
    again = load_manifest(data, workdir=tmp_path)
    for name in ("files", "starts", "ends", "splits", "groups"):
        np.testing.assert_array_equal(getattr(again, name), getattr(manifest, name))
    assert [again.labels[row] for row in range(4)] == [manifest.labels[row] for row in range(4)]
    assert again.metadata["fold"].tolist() == ["1", "2", "1", "2"]
    assert len(validate(again, data, AudioConfig()).manifest) == 4


def test_names_are_there_and_the_import_is_light() -> None:
    assert set(beats_jax.datasets.__all__) <= set(dir(beats_jax.datasets.frames))
    with pytest.raises(AttributeError, match="load_csv_dataset"):
        _ = beats_jax.datasets.load_json
    code = "import sys, beats_jax.datasets; print(sorted({'pandas', 'numpy', 'soundfile', 'grain'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
