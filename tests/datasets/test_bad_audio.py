"""errors.csv: whole lines, each file once, whatever happened before."""

import csv
import threading
from pathlib import Path

import pytest

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError


def rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_each_file_is_listed_once_also_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "run" / "errors.csv"
    log = ErrorLog(path)
    assert log.add("b, ä.wav", 'it says "no"\nreally')
    assert not log.add("b, ä.wav", "another reason")
    again = ErrorLog(path)
    assert not again.add("b, ä.wav", "a third")
    assert again.add("c.wav", "silent")
    assert rows(path) == [["file", "reason"], ["b, ä.wav", 'it says "no" really'], ["c.wav", "silent"]]
    assert {file for file, _ in again.rows()} == {"b, ä.wav", "c.wav"}
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left


def test_a_line_cut_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    path.write_text("file,reason\na.wav,silent\nb.wa", encoding="utf-8")
    ErrorLog(path).add("b.wav", "truncated")
    assert rows(path) == [["file", "reason"], ["a.wav", "silent"], ["b.wav", "truncated"]]


def test_a_name_that_a_spreadsheet_would_run_is_text_and_comes_back(tmp_path: Path) -> None:
    log = ErrorLog(tmp_path / "errors.csv")
    for name in ("=HYPERLINK(1).wav", "-1.wav", "'@x.wav"):
        assert log.add(name, "=silent")
    assert rows(log.path)[1:] == [["'=HYPERLINK(1).wav", "'=silent"], ["'-1.wav", "'=silent"], ["''@x.wav", "'=silent"]]
    assert log.rows() == [("=HYPERLINK(1).wav", "=silent"), ("-1.wav", "=silent"), ("'@x.wav", "=silent")]
    assert not ErrorLog(log.path).add("-1.wav", "again")


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    log = ErrorLog(tmp_path / "errors.csv")
    threads = [threading.Thread(target=lambda: [log.add(f"{i}.wav", "x" * 50) for i in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(log.path)[1:]
    assert sorted(row[0] for row in found) == sorted(f"{i}.wav" for i in range(100))
    assert {row[1] for row in found} == {"x" * 50}


def test_strict_raises_and_another_file_is_not_overwritten(tmp_path: Path) -> None:
    log = ErrorLog(tmp_path / "errors.csv", strict=True)
    with pytest.raises(UserError, match=r"a\.wav: silent"):
        log.add("a.wav", "silent")
    assert rows(log.path)[1:] == [["a.wav", "silent"]]
    other = tmp_path / "notes.csv"
    other.write_text("date,note\n")
    with pytest.raises(UserError, match="not a list of bad files"):
        ErrorLog(other)
    assert other.read_text() == "date,note\n"


@pytest.mark.parametrize(
    "damage",
    [b"file,reason\na.wav\n", b"file,reason\na.wav,b,c\n", b"file,reason\n\xff\xfe.wav,x\n", b'file,reason\n"a"b,c\n', b"",
     b"file,reason\n" + b"x" * 200_000 + b",y\n", b"file,reason\n\na.wav,b\n"],
    ids=lambda data: repr(data[:24]),
)  # fmt: skip
def test_a_damaged_list_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "errors.csv"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"errors\.csv.*move it away") as refusal:
        ErrorLog(path)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == damage


def test_a_name_that_is_no_utf8_stays_readable(tmp_path: Path) -> None:
    """What the operating system gives for a file named 62 ff 2e 77 61 76."""
    log = ErrorLog(tmp_path / "errors.csv")
    assert log.add("b\udcff.wav", "no\udcffisy")
    assert log.rows() == [("b\\udcff.wav", "no\\udcffisy")]
    again = ErrorLog(log.path)
    assert not again.add("b\udcff.wav", "again")
    assert rows(log.path)[1:] == [["b\\udcff.wav", "no\\udcffisy"]]


def test_a_folder_that_goes_while_it_is_written_is_the_users_to_know(tmp_path: Path) -> None:
    log = ErrorLog(tmp_path / "run" / "errors.csv")
    log.path.unlink()
    with pytest.raises(UserError, match=r"errors\.csv cannot be written: its folder is gone"):
        log.add("a.wav", "silent")
    with pytest.raises(UserError, match="cannot be written"):
        ErrorLog(tmp_path / "run" / "deep" / ("x" * 300) / "errors.csv")
