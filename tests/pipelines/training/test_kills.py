"""A few kills of `kill_runs.py`, which makes any number of them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_runs_end_as_untouched_ones_and_changed_data_are_named():
    script = Path(__file__).with_name("kill_runs.py")
    command = [sys.executable, str(script), "--kills", "4", "--changed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills, 2 with changed data: 0 faults" in done.stdout
