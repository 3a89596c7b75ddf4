"""A folder of clips of 1 to 30 s through BEATs-base, from a fresh process to vectors: loading and compilation included.

    python benchmarks/mixed_folder.py --torch-python OTHER_ENV/bin/python [--clips 60] [--rounds 3] [--dtypes float32,auto]

The other environment needs torch, torchaudio, soundfile and openbeats. Theirs: `OpenBeats.from_pretrained`, then `encode_file`
and the mean of the patches, one file after the other, as its README shows. Ours: `beats_jax.load` and `BEATsFeatureExtractor`.
Both read the same random weights and 16 kHz FLAC files. The clock starts after the imports. Sides take turns; ratios are between
neighbours in time. Ours cuts clips longer than 10 s into windows of 10 s, theirs is one pass over each whole clip: the difference
of the vectors of clips up to 10 s is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from load import write_base
from rounds import print_rows

RATE = 16_000

THEIRS = """
import json, resource, sys, time
import numpy as np, torch
from openbeats.model import OpenBeats
checkpoint, out, threads, *files = sys.argv[1:]
torch.set_num_threads(int(threads))
start = time.perf_counter()
model = OpenBeats.from_pretrained(checkpoint)
np.save(out, np.stack([model.encode_file(file)["patch_embeddings"].mean(0) for file in files]))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime]))
"""

OURS = """
import json, resource, sys, time
import numpy as np
from beats_jax import BEATsFeatureExtractor
import beats_jax.api.extractor, jax
jax.devices()
checkpoint, out, dtype, *files = sys.argv[1:]
start = time.perf_counter()
extractor = BEATsFeatureExtractor(checkpoint, dtype=dtype)
np.save(out, extractor.extract_from_files(files))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime, extractor.model.architecture.dtype]))
"""


def write_clips(folder: Path, count: int) -> list[str]:
    """Clips of noise whose lengths are spread evenly over 1 to 30 s, in a mixed order."""
    rng = np.random.default_rng(0)
    files = []
    for number, seconds in enumerate(rng.permutation(np.linspace(1, 30, count))):
        files.append(str(folder / f"{number:03d}.flac"))
        soundfile.write(files[-1], 0.1 * rng.standard_normal(round(seconds * RATE)), RATE)
    return files


def measure(command: list[str]) -> list:
    """What a side prints: seconds, CPU seconds, and ours the precision."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OMP_WAIT_POLICY": "passive", **os.environ})
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", default="float32,auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files, checkpoint = write_clips(folder, arguments.clips), str(write_base(folder))
        theirs, ours = str(folder / "theirs.npy"), {dtype: str(folder / f"{dtype}.npy") for dtype in arguments.dtypes.split(",")}
        sides = {"openbeats": [arguments.torch_python, "-c", THEIRS, checkpoint, theirs, str(os.cpu_count()), *files]}
        for dtype, out in ours.items():
            sides[f"beats_jax {dtype}"] = [sys.executable, "-c", OURS, checkpoint, out, dtype, *files]
        results: dict[str, list] = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, command in sides.items():
                results[name].append(measure(command))
        print(f"{len(files)} clips, {platform.machine()}, {os.cpu_count()} cores; precision: " + ", ".join(
            f"{name} = {values[0][2]}" for name, values in results.items() if len(values[0]) > 2))  # fmt: skip
        print("| case | method | ms, median (best) | ratio, median (of best) | CPU s |\n|---|---|---|---|---|")
        times = {name: np.array([value[:2] for value in values], np.float64) for name, values in results.items()}
        print_rows(f"{len(files)} clips of 1 to 30 s", times, "openbeats")
        short = np.array([soundfile.info(file).duration <= 10 for file in files])
        right = np.load(theirs)[short]
        for dtype, out in ours.items():
            difference = np.abs(np.load(out)[short] - right).max() / np.abs(right).max()
            print(f"{dtype}, {short.sum()} clips up to 10 s: largest difference {difference:.2g} of the largest value")


if __name__ == "__main__":
    main()
