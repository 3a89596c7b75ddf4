"""Finding recordings in folders as they come from a recorder's card: every file is used, an error, or counted."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from beats_jax.audio.decoding.file_kinds import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    OTHER_SUFFIXES,
    UNFINISHED_SUFFIXES,
    looks_like_sound,
)
from beats_jax.audio.files import find_audio, search_folder
from beats_jax.errors import UserError


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sound(path, form="WAV"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(1600), 16_000, format=form)
    return path


def test_recordings_come_sorted_and_the_others_are_counted(tmp_path):
    wanted = ["b/deep/er/1.WAV", "a.flac", "b/2.Mp3", "é/コ.m4a", *(f"kind{suffix}" for suffix in AUDIO_SUFFIXES)]
    hidden = ["._a.flac", ".x.wav", "b/._2.mp3", ".trash/3.wav", ".DS_Store", ".wav", "__MACOSX/a/4.wav", "b/@eaDir/5.wav"]
    for name in [*wanted, *hidden, "notes.txt", "b/more.TXT", "wav", "x.unheard", "picture.jpg"]:
        touch(tmp_path / name)
    listing = search_folder(tmp_path)
    assert listing.paths == sorted(tmp_path / name for name in wanted)
    assert (listing.errors, listing.repeats) == ([], [])
    assert listing.notes == [
        f"{tmp_path}: 5 hidden files and 3 hidden folders (.trash, __MACOSX, b/@eaDir) are left out",
        f"{tmp_path}: other files, no recordings: 1 without a suffix, 1 .jpg, 2 .txt, 1 .unheard",
    ]
    assert find_audio(tmp_path) == (listing.paths, listing.errors)


def test_the_content_of_an_unusual_name_decides(tmp_path):
    good = [
        sound(tmp_path / name, form) for name, form in (("a.w64", "W64"), ("b.CAF", "CAF"), ("c.au", "AU"), ("d.wave", "WAV"))
    ]
    good += [
        sound(tmp_path / "e", "FLAC"),
        sound(tmp_path / "f.wav_", "WAV"),
        sound(tmp_path / "g.2024", "OGG"),
        sound(tmp_path / "h.rf64", "RF64"),
    ]
    broken = {
        "i.mp4": b"\0\0\0\x18ftypmp42",
        "j.wv": b"x",
        "k.3gp": b"",
        "l.data": b"RIFF\x10\0\0\0WAVEfmt ",
        "m.dat": b"ID3\4\0\0",
    }
    bad = [touch(tmp_path / name, content) for name, content in broken.items()]
    unfinished = sound(tmp_path / "n.wav.part")
    for name, content in {"README": b"about", "o.heic2": b"\0\0\0\x18ftypheic", "p.part": b"?"}.items():
        touch(tmp_path / name, content)
    listing = search_folder(tmp_path)
    assert listing.paths == sorted(good)
    assert [error.path for error in listing.errors] == sorted([*bad, unfinished])
    assert {error.path.name: error.reason for error in listing.errors}["n.wav.part"].startswith(
        "its suffix .part marks an unfinished file"
    )
    assert listing.notes == [f"{tmp_path}: other files, no recordings: 1 without a suffix, 1 .heic2, 1 .part"]


def test_the_kinds_do_not_overlap():
    kinds = (AUDIO_SUFFIXES, MEDIA_SUFFIXES, OTHER_SUFFIXES, UNFINISHED_SUFFIXES)
    assert len(frozenset().union(*kinds)) == sum(map(len, kinds))


@pytest.mark.parametrize(
    "head",
    [b"", b"a", b"\xff", b"\xff\xfea\0b\0", b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"%PDF-1.7", b"PK\3\4", b"RIFF\0\0\0\0WEBP"],
)
def test_other_content_does_not_look_like_sound(head):
    assert not looks_like_sound(head)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "W64", "RF64", "VOC", "NIST", "WAVEX"])
def test_what_a_library_writes_looks_like_sound(tmp_path, form):
    assert looks_like_sound(sound(tmp_path / "x", form).read_bytes()[:64])


def test_a_root_below_a_hidden_folder_is_not_hidden(tmp_path):
    touch(tmp_path / ".cache" / "data" / "x.wav")
    assert find_audio(tmp_path / ".cache" / "data")[0] == [tmp_path / ".cache" / "data" / "x.wav"]


def test_links_are_followed_once(tmp_path):
    touch(tmp_path / "elsewhere" / "x.wav")
    root = tmp_path / "root"
    touch(root / "y.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    listing = search_folder(root)
    assert (listing.paths, listing.errors) == ([root / "linked" / "x.wav", root / "y.wav"], [])
    assert listing.notes == [f"{root}: 1 folders are reached in two ways and searched once: loop → {root}"]


def test_a_file_keeps_the_place_where_it_lies(tmp_path):
    """The links come first in the alphabet, and some lead above the root: nothing moves and nothing is fetched from there."""
    root = tmp_path / "root"
    touch(tmp_path / "foreign.wav")
    for name in ("owl/a.wav", "wren/b.wav"):
        touch(root / name)
    touch(tmp_path / "outside" / "c.wav")
    for link, target in (
        ("a_root", root),
        ("a_wren", root / "wren"),
        ("owl/up", tmp_path),
        ("owl/top", "/"),
        ("one", "../outside"),
        ("two", "../outside"),
    ):
        (root / link).symlink_to(target)
    listing = search_folder(root)
    assert listing.paths == [root / name for name in ("one/c.wav", "owl/a.wav", "wren/b.wav")]
    assert "5 folders are reached in two ways" in listing.notes[0]
    for name in ("a_root", "a_wren", "owl/up", "owl/top", "two"):
        assert f"{name} → " in listing.notes[0]


def test_links_to_files(tmp_path):
    root = tmp_path / "root"
    real = touch(root / "owl" / "b.wav")
    touch(tmp_path / "store" / "x.wav")
    touch(root / "owl" / "notes.txt")
    for link, target in (
        ("owl/a.wav", real), ("wren/c.wav", real), ("wren/d.wav", "../../store/x.wav"), ("wren/e.wav", "../../store/x.wav"),
        ("wren/gone.wav", "nowhere.wav"), ("wren/n.txt", "../owl/notes.txt"), ("wren/self.wav", "self.wav"),
    ):  # fmt: skip
        (root / link).parent.mkdir(exist_ok=True)
        (root / link).symlink_to(target)
    listing = search_folder(root)
    assert listing.paths == [real, root / "wren" / "d.wav"]
    assert listing.repeats == [
        (root / "owl/a.wav", real),
        (root / "wren/c.wav", real),
        (root / "wren/e.wav", root / "wren/d.wav"),
    ]
    assert [(error.path.name, error.reason) for error in listing.errors] == [
        ("gone.wav", "no such file: the link leads nowhere"),
        ("self.wav", "no such file: the link leads nowhere"),
    ]
    assert listing.notes == [f"{root}: other files, no recordings: 2 .txt"]


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.wav")
    assert [error.reason for error in search_folder(tmp_path).errors] == ["is not a regular file"] * 2


def test_a_folder_named_like_a_recording(tmp_path):
    touch(tmp_path / "night.wav" / "x.wav")
    paths, errors = find_audio(tmp_path)
    assert paths == [tmp_path / "night.wav" / "x.wav"]
    assert [error.reason for error in errors] == ["is a folder, not a file"]


def test_ten_thousand_nested_folders_are_a_line(tmp_path):
    touch(tmp_path / "a.wav")
    before, began = os.getcwd(), time.process_time()
    try:
        os.chdir(tmp_path)
        for _ in range(10_000):
            os.mkdir("d")
            os.chdir("d")
        listing = search_folder(tmp_path)
    finally:
        for _ in range(10_000):  # what removes the folder of the test would recurse
            os.chdir("..")
            os.rmdir("d")
        os.chdir(before)
    assert listing.paths == [tmp_path / "a.wav"]
    assert ["folders deep and is not searched" in error.reason for error in listing.errors] == [True]
    assert time.process_time() - began < 10


def test_empty_and_missing(tmp_path):
    assert find_audio(tmp_path) == ([], [])
    with pytest.raises(UserError, match="missing"):
        find_audio(tmp_path / "nowhere")
    touch(tmp_path / "x.wav")
    with pytest.raises(UserError, match="not a folder"):
        find_audio(tmp_path / "x.wav")


def test_a_relative_root(tmp_path, monkeypatch):
    touch(tmp_path / "owl" / "x.wav")
    monkeypatch.chdir(tmp_path)
    assert find_audio(".")[0] == [Path("owl/x.wav")]
    assert find_audio("./owl/")[0] == [Path("owl/x.wav")]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    touch(locked / "x.wav")
    list_folder = os.scandir

    def refuse(path):
        if os.fspath(path) == os.fspath(locked):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)  # as root, a mode of 0 stops nobody
    paths, errors = find_audio(tmp_path)
    assert paths == []
    assert [(error.path, error.reason) for error in errors] == [(locked, "folder cannot be listed: Permission denied")]
