"""Seconds from `train` to its first step, and memory until then, over the number of rows and of files.

    python benchmarks/start.py                        10² to 10⁶ rows of 300 files, and 10⁵ files of a row each
    python benchmarks/start.py --cases 1000000x300    ROWSxFILES ...

A table names stretches of 0.2 s, each with one of 40 labels, in files of noise that are as long as the table needs; the run is
that of configs/small.py with a window of 0.655 s, killed after its first step. Memory is the largest resident set of the process
(VmHWM), with interpreter, JAX and the compiled step. Beside it: seconds until the rows are known (found, checked, split).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
from rounds import hand_over

CASES = ("100x100", "1000x300", "10000x300", "100000x300", "1000000x300", "100000x100000")
RATE, STRETCH, APART, LABELS = 8_000, 0.2, 0.01, 40
SETTINGS = {
    "data.source": "csv",
    "data.num_workers": 2,
    "data.window_seconds": 0.655,
    "data.evaluation_window_seconds": 0.655,
    "training.log_every_steps": 1,
}


def make(folder: Path, rows: int, files: int) -> None:
    """`labels.csv` of `rows` stretches in `files` WAVs, 1000 in a folder."""
    random = np.random.default_rng(0)
    samples = round(RATE * (STRETCH + APART * (-(-rows // files) - 1)))
    names = [f"{number // 1000:03d}/{number:06d}.wav" for number in range(files)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, RATE, samples, "NONE", ""))
            file.writeframes(random.integers(-9_000, 9_000, samples, np.int16).tobytes())
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "start", "end", "label"))
        for row in range(rows):
            start = row // files * APART
            table.writerow((names[row % files], f"{start:.2f}", f"{start + STRETCH:.2f}", f"species {row % LABELS:02d}"))


def measure(folder: Path, workdir: Path, *settings: str) -> dict[str, float]:
    """Trains on the table of `folder` until the first step is done: seconds until rows are known and until then, and peak MB."""
    overrides = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "beats_jax.train", "--config", "small", "--workdir", str(workdir)]
    command += [*overrides, f"--config.data.metadata_file={folder / 'labels.csv'}", *settings]
    began, found, seen = time.perf_counter(), {}, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)
            if "rows" not in found and " rows, " in line:
                found["rows known, s"] = time.perf_counter() - began
            if line.startswith("step 1 "):
                found["first step, s"] = time.perf_counter() - began
                break
        else:
            raise SystemExit("".join(seen))
        usage = Path(f"/proc/{process.pid}/status").read_text()
        cpu = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        process.kill()
    found["CPU s"] = cpu / os.sysconf("SC_CLK_TCK")
    found["peak MB"] = int(re.search(r"VmHWM:\s+(\d+)", usage)[1]) / 1000
    return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
    """Prints a line of JSON a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="ROWSxFILES")
    parser.add_argument("--keep", type=Path, help="folder in which the recordings stay for another run")
    arguments = parser.parse_args()
    for case in arguments.cases:
        rows, files = map(int, case.split("x"))
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.keep or Path(temporary)) / case
            if not (folder / "labels.csv").exists():
                folder.mkdir(parents=True, exist_ok=True)
                make(folder, rows, files)
            found = measure(folder, Path(temporary) / "run")
        for name in ("first step, s", "peak MB"):
            hand_over(f"{rows} rows of {files} files", name, [found[name]])
        print(json.dumps({"rows": rows, "files": files, **found, "load": round(os.getloadavg()[0], 1)}), flush=True)


if __name__ == "__main__":
    main()
