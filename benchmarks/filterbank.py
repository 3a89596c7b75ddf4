"""Speed and exactness of the filterbank against kaldi-native-fbank and torchaudio, in one run.

    python benchmarks/filterbank.py --torch-python OTHER_ENV/bin/python

Torch lives in an environment of its own: this file starts itself there and asks over pipes, one request at a time, while nothing
else of it runs. Rounds go A B C A B C with all sides warm; a ratio compares neighbours in time, and the median of the rounds'
ratios is reported, beside the ratio of the best times (on a machine with other work to do, trust the latter more). Every side
starts at waveforms in memory, ends at normalised values, and has the same number of threads. kaldi-native-fbank takes one clip at
a time and gives one frame at a time; torchaudio is called clip by clip as BEATs.py `preprocess` does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import hand_over
from torch_side import TorchSide

RATE, SECONDS, MEL_BINS, MEAN, STD = 16_000, 10, 128, 15.41663, 6.55582
CLIPS = (1, 8, 64)


def noise_clips(clips: int) -> np.ndarray:
    """f32 [clips, samples] of white noise, the same in every process."""
    return (0.1 * np.random.default_rng(0).standard_normal((clips, RATE * SECONDS))).astype(np.float32)


def signals() -> dict[str, np.ndarray]:
    """Four kinds of sound, f32 [1, samples], on which methods differ."""
    time_seconds = np.arange(RATE * SECONDS) / RATE
    noise = np.random.default_rng(1).standard_normal(RATE * SECONDS)
    kinds = {
        "noise": 0.1 * noise,
        "pure tone": 0.5 * np.sin(2 * np.pi * 1000 * time_seconds),
        "DC 0.3 + 1e-3 noise": 0.3 + 1e-3 * noise,
        "quiet noise 1e-4": 1e-4 * noise,
    }
    return {name: sound[None].astype(np.float32) for name, sound in kinds.items()}


def timed(compute: Callable[[], Any]) -> float:
    start = time.perf_counter()
    compute()
    return time.perf_counter() - start


# ---------------------------------------------------------------- the torch side, in its own process


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"time": clips}, or {"fbank": file, "to": file} of one array each."""
    import torch

    torch.set_num_threads(threads)
    kaldi, how = _torchaudio_kaldi()

    def fbank(waveforms: Any) -> Any:
        rows = []
        for waveform in waveforms:
            scaled = waveform.unsqueeze(0) * 2**15
            rows.append(kaldi.fbank(scaled, num_mel_bins=MEL_BINS, sample_frequency=RATE, frame_length=25, frame_shift=10))
        return (torch.stack(rows) - MEAN) / (2 * STD)

    print(json.dumps({"torch": torch.__version__, "torchaudio": how}), flush=True)
    clips: dict[int, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "time" in request:
            count = request["time"]
            if count not in clips:
                clips[count] = torch.from_numpy(noise_clips(count))
            print(json.dumps({"seconds": timed(lambda waveforms=clips[count]: fbank(waveforms))}), flush=True)
        else:
            np.save(request["to"], fbank(torch.from_numpy(np.load(request["fbank"]))).numpy())
            print(json.dumps({"saved": request["to"]}), flush=True)


def _torchaudio_kaldi() -> tuple[Any, str]:
    """torchaudio.compliance.kaldi and how it was found; it is plain Python, so a torchaudio built for another torch will do."""
    from importlib import metadata, util
    from importlib.machinery import PathFinder
    from types import ModuleType

    version = metadata.version("torchaudio")
    try:
        from torchaudio.compliance import kaldi  # pyright: ignore[reportMissingImports]

        return kaldi, version
    except (ImportError, OSError, RuntimeError) as error:
        place = PathFinder.find_spec("torchaudio")
        if place is None or not place.submodule_search_locations:
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio"] = ModuleType("torchaudio")  # kaldi.py needs more of it for MFCC only
        spec = util.spec_from_file_location("kaldi", Path(place.submodule_search_locations[0]) / "compliance" / "kaldi.py")
        if spec is None or spec.loader is None:
            raise
        kaldi = util.module_from_spec(spec)
        spec.loader.exec_module(kaldi)
        return kaldi, f"{version}, compliance/kaldi.py alone ({type(error).__name__} on import)"


def torch_fbank(torch_side: TorchSide, waveforms: np.ndarray) -> np.ndarray:
    """torchaudio's filterbank of a batch, computed by the torch process."""
    with tempfile.TemporaryDirectory() as folder:
        given, wanted = f"{folder}/waveforms.npy", f"{folder}/fbank.npy"
        np.save(given, waveforms)
        torch_side.ask(fbank=given, to=wanted)
        return np.load(wanted)


# ---------------------------------------------------------------- this side


def kaldi_native(waveforms: np.ndarray) -> np.ndarray:
    """kaldi-native-fbank over a batch, as its documentation shows."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = MEL_BINS
    rows = []
    for waveform in waveforms:
        computer = knf.OnlineFbank(options)
        computer.accept_waveform(RATE, (waveform * 2**15).tolist())
        computer.input_finished()
        rows.append(np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)]))
    return (np.stack(rows) - MEAN) / (2 * STD)


def float64_fbank(waveforms: np.ndarray) -> np.ndarray:
    """The truth that errors are measured against: the same steps in float64."""
    from beats_jax.audio.filterbank import BEATS, FLOOR, mel_matrix

    frames = np.lib.stride_tricks.sliding_window_view(waveforms.astype(np.float64) * 2**15, 400, axis=1)[:, ::160]
    frames = frames - frames.mean(-1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[..., :1], frames[..., :-1]], -1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames * window, 512)[..., :256]) ** 2
    return (np.log(np.maximum(power @ mel_matrix(BEATS), FLOOR)) - MEAN) / (2 * STD)


def our_forms() -> dict[str, Callable[[Any], Any]]:
    """The public function, which takes the FFT on CPUs, and the matrix form it takes on accelerators."""
    import jax

    from beats_jax.audio.filterbank import BEATS, beats_filterbank, log_mel_by_matrix

    matrix = jax.jit(lambda waveforms: (log_mel_by_matrix(waveforms, BEATS) - MEAN) / (2 * STD))
    return {
        "beats_jax": lambda x: beats_filterbank(x).block_until_ready(),
        "beats_jax, matrix form": lambda x: matrix(x).block_until_ready(),
    }


def measure(clips: int, rounds: int, torch_side: TorchSide | None) -> dict[str, np.ndarray]:
    """Seconds of every round for each method, the methods taking turns."""
    import jax.numpy as jnp

    waveforms = noise_clips(clips)
    on_device = jnp.asarray(waveforms)
    methods: dict[str, Callable[[], float]] = {
        name: lambda form=form: timed(lambda: form(on_device)) for name, form in our_forms().items()
    }
    methods["kaldi-native-fbank"] = lambda: timed(lambda: kaldi_native(waveforms))
    if torch_side is not None:
        methods["torchaudio, clip by clip"] = lambda: torch_side.ask(time=clips)["seconds"]
    for _ in range(2):
        for method in methods.values():
            method()
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            seconds[name].append(method())
    return {name: np.array(values) for name, values in seconds.items()}


def print_speed(batch_sizes: Sequence[int], rounds: int, torch_side: TorchSide | None) -> None:
    print(f"\n{SECONDS} s clips at {RATE} Hz. ms: median (best).")
    print("x: how many times as fast beats_jax is: median of the rounds' ratios (ratio of the best times).\n")
    print("| clips | method | ms | x |\n|---|---|---|---|")
    for clips in batch_sizes:
        seconds = measure(clips, max(3, rounds // 3) if clips > 8 else rounds, torch_side)
        ours = seconds["beats_jax"]
        for name, values in seconds.items():
            middle, best = np.median(values) * 1e3, values.min() * 1e3
            ratio, best_ratio = np.median(values / ours), values.min() / ours.min()
            hand_over(f"{clips} clips", name, values / ours)
            print(f"| {clips} | {name} | {middle:.1f} ({best:.1f}) | {ratio:.2f} ({best_ratio:.2f}) |", flush=True)


def print_errors(torch_side: TorchSide | None) -> None:
    methods: dict[str, Callable[[np.ndarray], Any]] = {**our_forms(), "kaldi-native-fbank": kaldi_native}
    if torch_side is not None:
        methods["torchaudio"] = partial(torch_fbank, torch_side)
    sounds = signals()
    print("\nLargest / mean error against float64, normalised units.\n")
    print("| method | " + " | ".join(sounds) + " |\n" + "|---" * (1 + len(sounds)) + "|")
    for name, method in methods.items():
        errors = [np.abs(np.asarray(method(sound)) - float64_fbank(sound)) for sound in sounds.values()]
        print(f"| {name} | " + " | ".join(f"{error.max():.1e} / {error.mean():.0e}" for error in errors) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="Python of an environment with torch and torchaudio; left out: not compared")
    parser.add_argument("--threads", type=int, default=2, help="processor cores for every side")
    parser.add_argument("--rounds", type=int, default=15, help="rounds for up to 8 clips; a third of them for more")
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help="batch sizes")
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_torch:
        serve_torch(arguments.threads)
        return
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads; the torch process inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    torch_side = TorchSide(arguments.torch_python, __file__, arguments.threads) if arguments.torch_python else None
    versions = {"jax": jax.__version__, **(torch_side.versions if torch_side else {})}
    print(f"{platform.machine()}, {arguments.threads} cores, " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    print_speed(arguments.clips, arguments.rounds, torch_side)
    print_errors(torch_side)
    if torch_side:
        torch_side.close()


if __name__ == "__main__":
    main()
