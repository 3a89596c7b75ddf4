"""Embedding files with BEATs-base against a loop of the PyPI package openbeats, same weights, same files, same machine.

    python benchmarks/features.py --torch-python OTHER_ENV/bin/python --audio FOLDER [--files 16] [--rounds 5]

The other environment needs torch, openbeats and torchaudio (of which it takes the filterbank). Theirs: `encode_file` and the mean
of the patches, one file after the other, as its README shows. Ours: `BEATsFeatureExtractor.extract_from_files`, in float32 and in
bfloat16, whose change of the vectors is printed. Both read the same 361 MB file of random weights and decode and resample the
files. Sides take turns; the median of the rounds' ratios is reported beside the ratio of the best times. Our time is split by
running each part alone: decoding in two threads, filterbank, encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from load import write_base
from rounds import here, print_rows, take_turns, timed
from torch_side import TorchSide


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"checkpoint", "files", "out", "warm"}; vectors go to the file `out`."""
    import torch
    from openbeats.model import OpenBeats

    torch.set_num_threads(threads)
    models: dict[str, OpenBeats] = {}
    print(json.dumps({"torch": torch.__version__}), flush=True)

    def embed(request: dict) -> None:
        model = models[request["checkpoint"]]
        np.save(request["out"], np.stack([model.encode_file(file)["patch_embeddings"].mean(0) for file in request["files"]]))

    for line in sys.stdin:
        request = json.loads(line)
        if request["checkpoint"] not in models:
            models[request["checkpoint"]] = OpenBeats.from_pretrained(request["checkpoint"])
        for _ in range(request["warm"]):
            embed(request)
        print(json.dumps(timed(lambda request=request: embed(request))), flush=True)


def parts(extractor, files: list[str], rounds: int) -> dict[str, float]:
    """Median seconds of decoding, filterbank and encoder, each alone, on all files."""
    import jax

    from beats_jax.audio.filterbank import filterbank
    from beats_jax.audio.io import read

    model = extractor.model

    def decode() -> list[np.ndarray]:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(lambda file: read(file, sample_rate=model.sample_rate), files))

    sounds = decode()
    samples = max(len(sound) for sound in sounds)
    waveforms = np.stack([np.pad(sound, (0, samples - len(sound))) for sound in sounds])
    compute = jax.jit(lambda waveforms: filterbank(waveforms, None, model.audio.filterbank)[0])
    batches = [waveforms[i : i + extractor.batch_size] for i in range(0, len(files), extractor.batch_size)]
    banks = [np.asarray(compute(batch)) for batch in batches]
    jobs = {
        "decode": decode,
        "filterbank": lambda: [compute(batch).block_until_ready() for batch in batches],
        "encoder": lambda: [model.encode_fbank(bank).features.block_until_ready() for bank in banks],
    }
    found = {}
    for name, job in jobs.items():
        job()
        found[name] = float(np.median([timed(job)[0] for _ in range(rounds)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python")
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--serve-torch", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve_torch:
        serve_torch(arguments.threads)
        return
    from beats_jax import BEATsFeatureExtractor

    suffixes = (".wav", ".flac", ".ogg")
    files = [str(path) for path in sorted(arguments.audio.rglob("*")) if path.suffix in suffixes][: arguments.files]
    other = TorchSide(arguments.torch_python, __file__, arguments.threads)
    print(f"{len(files)} files; {platform.machine()}, {os.cpu_count()} cores; {other.versions}")
    with tempfile.TemporaryDirectory() as place:
        checkpoint, out = write_base(Path(place)), str(Path(place) / "vectors.npy")
        extractors = {dtype: BEATsFeatureExtractor(checkpoint, dtype=dtype) for dtype in ("float32", "bfloat16")}
        vectors: dict[str, np.ndarray] = {}

        def ours(dtype: str):
            return here(lambda: vectors.update({dtype: extractors[dtype].extract_from_files(files)}))

        methods = {
            "openbeats": lambda warm: tuple(other.ask(checkpoint=str(checkpoint), files=files, out=out, warm=warm)),
            "beats_jax float32": ours("float32"),
            "beats_jax bfloat16": ours("bfloat16"),
        }
        results = take_turns(methods, arguments.rounds)
        print("| case | method | ms, median (best) | ratio, median (of best) | CPU s |\n|---|---|---|---|---|")
        print_rows(f"{len(files)} files", results, "openbeats")
        theirs = np.load(out)
        scale = np.abs(theirs).max()
        for dtype, found in vectors.items():
            cosine = np.sum(found * theirs, 1) / np.linalg.norm(found, axis=1) / np.linalg.norm(theirs, axis=1)
            print(f"{dtype}: largest difference to openbeats {np.abs(found - theirs).max() / scale:.2g} of the largest value, "
                  f"smallest cosine {cosine.min():.6f}")  # fmt: skip
        split = parts(extractors["float32"], files, arguments.rounds)
        print("float32, each part alone: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in split.items()))
    other.close()


if __name__ == "__main__":
    main()
