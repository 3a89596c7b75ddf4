"""Files that are whole or absent, whatever happens while they are written, and what killed processes leave."""

import errno
import hashlib
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from beats_jax.errors import UserError
from beats_jax.files import put_in_place, remove_leftovers, sha256_of, whole_file, whole_folder, write_bytes, write_text

HOST = platform.node().split(".")[0][:40]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    place = tmp_path / "Ünïcode.txt"
    write_text(place, "old\n")
    with pytest.raises(KeyError):
        _fail_in_the_middle(place)
    assert place.read_text() == "old\n"
    assert os.listdir(tmp_path) == [place.name]
    write_bytes(place, b"new")
    assert place.read_bytes() == b"new"
    assert place.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _fail_in_the_middle(place):
    with whole_file(place) as file:
        file.write(b"half")
        file.flush()
        assert place.read_text() == "old\n"
        raise KeyError


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_names_as_long_as_the_file_system_takes(tmp_path):
    place = tmp_path / ("ü" * 127)
    write_text(place, "x")
    assert place.read_text() == "x"


def test_the_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        order.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        real_sync(descriptor)

    def replace(source, target):
        order.append(("rename", os.path.basename(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write_text(tmp_path / "a.json", "{}")
    assert [kind for kind, _ in order] == ["sync", "rename", "sync"]
    assert order[0][1].startswith(".a.json.")
    assert order[1:] == [("rename", "a.json"), ("sync", tmp_path.name)]
    order.clear()
    with whole_folder(tmp_path / "run") as folder:
        (folder / "clip.wav").write_bytes(b"RIFF")
    assert order[0] == ("sync", "clip.wav")
    assert order[-2:] == [("rename", "run"), ("sync", tmp_path.name)]
    assert (tmp_path / "run" / "clip.wav").read_bytes() == b"RIFF"


def test_a_folder_appears_whole_and_never_over_another(tmp_path):
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "deep" / "data"):
        (tmp_path / "other.csv").read_bytes()
    assert os.listdir(tmp_path / "deep") == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(UserError, match="mine cannot be written: Directory not empty"), whole_folder(tmp_path / "mine") as folder:
        (folder / "a").touch()
    assert os.listdir(tmp_path / "mine") == ["notes"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "choose another place"),
    ],
)
def test_what_hinders_writing_is_one_line_with_the_remedy(tmp_path, monkeypatch, number, remedy):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=rf"a\.json cannot be written: .*{remedy}") as refusal:
        write_text(tmp_path / "a.json", "{}")
    assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_has_gone_is_named_and_another_file_s_error_is_not_ours(tmp_path):
    with pytest.raises(UserError, match="its folder is gone"):
        write_text(tmp_path / "gone" / "a.json", "{}")
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.json"):
        (tmp_path / "other.csv").read_bytes()


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-4, example 1
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "b") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_renaming_replaces(tmp_path):
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"old": "new"}


KILLED = """
import os, signal, sys
from beats_jax.files import whole_file, whole_folder
with whole_folder(sys.argv[1] + "/data") as folder, whole_file(sys.argv[1] + "/encoder/points.npz") as file:
    (folder / "clip.wav").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    (tmp_path / "encoder").mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = {file for file in tmp_path.rglob(".*.part")}
    assert len(left) == 2
    (tmp_path / "clip.part").touch()  # a download, a user's file
    (tmp_path / ".notes.part").touch()
    with whole_file(tmp_path / "mine.txt") as file:
        file.write(b"kept")
        assert set(remove_leftovers(tmp_path)) == left
    assert sorted(os.listdir(tmp_path)) == [".notes.part", "clip.part", "encoder", "mine.txt"]
    assert os.listdir(tmp_path / "encoder") == []
    assert remove_leftovers(tmp_path / "no such folder") == []


def test_of_a_process_elsewhere_only_what_is_a_day_old_goes(tmp_path):
    old, new = tmp_path / ".a.elsewhere.7.0123abcd.part", tmp_path / ".b.elsewhere.7.0123abcd.part"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    mine = tmp_path / f".c.{HOST}.{os.getpid()}.0123abcd.part"
    mine.touch()
    os.utime(mine, (time.time() - 90_000,) * 2)
    assert remove_leftovers(tmp_path) == [old]
    assert remove_leftovers(tmp_path) == []
