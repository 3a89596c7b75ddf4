"""Tables: label cells, encodings, separators, places of files, and what is refused."""

import math
from pathlib import Path

import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.sources.table import load_table, manifest_from_table, parse_labels, read_table
from beats_jax.datasets.sources.text_table import Table
from beats_jax.errors import UserError


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a ; b ;", ["a", "b"]),
        ("Parus major, song; Corvus", ["Parus major, song", "Corvus"]),
        ('"x, y",z', ["x, y", "z"]),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("['a', 'b, c']", ["a", "b, c"]),
        ("[]", []),
        ("", []),
        ("  ", []),
        ("[1, true]", ["1", "True"]),
        ("naïve,鳥", ["naïve", "鳥"]),
        ("__import__('os').system('false')", ["__import__('os').system('false')"]),
        ("[__import__('os')]", ["__import__('os')"]),
    ],
)
def test_label_cells(cell: str, labels: list[str]) -> None:
    assert parse_labels(cell) == labels


@pytest.mark.parametrize("cell", ["['a', 'b'", '[["a"]]', "['a]", '[{"a": 1}]', "[null]"])
def test_broken_lists_are_refused(cell: str) -> None:
    with pytest.raises(UserError, match="labels"):
        parse_labels(cell)


def table(folder: Path, text: str | bytes, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


MULTI = DataConfig(label_column="labels", multi_label=True)


@pytest.mark.parametrize(
    "text",
    [
        'filename,labels\na.wav,"x,y"\nb.wav,\n',
        "filename;labels\na.wav;x,y\nb.wav;\n",
        "filename\tlabels\na.wav\tx;y\nb.wav\n",
        'filename,labels\r\n\r\n a.wav , "[""x"", ""y""]"\r\nb.wav,[]\r\n',
        "\ufefffilename,labels\na.wav,\"['x', 'y']\"\nb.wav,''\n".replace("''", ""),
    ],
)
def test_ways_to_write_the_same_table(tmp_path: Path, text: str) -> None:
    manifest = load_table(table(tmp_path, text, "audio/a.wav", "b.wav"), MULTI)
    assert manifest.files.tolist() == [str(tmp_path / "audio" / "a.wav"), str(tmp_path / "b.wav")]
    assert [manifest.labels[0], manifest.labels[1]] == [("x", "y"), ()]


def test_any_column_names_times_splits_and_groups(tmp_path: Path) -> None:
    text = (
        "Sound File,Species,Begin,End,Part,Site,fold\nsub\\a.wav,owl,1.5,3,Training,s1,1\nb.wav,12,,nan,VALID,s2,2\n"
        + f"{tmp_path}/c.wav,012,0,NA,eval,,3\n"
    )
    data = DataConfig(
        audio_column="Sound File",
        label_column="Species",
        start_column="Begin",
        end_column="End",
        split_column="Part",
        group_column="Site",
    )
    manifest = load_table(table(tmp_path, text, "sub/a.wav", "b.wav", "c.wav"), data)
    assert manifest.files.tolist() == [str(tmp_path / name) for name in ("sub/a.wav", "b.wav", "c.wav")]
    assert [manifest.labels[i] for i in range(3)] == [("owl",), ("12",), ("012",)]  # numbers stay text
    assert manifest.starts[0] == 1.5
    assert math.isnan(manifest.starts[1])
    assert manifest.ends[0] == 3
    assert math.isnan(manifest.ends[1])
    assert math.isnan(manifest.ends[2])
    assert manifest.splits.tolist() == ["train", "val", "test"]
    assert manifest.groups.tolist() == ["s1", "s2", ""]
    assert manifest.metadata["fold"].tolist() == ["1", "2", "3"]


def test_missing_files_stay_for_validation_but_not_all(tmp_path: Path) -> None:
    path = table(tmp_path, "filename,label\na.wav,x\nC:\\rec\\b.wav,y\n", "a.wav")
    assert load_table(path, DataConfig()).files.tolist()[1].endswith("C:/rec/b.wav")
    with pytest.raises(UserError, match=r"none of the 2 files .* looked in .*elsewhere and .*audio"):
        load_table(path, DataConfig(root=str(tmp_path / "elsewhere")))


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("filename,lables\na.wav,x\n", {}, r"no column 'label'; did you mean 'lables'\? columns: filename, lables"),
        ("file,label\na.wav,x\n", {"start_column": "onset"}, "no column 'filename'"),
        ("filename,label\na.wav,x\n", {"start_column": "onset"}, "no column 'onset'; columns: filename, label"),
        ("filename,label\na.wav,x\nb.wav,\n", {}, "line 3: column 'label' is blank"),
        ("filename,label\n,x\n", {}, "line 2: the file name is blank"),
        ('filename,label\na.wav,"[""x"", ""y""]"\n', {}, "line 2: column 'label' holds 2 labels; set data.multi_label"),
        ('filename,label\na.wav,"x,y"\na.wav,x\na.wav,y\n', {}, "'x,y' is a list of other labels; set data.multi_label"),
        ('filename,label\na.wav,"[x"\n', {"multi_label": True}, "line 2: labels '\\[x' are not a list"),
        ("filename,label,t\na.wav,x,soon\n", {"start_column": "t"}, "line 2: t is 'soon'"),
        ("filename,label,s\na.wav,x,trian\n", {"split_column": "s"}, "line 2: split 'trian' is not known; did you mean 'train'"),
        ("filename,label,s\na.wav,x,\n", {"split_column": "s"}, "line 2: the split is blank"),
        ("filename,label\n", {}, "has no rows"),
        ("", {}, "cannot be read"),
        ("filename,label\na.wav,x,y\n", {}, "more cells"),
        ("filename,label\na.wav,x\na.wav,x,y,z\n", {}, "line 3 has more cells"),
        ("filename,label\nä.wav,x\n".encode("latin-1"), {}, "not UTF-8"),
        (bytes(range(256)), {}, "not UTF-8"),
    ],
)
def test_refused(tmp_path: Path, text: str | bytes, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_table(table(tmp_path, text, "a.wav"), DataConfig(**settings))
    assert "\n" not in str(caught.value)


def test_columns_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.owl has no rows; give at least one recording per class"):
        manifest_from_table(Table({"filename": [], "label": []}, "t.owl"), DataConfig(), tmp_path)


def test_a_label_with_a_comma_is_one_label(tmp_path: Path) -> None:
    path = table(tmp_path, 'filename,label\na.wav,"thrush, wood"\n', "a.wav")
    assert load_table(path, DataConfig()).labels[0] == ("thrush, wood",)


def test_absent_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "no.csv")
