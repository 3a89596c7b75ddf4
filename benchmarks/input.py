"""How fast sound comes from disk to the device, how much of a training step waits for it, and whether memory stays flat.

    python benchmarks/input.py                       all three, about five minutes on two cores
    python benchmarks/input.py --quick               the same over fewer files, about one minute
    python benchmarks/input.py --step-seconds 0.25   the share of a step of 0.25 s that waits for data

Files are generated: 10 s, stereo, 44.1 kHz, WAV and FLAC; the loader mixes them down to 16 kHz. The share of waiting is measured,
not computed: a step stands between two batches (a pause of --step-seconds, or any function given to `measure`) while the workers
go on. A pause leaves the cores to the workers, as a step on an accelerator does; training on the CPU needs a real step function.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rounds import hand_over

from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.loader import training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest

NATIVE_RATE = 44_100
CLASSES = ("a", "b")
DISTINCT_FILES = 32  # the others are links to these, so that ten thousand files need little disk


@dataclass(frozen=True)
class Loading:
    """What `measure` found.

    Attributes:
      clips_per_second: examples that arrived on the device per second, steps included.
      seconds_per_batch: from one batch to the next.
      waiting_share: share of that time spent waiting for the loader and the copy to the device.
      cpu_seconds_per_clip: of this process, all threads: steady on a busy machine; without meaning for worker processes.
      first_batch_seconds: until the first batch was there (not counted above).
    """

    clips_per_second: float
    seconds_per_batch: float
    waiting_share: float
    cpu_seconds_per_clip: float
    first_batch_seconds: float


def measure(
    manifest: Manifest, data: DataConfig, *, batches: int, step: Callable[[dict[str, Any]], None] | None = None
) -> Loading:
    """Draws batches to the default device, with `step(arrays on the device)` after each; `step` returns when it is done."""
    import jax

    begin, cpu = time.perf_counter(), time.process_time()
    stream = training_batches(manifest, LabelVocabulary(CLASSES), data, AudioConfig(), seed=0)
    waited, arrived = 0.0, 0
    first = before = 0.0
    for number, batch in enumerate(islice(stream, batches + 1)):
        arrays = jax.block_until_ready(jax.device_put(batch.arrays))
        now = time.perf_counter()
        if number == 0:
            first, begin, cpu = now - begin, now, time.process_time()
        else:
            waited, arrived = waited + now - before, arrived + int(batch.arrays["example_mask"].sum())
        if number < batches and step is not None:
            step(arrays)
        before = time.perf_counter()
    total, cpu = before - begin, time.process_time() - cpu
    stream.close()
    return Loading(arrived / total, total / batches, waited / total, cpu / arrived, first)


def make_files(root: Path, count: int, suffix: str, seconds: float) -> Manifest:
    """A manifest of `count` files of stereo noise with a falling spectrum (which FLAC can shrink), most of them links."""
    import soundfile

    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    distinct = min(count, DISTINCT_FILES)
    for k in range(distinct):
        sound = np.cumsum(rng.standard_normal((round(seconds * NATIVE_RATE), 2)), axis=0)
        sound -= sound.mean(axis=0)
        soundfile.write(root / f"{k:06d}.{suffix}", 0.5 * sound / np.abs(sound).max(), NATIVE_RATE, subtype="PCM_16")
    for k in range(distinct, count):
        os.link(root / f"{k % distinct:06d}.{suffix}", root / f"{k:06d}.{suffix}")
    files = [str(root / f"{k:06d}.{suffix}") for k in range(count)]
    manifest = Manifest.from_columns(files, [[CLASSES[k % 2]] for k in range(count)])
    return manifest.with_metadata(seconds=np.full(count, seconds))


def report_speed(args: argparse.Namespace, folder: Path) -> None:
    """Prints clips per second and the share of waiting for WAV and FLAC at 1, 2 and 4 workers."""
    pause = (lambda _: time.sleep(args.step_seconds)) if args.step_seconds else None
    heads = ("file", "workers", "kind", "clips/s", "CPU ms/clip", "s/batch", "first s", f"waits at {args.step_seconds:g} s/step")
    print(" ".join(f"{head:>11}" for head in heads))
    for suffix in ("wav", "flac"):
        manifest = make_files(folder / suffix, args.files, suffix, args.seconds)
        for workers in args.workers:
            data = DataConfig(
                batch_size=args.batch_size, num_workers=workers, window_seconds=args.seconds, worker_kind=args.worker_kind
            )
            free = measure(manifest, data, batches=args.batches)
            share = f"{measure(manifest, data, batches=args.batches, step=pause).waiting_share:.1%}" if pause else "-"
            cells = (suffix, workers, args.worker_kind, f"{free.clips_per_second:.1f}", f"{free.cpu_seconds_per_clip * 1000:.1f}")
            cells += (f"{free.seconds_per_batch:.3f}", f"{free.first_batch_seconds:.2f}", share)
            print(" ".join(f"{cell:>11}" for cell in cells), flush=True)


def report_memory(args: argparse.Namespace, folder: Path) -> None:
    """Prints the peak memory of one epoch over 100 and over 10,000 files, each in a process of its own."""
    print(f"\n{'files':>7} {'peak MB':>8} {'above imports':>14} {'seconds':>8}")
    peaks = []
    for count in (100, args.memory_files):
        command = [
            sys.executable,
            __file__,
            "--memory-child",
            str(count),
            "--seconds",
            str(args.memory_seconds),
            "--batch-size",
            "16",
        ]
        command += ["--folder", str(folder / f"memory_{count}")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        peaks.append(found["peak_mb"])
        above = found["peak_mb"] - found["imports_mb"]
        print(f"{count:>7} {found['peak_mb']:>8.1f} {above:>14.1f} {found['seconds']:>8.1f}", flush=True)
    hand_over(f"peak memory, {args.memory_files} files / 100", "", [peaks[1] / peaks[0]])
    print(f"peak of {args.memory_files} files / peak of 100 files = {peaks[1] / peaks[0]:.3f} (aim: at most 1.10)")


def memory_child(count: int, folder: Path, seconds: float, batch_size: int) -> None:
    """One epoch over `count` files; prints its peak memory as JSON."""
    import grain  # noqa: F401  imported first, so that its own memory can be told apart

    imports = peak_megabytes()
    manifest = make_files(folder, count, "wav", seconds)
    data = replace(DataConfig(), batch_size=batch_size, num_workers=2, window_seconds=seconds)
    begin = time.perf_counter()
    stream = training_batches(manifest, LabelVocabulary(CLASSES), data, AudioConfig(), seed=0)
    for batch in islice(stream, -(-count // batch_size)):
        assert batch.arrays["example_mask"].all()
    took = time.perf_counter() - begin
    print(json.dumps({"peak_mb": peak_megabytes(), "imports_mb": imports, "seconds": took}))


def peak_megabytes() -> float:
    """Peak resident memory of this process (Linux). `getrusage` will not do: a child starts with the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer files and batches")
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a file and of a window")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=20, help="batches per line of the table")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--worker-kind", default="thread", choices=("thread", "process"))
    parser.add_argument(
        "--step-seconds", type=float, default=0.0, help="length of a training step; 0 = leave the share of waiting out"
    )
    parser.add_argument("--memory-files", type=int, default=10_000)
    parser.add_argument("--memory-seconds", type=float, default=2.0, help="length of the files of the memory test")
    parser.add_argument("--memory-child", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_child:
        memory_child(args.memory_child, args.folder, args.seconds, args.batch_size)
        return
    if args.quick:
        args.files, args.batches, args.memory_seconds = 32, 6, 0.5
    with tempfile.TemporaryDirectory() as folder:
        report_speed(args, Path(folder))
        report_memory(args, Path(folder))


if __name__ == "__main__":
    main()
