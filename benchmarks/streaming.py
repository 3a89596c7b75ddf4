"""Hours of recordings through the inference engine: peak memory, share of the time that the encoder computes, decoding once.

    python benchmarks/streaming.py memory [--hours 1,24]     peak memory of a fresh process over FLAC files of so many hours
    python benchmarks/streaming.py busy [--minutes 20]       BEATs-base: time of the computation alone, over time with streaming
    python benchmarks/streaming.py decode                    10 minutes of OPUS and AAC by windows, over one pass of the decoder

`memory` embeds one long 16 kHz FLAC with mean and deviation of mel bands (no model), so that what is measured is the engine.
`busy` runs the same batches from memory and from a FLAC file in turns. `decode` pairs `window_batches` with a plain loop over
PyAV's frames, resampled to 16 kHz by soxr as one stream.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from rounds import hand_over

RATE = 16_000

EMBED = """
import re, sys, time, json
from beats_jax.config import AudioConfig
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import iterate_rows
from beats_jax.inference.program import FilterbankProgram
from beats_jax.inference.reduce import Pooled
from beats_jax.inference.stream import Recordings
start = time.perf_counter()
program = FilterbankProgram(AudioConfig())
rows = iterate_rows(program, Recordings.of_files([sys.argv[1]]), Grid(10.0), Pooled(("mean", "std")), batch_size=16)
(row,) = rows
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"hours": row.end / 3600, "seconds": time.perf_counter() - start, "peak_mib": peak / 1024}))
"""


def write_hours(path: Path, hours: float) -> Path:
    """A FLAC of noise bursts, written block by block."""
    rng = np.random.default_rng(0)
    block = (0.05 * rng.standard_normal(RATE * 60) * (np.sin(np.arange(RATE * 60) / 9000) ** 2)).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(hours * 60)):
            file.write(block)
    return path


def memory(hours: list[float]) -> None:
    peaks = []
    for one in hours:
        with tempfile.TemporaryDirectory() as place:
            path = write_hours(Path(place) / "long.flac", one)
            command = [sys.executable, "-c", EMBED, str(path)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        peaks.append(found["peak_mib"])
        speed = found["hours"] * 3600 / found["seconds"]
        print(f"{found['hours']:.2f} h: {speed:.0f}x real time, peak {found['peak_mib']:.0f} MiB", flush=True)
    print(f"peak of the longest over the shortest: {peaks[-1] / peaks[0]:.3f}")


def busy(minutes: float, rounds: int = 3) -> None:
    from load import write_base

    import beats_jax
    from beats_jax.inference.grid import Grid
    from beats_jax.inference.program import Outputs
    from beats_jax.inference.run import run
    from beats_jax.inference.stream import Recordings, window_batches

    with tempfile.TemporaryDirectory() as place:
        path = write_hours(Path(place) / "long.flac", minutes / 60)
        model = beats_jax.load(write_base(Path(place)))
        program = model.program(Outputs(("mean",)))

        def stream():
            return window_batches(Recordings.of_files([path]), Grid(10.0), model.audio, 16)

        held = list(stream())
        list(run(program, held[:1]))  # compiles
        shares = []
        for _ in range(rounds):
            times = []
            for batches in (held, stream()):
                start = time.perf_counter()
                list(run(program, batches))
                times.append(time.perf_counter() - start)
            shares.append(times[0] / times[1])
            speed = minutes * 60 / times[1]
            print(f"from memory {times[0]:.1f} s, streamed {times[1]:.1f} s ({speed:.1f}x real time)", flush=True)
        hand_over("share of the time that the encoder computes", "", shares)
        print(f"computing {np.median(shares):.1%} of the time (median of {rounds})")


def decode(rounds: int = 5) -> None:
    import av
    import soxr

    from beats_jax.config import AudioConfig
    from beats_jax.inference.grid import Grid
    from beats_jax.inference.stream import Recordings, window_batches

    def one_pass(path: Path) -> int:
        resampler, total = None, 0
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.audio[0]):
                if resampler is None:
                    resampler = soxr.ResampleStream(frame.sample_rate, RATE, 1, dtype="float32")
                samples = frame.to_ndarray().reshape(len(frame.layout.channels), -1).mean(axis=0, dtype=np.float32)
                total += len(resampler.resample_chunk(samples))
        return total

    with tempfile.TemporaryDirectory() as place:
        sound = 0.1 * np.random.default_rng(0).standard_normal(600 * 48_000).astype(np.float32)
        paths = [Path(place) / "ten.opus", Path(place) / "ten.aac"]
        soundfile.write(paths[0], sound, 48_000, format="OGG", subtype="OPUS")
        with av.open(str(paths[1]), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=48_000, layout="mono")
            for at in range(0, len(sound), 1024):
                frame = av.AudioFrame.from_ndarray(sound[None, at : at + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48_000, at
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for path in paths:
            ratios = []
            for _ in range(rounds):
                start = time.perf_counter()
                one_pass(path)
                middle = time.perf_counter()
                for _batch in window_batches(Recordings.of_files([path]), Grid(10.0), AudioConfig(), 16, threads=1):
                    pass
                ratios.append((time.perf_counter() - middle) / (middle - start))
            print(f"{path.suffix}: windows over one pass {np.median(ratios):.2f} (best {min(ratios):.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "busy", "decode"))
    parser.add_argument("--hours", default="1,24")
    parser.add_argument("--minutes", type=float, default=20.0)
    arguments = parser.parse_args()
    if arguments.what == "memory":
        memory([float(one) for one in arguments.hours.split(",")])
    elif arguments.what == "busy":
        busy(arguments.minutes)
    else:
        decode()


if __name__ == "__main__":
    main()
