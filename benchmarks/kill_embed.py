"""Kills `embed` at random moments and compares what it wrote in the end with the table of a run that nobody stopped.

    python benchmarks/kill_embed.py [--kills 200] [--processes 2] [--seed 0] [--keep FOLDER]

Each call embeds the same odd recordings (filterbank, windows of 0.5 s, hop of 0.25 s) by two processes and is stopped by SIGKILL:
half of the kills fall anywhere between the start of Python and its end, half in the seconds in which rows are written. The same
command follows, until it ends by itself; its table must be that of the whole run, row for row, and errors.csv too, with no file
left over. Then the next output begins. A shard is written every 20 ms instead of every minute, so that kills hit writes.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beats_jax.audio.io import write_wav

RATE = 16_000
RECORDINGS = 400
PROGRAM = """
import sys
from beats_jax.inference import store
store.SECONDS_PER_SHARD = 0.02
from beats_jax.embed import main
sys.exit(main(sys.argv[1:]))
"""
EXPECTED = re.compile(r"embed\.json|errors\.csv|embeddings/(_job\.json|\.lock-00\d|part-00\d-\d{6}\.parquet)")


@dataclass
class Tally:
    """What happened, over all calls."""

    kills: Counter[str] = field(default_factory=Counter)  # by what was on disk at the time
    ended: int = 0
    faults: list[str] = field(default_factory=list)
    largest: float = 0.0  # difference between two values of the same window
    equal_bits: int = 0  # tables whose values are those of the whole run to the bit


def write_recordings(folder: Path) -> None:
    """Recordings of 0.1 to 6 s in three folders, and four files of which nothing or not all can be read."""
    rng = np.random.default_rng(0)
    for number in range(RECORDINGS):
        path = folder / f"card{number % 3}" / f"2026041{number % 9}_{number:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = int(rng.integers(RATE // 10, 6 * RATE))
        write_wav(path, (0.1 * rng.standard_normal(samples)).astype(np.float32), RATE)
    whole = (folder / "card0" / "20260410_000000.wav").read_bytes()
    (folder / "card1" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "card1" / "header.wav").write_bytes(whole[:44])
    (folder / "card2" / "empty.wav").touch()
    (folder / "card2" / "text.flac").write_text("no sound at all\n")


def start(folder: Path, output: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    job = []
    for index in range(processes):
        place = ["--coordinator", address, "--num-processes", str(processes), "--process-id", str(index)] if processes > 1 else []
        command = [sys.executable, "-c", PROGRAM, "--input", str(folder), "--output", str(output)]
        command += ["--window", "0.5", "--hop", "0.25", *place]
        log = (output.parent / f"{output.name}.{index}.log").open("wb")
        job.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        log.close()
    return job


def first_row_time(output: Path, job: list[subprocess.Popen[bytes]], begun: float) -> float:
    """Seconds after which rows are being computed."""
    record = output / "embed.json"
    old = record.stat().st_mtime_ns if record.exists() else 0
    while all(process.poll() is None for process in job) and not (record.exists() and record.stat().st_mtime_ns != old):
        time.sleep(0.005)
    return time.monotonic() - begun


def wait_until(moment: float, job: list[subprocess.Popen[bytes]]) -> None:
    while time.monotonic() < moment and any(process.poll() is None for process in job):
        time.sleep(0.002)


def kill(job: list[subprocess.Popen[bytes]], rng: np.random.Generator) -> bool:
    """SIGKILL to all processes, at once or one after the other. True unless all had ended by themselves."""
    order = rng.permutation(len(job))
    pause = 0.0 if rng.random() < 0.5 else float(rng.uniform(0, 0.3))
    killed = False
    for place in order:
        if job[place].poll() is None:
            job[place].kill()
            killed = True
        time.sleep(pause)
    for process in job:
        process.wait()
    return killed


def shards(output: Path) -> int:
    return len(list((output / "embeddings").glob("part-*.parquet")))


def read(output: Path) -> pa.Table:
    paths = sorted((output / "embeddings").glob("part-*.parquet"))
    table = pa.concat_tables([pq.read_table(path).replace_schema_metadata() for path in paths])
    return table.sort_by([("file", "ascending"), ("start", "ascending")])


def errors_of(output: Path) -> list[list[str]]:
    with (output / "errors.csv").open(encoding="utf-8", newline="") as file:
        return sorted(csv.reader(file))


def check(output: Path, whole: Path, tally: Tally) -> None:
    """Compares a finished output with that of the run that nobody stopped."""
    found, expected = read(output), read(whole)
    keys = list(zip(found["file"].to_pylist(), found["start"].to_pylist(), strict=True))
    doubled, missing = len(keys) - len(set(keys)), expected.num_rows - len(set(keys))
    if doubled or missing:
        tally.faults.append(f"{output.name}: {doubled} windows doubled, {missing} lost")
        return
    for name in expected.column_names:
        if name != "embedding" and not found[name].equals(expected[name]):
            tally.faults.append(f"{output.name}: column {name} differs")
    values = [np.array(table["embedding"].combine_chunks().flatten()) for table in (found, expected)]
    tally.largest = max(tally.largest, float(np.abs(values[0] - values[1]).max()))
    tally.equal_bits += values[0].tobytes() == values[1].tobytes()
    if errors_of(output) != errors_of(whole):
        tally.faults.append(f"{output.name}: errors.csv is {errors_of(output)}")
    names = [str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()]
    tally.faults += [f"{output.name}: left over {name}" for name in names if not EXPECTED.fullmatch(name)]


def run(place: Path, kills: int, processes: int, seed: int) -> Tally:
    rng = np.random.default_rng(seed)
    write_recordings(place / "recordings")
    whole = place / "whole"
    begun = time.monotonic()
    job = start(place / "recordings", whole, processes)
    opened = first_row_time(whole, job, begun)
    assert [process.wait() for process in job] == [0] * processes, (place / "whole.0.log").read_text()
    seconds = time.monotonic() - begun
    print(f"whole run: {seconds:.1f} s, rows from {opened:.1f} s on; {read(whole).num_rows} windows, {shards(whole)} shards")
    tally, number = Tally(), 0
    while sum(tally.kills.values()) < kills:
        output = place / f"output{number:03d}"
        before, begun = shards(output), time.monotonic()
        job = start(place / "recordings", output, processes)
        if rng.random() < 0.5:
            wait_until(begun + rng.uniform(0, 0.8 * seconds), job)
        else:
            ready = first_row_time(output, job, begun)
            wait_until(begun + ready + rng.uniform(0, 0.6 * (seconds - opened)), job)
        if kill(job, rng):
            after = shards(output)
            state = "before any output" if not output.exists() else "while rows were written" if after > before else "between"
            tally.kills[state] += 1
            continue
        if any(process.returncode for process in job):
            log = (place / f"{output.name}.0.log").read_text(errors="replace").splitlines()
            tally.faults.append(f"{output.name}: exit {[process.returncode for process in job]}: {log[-1:]}")
        else:
            check(output, whole, tally)
            tally.ended += 1
        number += 1
        done = sum(tally.kills.values())
        print(f"{done} kills, {tally.ended} outputs finished and compared, {len(tally.faults)} faults", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="new folder for recordings and outputs, which stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = given.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        tally = run(place, given.kills, given.processes, given.seed)
    print(f"{sum(tally.kills.values())} kills: " + ", ".join(f"{count} {state}" for state, count in tally.kills.items()))
    print(f"{tally.ended} outputs finished and compared row for row; {tally.equal_bits} equal to the bit, ", end="")
    print(f"largest difference of a value {tally.largest:g}; faults: {len(tally.faults)}")
    print("\n".join(tally.faults))
    return bool(tally.faults)


if __name__ == "__main__":
    sys.exit(main())
