"""Every source: what it finds and what it refuses."""

import os
import unicodedata
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from beats_jax.config.schema import AudioConfig, DataConfig, SyntheticConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import SOURCES, keep_classes, load_manifest, name_error, source_at
from beats_jax.datasets.splits import assign_splits, folds, leakage
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError

Tree = Callable[[Path, dict[str, float]], None]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_be_imported_and_is_described(name: str) -> None:
    module, function = SOURCES[name].split(":")
    assert getattr(import_module(module), function).__module__ == module
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page, f"docs/datasets.md does not describe `{name}`"


def test_a_file_or_folder_says_which_source_reads_it(tmp_path: Path) -> None:
    for name in ("a.selections.txt", "A.Selections.TXT", "a.labels.txt", "a.csv", "a.txt", "esc/meta/esc50.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [source_at(tmp_path / name) for name in ("a.selections.txt", "A.Selections.TXT", "a.labels.txt", "a.csv", "a.txt")]
    assert found == ["raven", "raven", "audacity", "csv", "csv"]
    assert [source_at(tmp_path / "esc"), source_at(tmp_path)] == ["esc50", "folder"]
    with pytest.raises(UserError, match="nowhere does not exist"):
        source_at(tmp_path / "nowhere")


def test_a_folder_with_labels_csv_is_labelled_by_it(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"audio/a.wav": 1.0, "audio/b.wav": 1.0})
    (tmp_path / "labels.csv").write_text("filename,label\na.wav,noise\nb.wav,whale\n", encoding="utf-8")
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    assert [Path(file).name for file in manifest.files] == ["a.wav", "b.wav"]
    assert manifest.labels.counts() == {"noise": 1, "whale": 1}
    write_tree(tmp_path, {"owl/c.wav": 1.0})  # class folders beside it: these count, as without a table
    assert set(load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path).labels.counts()) == {"audio", "owl"}


def test_folder_per_class(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"owl/2019/b.WAV.wav": 0.1, "owl/a.wav": 0.1, "wren/c.wav": 0.1, "loose.wav": 0.1, "wren/._c.wav": 0.1})
    (tmp_path / "wren" / "notes.txt").write_text("x")
    (tmp_path / ".cache").mkdir()
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    found = {(Path(manifest.files[i]).name, manifest.labels[i]) for i in range(len(manifest))}
    assert found == {("b.WAV.wav", ("owl",)), ("a.wav", ("owl",)), ("c.wav", ("wren",))}
    assert [error.path.name for error in manifest.errors] == ["loose.wav"]
    assert manifest.notes == (
        f"{tmp_path}: 1 hidden files and 1 hidden folders (.cache) are left out",
        f"{tmp_path}: other files, no recordings: 1 .txt",
    )


def test_split_folders_above_class_folders(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"train/owl/a.wav": 0.1, "train/wren/b.wav": 0.1, "Validation/owl/c.wav": 0.1})
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    assert {(manifest.labels[i][0], str(manifest.splits[i])) for i in range(3)} == {
        ("owl", "train"),
        ("wren", "train"),
        ("owl", "val"),
    }


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "dev"), ("train", "valid", "eval"), ("val", "test")])
def test_splits_are_splits_whatever_stands_beside_them(tmp_path: Path, write_tree: Tree, names: tuple[str, ...]) -> None:
    write_tree(tmp_path, {f"{name}/{label}/a.wav": 0.1 for name in names for label in ("owl", "wren")})
    write_tree(tmp_path, {"docs/examples/x.wav": 0.1, "top.wav": 0.1, f"{names[0]}/loose.wav": 0.1, "__MACOSX/owl/y.wav": 0.1})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / names[1] / "bat").mkdir()
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    assert manifest.labels.counts() == {"owl": len(names), "wren": len(names)}
    known = {"train": "train", "Training": "train", "dev": "val", "valid": "val", "val": "val", "test": "test", "eval": "test"}
    splits = [known[Path(file).parent.parent.name] for file in manifest.files.tolist()]
    assert manifest.splits.tolist() == splits
    assert sorted(error.path.name for error in manifest.errors) == ["loose.wav", "top.wav"]
    assert "not used beside them: checkpoints (0 recordings), docs (1 recordings)" in manifest.notes[1]
    assert f"1 class folders hold no usable recording: {names[1]}/bat" in manifest.notes[2]


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (("train/owl/a.wav", "train/wren/b.wav", "docs/x.txt"), {"owl", "wren"}),  # only the folder train holds recordings
        (("train/2019/a.wav", "bus/2019/b.wav"), {"train", "bus"}),  # a class called train among others
        (("train/a.wav", "test/b.wav", "bus/c.wav"), {"train", "test", "bus"}),
    ],
)
def test_one_folder_called_train_may_be_a_class(tmp_path: Path, write_tree: Tree, files: tuple, labels: set[str]) -> None:
    write_tree(tmp_path, {name: 0.1 for name in files if name.endswith(".wav")})
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert set(load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path).labels.counts()) == labels


def test_empty_class_folders_are_named(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"owl/a.wav": 0.1, "wren/b.wav": 0.1})
    for name in ("bat/2019", "frog"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "toad").mkdir()
    (tmp_path / "toad" / "x.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    assert manifest.notes == (f"{tmp_path}: 3 class folders hold no usable recording: bat, frog, toad",)
    assert [error.path.name for error in manifest.errors] == ["x.mp4"]


def test_links_do_not_relabel(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path / "root", {"owl/a.wav": 0.1, "owl/b.wav": 0.2, "wren/c.wav": 0.3})
    root = tmp_path / "root"
    (root / "all").symlink_to(root)
    (root / "bird").symlink_to(root / "wren")
    (root / "owl" / "again.wav").symlink_to("a.wav")
    (root / "wren" / "both.wav").symlink_to("../owl/b.wav")
    rows = {"a.wav": ("owl",), "b.wav": ("owl",), "c.wav": ("wren",)}
    manifest = load_manifest(DataConfig(root=str(root)), workdir=tmp_path)
    assert {Path(file).name: manifest.labels[row] for row, file in enumerate(manifest.files.tolist())} == rows
    assert [error.path.name for error in manifest.errors] == ["both.wav"]
    assert "is of class 'owl': one recording, two labels" in manifest.errors[0].reason
    assert "2 folders are reached in two ways" in manifest.notes[0]
    assert "1 links lead to recordings that are used already" in manifest.notes[1]
    several = DataConfig(root=str(root), multi_label=True, window_seconds=0.1)
    found = validate(load_manifest(several, workdir=tmp_path), several, AudioConfig()).manifest
    assert {Path(file).name: found.labels[row] for row, file in enumerate(found.files.tolist())} == rows | {
        "b.wav": ("owl", "wren")
    }


def test_classes_are_kept_however_their_accents_are_composed(tmp_path: Path, write_tree: Tree) -> None:
    names = [unicodedata.normalize("NFD", name) for name in ("Mésange", "Grünspecht", "owl")]
    write_tree(tmp_path, {f"{name}/a.wav": 0.1 for name in names})
    data = DataConfig(root=str(tmp_path), classes=("Mésange", unicodedata.normalize("NFC", "Grünspecht")))
    assert set(load_manifest(data, workdir=tmp_path).labels.counts()) == set(names[:2])


def test_a_folder_without_recordings_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "a.txt").touch()
    (tmp_path / "owl" / "b.mp4").write_bytes(b"x")
    for source in ("folder", "recordings", "bioacoustics"):
        with pytest.raises(
            UserError, match=r"no audio file; .*other files, no recordings: 1 \.txt; the first of 1 errors: .*b\.mp4"
        ):
            load_manifest(DataConfig(source=source, root=str(tmp_path)), workdir=tmp_path)


def test_a_class_called_test_is_a_class(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"test/a.wav": 0.1, "train/b.wav": 0.1})
    assert load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path).labels.counts() == {"test": 1, "train": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "is empty"), ({"a.wav": 0.1}, "no class folders"), ({"owl/notes.txt": None}, "no audio file")],
)
def test_folders_that_are_refused(tmp_path: Path, write_tree: Tree, files: dict, message: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in [name for name, seconds in files.items() if seconds is None]:
        (root / name).parent.mkdir()
        (root / name).touch()
    write_tree(root, {name: seconds for name, seconds in files.items() if seconds})
    with pytest.raises(UserError, match=message):
        load_manifest(DataConfig(root=str(root)), workdir=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "foldr"}, "did you mean 'folder'"),
        ({"root": ""}, "data.root is empty"),
        ({"root": "/nowhere/at/all"}, "does not exist"),
        ({"root": __file__}, "is a file"),
        ({"source": "csv"}, "data.metadata_file is empty"),
        ({"source": "esc50", "root": str(Path(__file__).parent)}, "esc50.csv does not exist"),
        ({"source": "urbansound8k", "root": str(Path(__file__).parent)}, "UrbanSound8K.csv does not exist"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_manifest(DataConfig(**settings), workdir=tmp_path)


@pytest.mark.parametrize("column", ["fold", "fsID", "salience"])
def test_urbansound8k_without_a_column(tmp_path: Path, write_tree: Tree, column: str) -> None:
    write_urbansound8k(tmp_path, write_tree)
    table = tmp_path / "metadata" / "UrbanSound8K.csv"
    table.write_text(table.read_text().replace(f",{column}", f",{column}_x", 1))
    with pytest.raises(UserError, match=f"no column '{column}'; did you mean '{column}_x'"):
        load_manifest(DataConfig(source="urbansound8k", root=str(tmp_path)), workdir=tmp_path)


def test_class_limit() -> None:
    manifest = Manifest.from_columns(["a", "b", "c"], [["x", "y"], ["z"], ["y"]])
    kept = keep_classes(manifest, ("y",))
    assert kept.files.tolist() == ["a", "c"]
    assert kept.labels.counts() == {"y": 2}
    assert kept.labels[0] == ("y",)
    with pytest.raises(UserError, match="'w', which no row has"):
        keep_classes(manifest, ("w",))


def write_esc50(root: Path, write_tree: Tree) -> None:
    rows = [(f"{fold}-{100 + fold * 10 + k // 2}-{'AB'[k % 2]}-{k // 2}.wav", fold, k // 2, 100 + fold * 10 + k // 2)
            for fold in range(1, 6) for k in range(6)]  # fmt: skip
    write_tree(root, {f"audio/{row[0]}": 0.1 for row in rows})
    names = ("dog", "rain", "rooster")
    lines = [f"{name},{fold},{target},{names[target]},{'True'},{source},A" for name, fold, target, source in rows]
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("filename,fold,target,category,esc10,src_file,take\n" + "\n".join(lines) + "\n")


def test_esc50_layout_with_folds_and_a_class_limit(tmp_path: Path, write_tree: Tree) -> None:
    write_esc50(tmp_path, write_tree)
    data = DataConfig(source="esc50", root=str(tmp_path), fold="2", classes=("dog", "rain"))
    manifest = load_manifest(data, workdir=tmp_path)
    assert manifest.labels.counts() == {"dog": 10, "rain": 10}
    assert folds(manifest) == ("1", "2", "3", "4", "5")
    split = assign_splits(manifest, data)
    assert {Path(name).name[0] for name in split.split("test").files} == {"2"}
    assert {Path(name).name[0] for name in split.split("train").files} == set("1345")
    assert leakage(split) == ()
    assert set(manifest.groups.tolist()) == {Path(name).name.split("-")[1] for name in manifest.files}
    with pytest.raises(UserError, match="'6'; the folds are 1, 2, 3, 4, 5"):
        assign_splits(manifest, DataConfig(fold="6"))


def write_urbansound8k(root: Path, write_tree: Tree) -> None:
    """Ten folds, two classes, two slices of every recording; `start` and `end` are places in the recording."""
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    files = {}
    for fold in range(1, 11):
        for recording, (target, name) in ((100 + fold, (3, "dog_bark")), (200 + fold, (8, "siren"))):
            for occurrence in range(2):
                slice_name = f"{recording}-{target}-0-{occurrence}.wav"
                files[f"audio/fold{fold}/{slice_name}"] = 0.1
                lines.append(f"{slice_name},{recording},{40.5 + occurrence},{44.5 + occurrence},1,{fold},{target},{name}")
    write_tree(root, files)
    (root / "metadata").mkdir()
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("above", [False, True])
def test_urbansound8k_has_ten_folds_and_keeps_recordings_together(tmp_path: Path, write_tree: Tree, above: bool) -> None:
    write_urbansound8k(tmp_path / "UrbanSound8K", write_tree)
    root = tmp_path if above else tmp_path / "UrbanSound8K"
    data = DataConfig(source="urbansound8k", root=str(root), fold="10")
    manifest = load_manifest(data, workdir=tmp_path)
    assert manifest.labels.counts() == {"dog_bark": 20, "siren": 20}
    assert folds(manifest) == tuple(str(fold) for fold in range(1, 11))
    assert len(set(manifest.groups.tolist())) == 20
    assert set(manifest.metadata["target"]) == {"3", "8"}
    report = validate(manifest, data, AudioConfig())  # whole files: as times in the slice, 40 s would lie behind its end
    assert report.errors == ()
    split = assign_splits(report.manifest, data)
    assert {Path(name).parent.name for name in split.split("test").files} == {"fold10"}
    assert len(split.split("train")) == 36
    assert leakage(split) == ()


@pytest.mark.parametrize(
    ("fold", "words"), [("", "warn against any other split"), ("3", "one fold of UrbanSound8K"), ("all", "")]
)
def test_urbansound8k_says_what_its_authors_ask_for(tmp_path: Path, write_tree: Tree, fold: str, words: str) -> None:
    write_urbansound8k(tmp_path, write_tree)
    data = DataConfig(source="urbansound8k", root=str(tmp_path), fold=fold)
    summary = validate(load_manifest(data, workdir=tmp_path), data, AudioConfig()).summary()
    assert ("mean of all ten" in summary) == bool(words)
    assert words in summary


def test_esc50_one_folder_above(tmp_path: Path, write_tree: Tree) -> None:
    write_esc50(tmp_path / "ESC-50-master", write_tree)
    assert len(load_manifest(DataConfig(source="esc50", root=str(tmp_path)), workdir=tmp_path)) == 30


def test_real_esc10(real_recordings: Path, tmp_path: Path) -> None:
    data = DataConfig(source="esc50", root=str(real_recordings / "esc10"), fold="1", check="header")
    manifest = load_manifest(data, workdir=tmp_path)
    tested = sum(Path(file).name.startswith("1-") for file in manifest.files)
    assert len(set(manifest.labels.counts().values())) == 1  # as many clips of each class
    report = validate(manifest, data, AudioConfig())
    report = report.with_splits(assign_splits(report.manifest, data))
    assert report.errors == ()
    assert report.leaks == ()
    assert report.split_rows == {"train": len(manifest) - tested, "val": 0, "test": tested}
    assert tested


@pytest.mark.parametrize("calls", [1, 2])
def test_synthetic_is_the_same_each_time(tmp_path: Path, calls: int) -> None:
    synthetic = SyntheticConfig(num_classes=2, clips_per_class=3, seconds=0.5, calls_per_clip=calls)
    data = DataConfig(source="synthetic", synthetic=synthetic, multi_label=calls > 1, window_seconds=0.5)
    one, two = (load_manifest(data, workdir=tmp_path / name) for name in ("one", "two"))
    assert len(one) == 6
    assert len(one.labels.counts()) == 2
    assert [Path(a).read_bytes() for a in one.files] == [Path(b).read_bytes() for b in two.files]
    assert validate(one, data, AudioConfig()).errors == ()
    assert load_manifest(data, workdir=tmp_path / "one").files.tolist() == one.files.tolist()  # a run that is resumed


def test_synthetic_with_several_calls_needs_multi_label(tmp_path: Path) -> None:
    data = DataConfig(source="synthetic", synthetic=SyntheticConfig(calls_per_clip=2))
    with pytest.raises(UserError, match="calls_per_clip is 2"):
        load_manifest(data, workdir=tmp_path)


def test_a_name_that_is_no_text_is_listed(tmp_path: Path, write_tree: Tree) -> None:
    write_tree(tmp_path, {"owl/a.wav": 0.1, "wren/b.wav": 0.1})
    try:
        os.rename(tmp_path / "owl" / "a.wav", os.path.join(os.fsencode(tmp_path), b"owl", b"caf\xe9.wav"))
    except OSError:  # a file system of UTF-8 names only
        assert name_error(Path(os.fsdecode(b"caf\xe9.wav"))) is not None
        return
    manifest = load_manifest(DataConfig(root=str(tmp_path)), workdir=tmp_path)
    assert len(manifest) == 1
    assert ["rename" in error.reason for error in manifest.errors] == [True]
    str(manifest.errors[0]).encode("utf-8")
