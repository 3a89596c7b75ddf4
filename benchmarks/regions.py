"""Regions of interest: speed and boxes beside bambird's path through scikit-maad, labels that are found, memory.

    python benchmarks/regions.py maad --data FOLDER --maad-python OTHER_ENV/bin/python --bambird CLONE [--every 1] [--rounds 3]
    python benchmarks/regions.py labels --data FOLDER       precision and recall at IoU 0.3 with suggested settings
    python benchmarks/regions.py memory [--hours 1,8]       peak memory of a fresh process over a FLAC of so many hours

FOLDER holds birds, finch, spinetail, soundscapes, bats and right-whale. `maad` needs scikit-maad in OTHER_ENV and a clone of
github.com/ear-team/bambird; both sides get the same waveforms at 48 kHz, in processes that take turns, and CPU seconds count.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from rounds import hand_over

from beats_jax.audio.io import read
from beats_jax.audio.regions import BAMBIRD, find_regions
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import read_events
from beats_jax.evaluation.metrics.events import MatchRule, match_events

RATE = 48_000
AGREES = 0.9  # IoU of a box with one of the other side's
FOLDERS = {"birds": "birds/audio/*", "finch": "finch/audio/*", "spinetail": "spinetail/*.flac", "soundscapes": "soundscapes/*"}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MEMORY = """
import re, sys, time
from beats_jax.audio.regions import stream_regions
start = time.process_time()
count = sum(1 for _ in stream_regions(sys.argv[1]))
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(f"{count} regions, {time.process_time() - start:.1f} CPU s with decoding, peak {peak:.0f} MiB")
"""


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU [N, M] of boxes [N, 4] and [M, 4]: start, end, low, high."""
    one, other = first[:, None], second[None]
    sides = [np.minimum(one[..., end], other[..., end]) - np.maximum(one[..., end - 1], other[..., end - 1]) for end in (1, 3)]
    shared = np.maximum(sides[0], 0) * np.maximum(sides[1], 0)
    areas = [(part[..., 1] - part[..., 0]) * (part[..., 3] - part[..., 2]) for part in (one, other)]
    return shared / (areas[0] + areas[1] - shared)


def beside_maad(data: Path, python: str, bambird: Path, every: int, rounds: int) -> None:
    """Prints how many boxes agree in each folder, and both speeds."""
    sounds = {
        f"{kind}|{path.name}": read(path, sample_rate=RATE)
        for kind, pattern in FOLDERS.items()
        for path in sorted(data.glob(pattern))[:: every if kind != "spinetail" else 1]
    }
    audio = sum(map(len, sounds.values())) / RATE
    with tempfile.TemporaryDirectory() as folder:
        waveforms, answer = Path(folder) / "waveforms.npz", Path(folder) / "answer.json"
        np.savez(waveforms, **sounds)  # type: ignore[arg-type]  names are no arguments of its own
        find_regions(next(iter(sounds.values())), BAMBIRD, sample_rate=RATE)
        times: list[tuple[float, float]] = []
        ours, theirs = {}, {}
        for _ in range(rounds):
            command = [python, str(Path(__file__).with_name("regions_maad.py")), str(waveforms), str(answer), str(bambird)]
            subprocess.run(command, check=True, env=ONE_THREAD)
            reply = json.loads(answer.read_text())
            start = time.process_time()
            ours = {name: find_regions(sound, BAMBIRD, sample_rate=RATE).to_numpy()[:, :4] for name, sound in sounds.items()}
            times.append((time.process_time() - start, reply["cpu_seconds"]))
            theirs = {name: np.array(rows).reshape(-1, 4) for name, rows in reply["boxes"].items()}
    for kind in FOLDERS:
        print(kind, agreement(ours, theirs, kind))
    ratios = [other / own for own, other in times]
    best = [min(column) for column in zip(*times, strict=True)]
    print(f"{audio:.0f} s: ours {audio / best[0]:.0f}x real time a core, bambird's {audio / best[1]:.0f}x (best of {rounds})")
    hand_over("regions", "bambird through scikit-maad", ratios)
    print(f"ours is {np.median(ratios):.1f} times as fast (median; {min(ratios):.1f} to {max(ratios):.1f})")


def agreement(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], kind: str) -> str:
    """Boxes of either side that have one of the other at `AGREES`."""
    counts = np.zeros(4, int)
    for name, wanted in theirs.items():
        if name.startswith(f"{kind}|"):
            shared = overlaps(wanted, ours[name]) >= AGREES
            counts += [len(wanted), shared.any(axis=1).sum(), len(ours[name]), shared.any(axis=0).sum()]
    return f"bambird {counts[0]} boxes, {counts[1]} of them found; ours {counts[2]}, {counts[3]} of them bambird's"


def labels(data: Path) -> None:
    """Prints precision and recall of regions as events at IoU 0.3 in time."""
    finch = read_rows(data / "finch/annotations.csv", data / "finch/audio")
    bats = read_rows(data / "bats/annotations.csv", data / "bats")
    track = read_events(data / "spinetail/spinetail.audacity.txt")
    song = [str(data / "spinetail/spinetail.flac")] * len(track)
    spinetail = Events.from_columns(song, track.starts, track.ends, track.labels.tolist())
    for name, truth in (("finch", finch), ("spinetail", spinetail), ("bats", bats)):
        truth = Events.from_columns(truth.files.tolist(), truth.starts, truth.ends, ["sound"] * len(truth))
        rows = [(file, *times) for file in truth.rows_of() for times in find_regions(file)[["start", "end"]].to_numpy().tolist()]
        files, starts, ends = zip(*rows, strict=True)
        found = Events.from_columns(files, starts, ends, ["sound"] * len(rows))
        hits = int((match_events(truth, found, MatchRule(iou=0.3)) >= 0).sum())
        counts = f"{len(truth)} labels, {len(found)} regions"
        print(f"{name}: precision {hits / len(found):.3f}, recall {hits / len(truth):.3f}; {counts}")


def whales(data: Path) -> None:
    """Prints in how many clips with and without an up-call a region of 0.3 s lies in its band; every 20th clip."""
    with (data / "right-whale/labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::20]
    seen: dict[str, list[bool]] = {}
    for row in rows:
        found = find_regions(data / "right-whale/audio" / row["filename"])
        fits = (found.low_hz < 250) & found.high_hz.between(100, 450) & (found.end - found.start > 0.3)
        seen.setdefault(row["label"], []).append(bool(fits.any()))
    for label, hits in sorted(seen.items()):
        print(f"{label}: a region in the band of up-calls in {np.mean(hits):.3f} of {len(hits)} clips")


def read_rows(table: Path, folder: Path) -> Events:
    """Rows of a CSV with file, start and end."""
    with table.open() as file:
        rows = list(csv.DictReader(file))
    starts, ends = ([float(row[name]) for row in rows] for name in ("start", "end"))
    return Events.from_columns([str(folder / row["file"]) for row in rows], starts, ends, ["sound"] * len(rows))


def memory(hours: list[float]) -> None:
    """Prints regions, CPU seconds and peak memory of a fresh process for each length."""
    rate = 24_000
    minute = np.random.default_rng(0).standard_normal(60 * rate) * 1e-3
    for start in range(rate, 59 * rate, rate // 2):
        chirp = np.linspace(1500, 6000, rate // 5)
        minute[start : start + len(chirp)] += 0.1 * np.hanning(len(chirp)) * np.sin(2 * np.pi * np.cumsum(chirp) / rate)
    for length in hours:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "night.flac"
            with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
                for _ in range(round(60 * length)):
                    file.write(minute)
            answer = subprocess.run(
                [sys.executable, "-c", MEMORY, str(path)], check=True, capture_output=True, text=True, env=ONE_THREAD
            )
        print(f"{length:g} h: {answer.stdout.strip()}")


def main() -> None:
    """Runs one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("maad", "labels", "memory"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--maad-python")
    parser.add_argument("--bambird", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hours", default="1,8")
    options = parser.parse_args()
    if options.what == "maad":
        beside_maad(options.data, options.maad_python, options.bambird, options.every, options.rounds)
    elif options.what == "labels":
        labels(options.data)
        whales(options.data)
    else:
        memory([float(hours) for hours in options.hours.split(",")])


if __name__ == "__main__":
    main()
