"""Names in tables and files on disk: composed and decomposed accents, and one file under several names."""

import os
import unicodedata
from pathlib import Path

import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.sources.named_files import NamedFiles
from beats_jax.datasets.sources.table import load_table
from beats_jax.errors import UserError

WORDS = ("Grünspecht/Mésange_1.wav", "각.wav", "Å.wav", "plain.wav")


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD"), ("NFC", "NFC")])
def test_composition_does_not_matter(tmp_path: Path, on_disk: str, in_table: str) -> None:
    root = tmp_path / unicodedata.normalize(on_disk, "Häher")
    for word in WORDS:
        path = root / "audio" / unicodedata.normalize(on_disk, word)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(word)
    named = NamedFiles([root, root / "audio"])
    found = [named.find(unicodedata.normalize(in_table, word)) for word in WORDS]
    assert [Path(path).read_text() for path in found] == list(WORDS)
    assert found == [str(root / "audio" / unicodedata.normalize(on_disk, word)) for word in WORDS]
    assert named.find("Grünspecht/gone_é.wav") == str(root / "Grünspecht/gone_é.wav")


def test_of_two_files_that_differ_in_composition_each_is_found(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).write_text(name)
    held = names if len(os.listdir(tmp_path)) == 2 else names[1:] * 2  # a file system may take them for one
    named = NamedFiles([tmp_path])
    assert [Path(named.find(name)).read_text() for name in names] == held


def test_one_file_has_one_path(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    (tmp_path / "audio" / "b.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "audio" / "a.wav")
    (tmp_path / "same").symlink_to(tmp_path / "audio")
    named = NamedFiles([tmp_path, tmp_path / "audio"])
    spellings = ("./audio/a.wav", "a.wav", "audio//a.wav", "audio/../audio/a.wav", "link.wav", "same/a.wav", "audio\\a.wav")
    spellings = (*spellings, str(tmp_path / "audio" / "a.wav"))
    assert {named.find(name) for name in spellings} == {str(tmp_path / "audio" / "a.wav")}
    assert named.find("b.wav") == str(tmp_path / "audio" / "b.wav")


def test_rows_of_one_file_that_disagree_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / "audio" / name).touch()
    rows = ["a.wav,owl", "./audio/a.wav,wren", "b.wav,owl", "audio/b.wav,owl", "c.wav,wren"]
    (tmp_path / "t.csv").write_text("filename,label\n" + "\n".join(rows) + "\n")
    manifest = load_table(tmp_path / "t.csv", DataConfig())
    assert [Path(name).name for name in manifest.files.tolist()] == ["b.wav", "b.wav", "c.wav"]
    assert len(set(manifest.files.tolist())) == 2  # b.wav twice: merged by validation, and named there
    assert "2 rows are left out" in manifest.notes[0]
    assert "a.wav = owl, ./audio/a.wav = wren" in manifest.notes[0]
    both = load_table(tmp_path / "t.csv", DataConfig(multi_label=True))
    assert (len(both), both.notes) == (5, ())


def test_a_name_with_a_nul_is_a_line(tmp_path: Path) -> None:
    import pandas as pd

    from beats_jax.datasets.sources.frame import manifest_from_frame

    frame = pd.DataFrame({"filename": ["a.wav", "b\0.wav"], "label": ["x", "y"]})
    with pytest.raises(UserError, match="DataFrame row 1: the file name holds a NUL"):
        manifest_from_frame(frame, DataConfig(root=str(tmp_path)))


def test_a_monstrous_name_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    named = NamedFiles([tmp_path])
    assert named.find("é/" * 60_000 + "x.wav").endswith("x.wav")


def test_recordings_that_no_row_names_are_counted(tmp_path: Path) -> None:
    for name in ("audio/a.wav", "audio/b.wav", "audio/c.FLAC", "audio/._c.wav", "audio/notes.txt", "other/d.wav", "x/e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("filename,label\na.wav,owl\nx/e.wav,wren\nnowhere/f.wav,owl\n")
    unnamed = f"{tmp_path}/audio/b.wav, {tmp_path}/audio/c.FLAC"
    note = f"{tmp_path}/t.csv: 2 recordings in the same folders are in no row: {unnamed}"
    assert load_table(tmp_path / "t.csv", DataConfig()).notes == (note,)
    (tmp_path / "all.csv").write_text("filename,label\na.wav,owl\nb.wav,owl\nc.FLAC,owl\n")
    assert load_table(tmp_path / "all.csv", DataConfig()).notes == ()


def test_names_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        Path(name).touch()
    Path("t.csv").write_text("filename,label\na.wav,owl\n")
    assert "1 recordings in the same folders are in no row: b.wav" in load_table(Path("t.csv"), DataConfig()).notes[0]
