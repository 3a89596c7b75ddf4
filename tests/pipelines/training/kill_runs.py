"""Kills trainings at random moments, changes data in some, gives the command again, and compares with the run nobody touched.

    python tests/pipelines/training/kill_runs.py [--kills 30] [--changed 5] [--seed 0]

Prints a line a kill; the exit status is 1 where a model, its figures or predictions differ, or a change was not named.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from beats_jax.audio.io import write_wav

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    model = {"family": "beats", "embed_dim": 16, "encoder_layers": 1, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48,
             "encoder_attention_heads": 2, "conv_pos": 16, "conv_pos_groups": 2, "num_buckets": 32, "max_distance": 64}
    training = {"max_steps": 30, "evaluate_every_epochs": 2.0, "log_every_steps": 1}
    data = {"window_seconds": 0.5, "batch_size": 4, "num_workers": 1}
    return ConfigDict({"name": "kills", "data": data, "model": model, "training": training,
                       "evaluation": {"bootstrap_resamples": 50}})
"""
COMPARED = ("model/model.safetensors", "metrics.json", "predictions.csv")


def write_recordings(root: Path) -> None:
    """Two classes of ten tones in noise."""
    rng = np.random.default_rng(0)
    for label, pitch in (("owl", 400.0), ("wren", 1500.0)):
        (root / label).mkdir(parents=True)
        for number in range(10):
            time_ = np.arange(12_000) / 16_000
            sound = 0.2 * np.sin(2 * np.pi * (pitch + 40 * number) * time_) + 0.05 * rng.standard_normal(len(time_))
            write_wav(root / label / f"{number}.wav", sound.astype(np.float32), 16_000)


def fingerprint(run: Path) -> dict[str, str]:
    """Hash of every compared file."""
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest()[:16] for name in COMPARED}


def tested_files(run: Path) -> set[str]:
    """Names in predictions.csv."""
    return {line.split(",")[0] for line in (run / "predictions.csv").read_text().splitlines()[1:]}


class Trials:
    """A folder of recordings, the run nobody touched, and its time."""

    def __init__(self, place: Path) -> None:
        self.place, self.data = place, place / "data"
        write_recordings(self.data)
        (place / "config.py").write_text(CONFIG)
        self.environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(place / "cache")}
        self.environment.pop("XLA_FLAGS", None)  # of the tests, which simulate eight devices
        self.environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        for name in ("warm", "untouched"):  # the first one compiles
            started = time.perf_counter()
            self.finish(place / name)
            self.seconds = time.perf_counter() - started
        self.expected, self.tested = fingerprint(place / "untouched"), tested_files(place / "untouched")

    def command(self, run: Path, data: Path) -> list[str]:
        settings = ["--config", str(self.place / "config.py"), f"--config.data.root={data}", "--workdir", str(run)]
        return [sys.executable, "-m", "beats_jax.train", *settings, "--config.model.checkpoint=none"]

    def finish(self, run: Path, data: Path | None = None) -> tuple[int, str]:
        """Runs to the end: exit status, and what was printed."""
        command = self.command(run, data or self.data)
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)
        return done.returncode, done.stdout + done.stderr

    def kill(self, run: Path, seconds: float, data: Path) -> None:
        """Starts the run and kills it after so many seconds."""
        with subprocess.Popen(
            self.command(run, data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment
        ) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)

    def untouched(self, number: int, seconds: float) -> str:
        """A kill and the rest: "" where all is equal, else what is not."""
        run = self.place / f"run{number}"
        self.kill(run, seconds, self.data)
        status, text = self.finish(run)
        if status:
            return f"status {status}: {text.strip().splitlines()[-1]}"
        found = fingerprint(run)
        shutil.rmtree(run)
        return ", ".join(name for name in COMPARED if found[name] != self.expected[name])

    def changed(self, number: int, seconds: float, rng: np.random.Generator) -> str:
        """A kill, a change of the recordings, the rest: "" where it is named and nothing that was trained on is tested."""
        run, data = self.place / f"run{number}", self.place / f"data{number}"
        shutil.copytree(self.data, data)
        self.kill(run, seconds, data)
        # Killed before the rows were known, what follows is another run; killed after the end, nothing follows.
        recorded = (run / "manifest.csv.gz").is_file() and not (run / "metrics.json").is_file()
        files = sorted(path for path in data.rglob("*.wav"))
        victim = files[int(rng.integers(len(files)))]
        if number % 2:
            victim.unlink()
        else:
            write_wav(victim, rng.normal(0, 0.1, 12_000).astype(np.float32), 16_000)
        status, text = self.finish(run, data)
        if status:
            return f"status {status}: {text.strip().splitlines()[-1]}"
        named = victim.name in text and "since the run began" in text
        tested = {str(self.data / Path(name).relative_to(data)) for name in tested_files(run)}
        moved = tested - self.tested
        if not recorded:
            return ""
        return "" if named and not moved else f"named: {named}, moved: {moved}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--changed", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, faults = np.random.default_rng(arguments.seed), 0
    with tempfile.TemporaryDirectory() as place:
        trials = Trials(Path(place))
        print(f"untouched: {trials.seconds:.1f} s", flush=True)
        for number in range(arguments.kills):
            with_change = number < arguments.changed
            seconds = float(rng.uniform(0.5 if with_change else 0.0, 1.0)) * trials.seconds
            fault = trials.changed(number, seconds, rng) if with_change else trials.untouched(number, seconds)
            faults += bool(fault)
            kind = "killed and data changed" if with_change else "killed"
            print(f"{number}: {kind} at {seconds:.1f} s: {fault or ('named' if with_change else 'equal')}", flush=True)
    print(f"{arguments.kills} kills, {arguments.changed} with changed data: {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
