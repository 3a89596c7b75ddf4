"""Verbs whose standard streams are closed, full, narrow or no longer read: no traceback, and the status says what happened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERB = f"{sys.executable} -m beats_jax"


def shell(command, **environment):
    """Status and standard error of a line of bash; Python's own buffering of standard output is on, as users have it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env = {**inherited, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, check=False, timeout=120)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough(unbuffered):
    for reader in ("head -1", "true"):
        status, error = shell(f"{VERB} | {reader}; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
        assert status in (0, 141)  # it may have read all before it went
        assert error == ""


@pytest.mark.parametrize("arguments", ["", "train --help", "--version"])
def test_a_full_disk_behind_standard_output(arguments, tmp_path):
    always_full = Path("/dev/full").exists()  # elsewhere a file that may hold nothing
    status, error = shell(f"{VERB} {arguments} > /dev/full" if always_full else f"ulimit -f 0; {VERB} {arguments} > {tmp_path}/x")
    assert status == 2
    assert error == (
        "error: standard output or a file cannot be written: the disk is full; free some space and give the same command again\n"
    )


@pytest.mark.parametrize(("arguments", "expected"), [("", 0), ("nonsense", 2), ("train --config none.py", 2)])
def test_closed_streams(arguments, expected):
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        status, error = shell(f"{VERB} {arguments} {closed}")
        assert status == expected
        assert "Traceback" not in error


def test_a_closed_stream_s_number_goes_to_no_other_file(tmp_path):
    code = (
        "import os; from beats_jax.streams import prepare_streams; prepare_streams()\n"
        "file = open('x', 'w'); assert file.fileno() > 2, file.fileno()\n"
        "os.write(1, b'a message of some library'); print('ours'); file.write('kept'); file.close()\n"
    )
    assert shell(f'cd {tmp_path} && {sys.executable} -c "{code}" <&- >&- 2>&-')[0] == 0
    assert (tmp_path / "x").read_text() == "kept"


def test_a_terminal_that_knows_ascii_only():
    status, error = shell(f"{VERB} train --config Ünï.py", PYTHONIOENCODING="ascii")
    assert (status, error.startswith(r"error: config '\xdcn\xef.py' does not exist")) == (2, True)
    code = "import sys; from beats_jax.command_line import run_verb; sys.exit(run_verb(lambda argv: print('Ünï.wav') or 0, []))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, rb"\xdcn\xef.wav" + b"\n", b"")
