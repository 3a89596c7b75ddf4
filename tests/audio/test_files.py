"""Finding recordings in folders as they come from a recorder's card."""

import os

import pytest

from beats_jax.audio.files import AUDIO_SUFFIXES, find_audio
from beats_jax.errors import UserError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_recordings_come_sorted_and_hidden_ones_as_errors(tmp_path):
    wanted = ["b/deep/er/1.WAV", "a.flac", "b/2.Mp3", "é/コ.m4a", *(f"kind{suffix}" for suffix in AUDIO_SUFFIXES)]
    hidden = ["._a.flac", ".x.wav", "b/._2.mp3", ".trash/3.wav"]
    for name in [*wanted, *hidden, "notes.txt", "wav", ".DS_Store", "a.wav.part", ".wav"]:
        touch(tmp_path / name)
    paths, errors = find_audio(tmp_path)
    assert paths == sorted(tmp_path / name for name in wanted)
    assert [error.path for error in errors] == sorted(tmp_path / name for name in hidden)
    assert {error.reason for error in errors} == {"hidden file, left out"}


def test_a_root_below_a_hidden_folder_is_not_hidden(tmp_path):
    touch(tmp_path / ".cache" / "data" / "x.wav")
    assert find_audio(tmp_path / ".cache" / "data")[0] == [tmp_path / ".cache" / "data" / "x.wav"]


def test_links_are_followed_once(tmp_path):
    touch(tmp_path / "elsewhere" / "x.wav")
    root = tmp_path / "root"
    touch(root / "y.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    assert find_audio(root) == ([root / "linked" / "x.wav", root / "y.wav"], [])


def test_a_folder_named_like_a_recording(tmp_path):
    touch(tmp_path / "night.wav" / "x.wav")
    paths, errors = find_audio(tmp_path)
    assert paths == [tmp_path / "night.wav" / "x.wav"]
    assert [error.reason for error in errors] == ["is a folder, not a file"]


def test_empty_and_missing(tmp_path):
    assert find_audio(tmp_path) == ([], [])
    with pytest.raises(UserError, match="missing"):
        find_audio(tmp_path / "nowhere")
    touch(tmp_path / "x.wav")
    with pytest.raises(UserError, match="not a folder"):
        find_audio(tmp_path / "x.wav")


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
