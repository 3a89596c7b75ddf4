"""Loading a BEATs-base file (361 MB, official layout, random weights): seconds against torch, and the peak of memory.

    python benchmarks/load.py --torch-python OTHER_ENV/bin/python [--rounds 7]      a minute on two cores

The other environment needs torch and openbeats. torch: `torch.load(mmap=True)` and a strict
`load_state_dict` into an existing model; ours: `beats_jax.load`, which also builds the model and checks every key, shape and
value. The file is in the page cache for both; sides take turns, and the median of the rounds' ratios is reported beside the ratio
of the best times. The peak is that of a fresh process that loads, less that of one that only imports, over the size of the file.
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
from typing import Any

import numpy as np
from rounds import here, print_rows, take_turns, timed
from torch_side import TorchSide
from train_step import openbeats_encoder

PEAK = """
import re, sys
import beats_jax, beats_jax.weights.pretrained, jax
jax.devices()
if len(sys.argv) > 1:
    model = beats_jax.load(sys.argv[1])
    jax.block_until_ready(model.params)
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])  # ru_maxrss would begin with the parent's
"""


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"file", "warm"}."""
    import torch

    torch.set_num_threads(threads)
    model = openbeats_encoder()
    mask_kernels = {
        key: value for key, value in model.state_dict().items() if "_pad" in key
    }  # openbeats' own, in no official file
    print(json.dumps({"torch": torch.__version__}), flush=True)

    def load(file: str) -> None:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        model.load_state_dict({**content["model"], **mask_kernels})

    for line in sys.stdin:
        request = json.loads(line)
        for _ in range(request["warm"]):
            load(request["file"])
        print(json.dumps(timed(lambda file=request["file"]: load(file))), flush=True)


def write_base(folder: Path) -> Path:
    """A file of the official layout with random weights of the released base model's shape."""
    from flax.traverse_util import unflatten_dict

    from beats_jax.config import BEATsConfig
    from beats_jax.weights.architecture import param_shapes
    from beats_jax.weights.families.beats import to_cfg, to_torch
    from beats_jax.weights.torch_writer import write_torch_file

    draw, config = np.random.default_rng(0), BEATsConfig()
    shapes = param_shapes(config)
    flat = {path: 0.02 * draw.standard_normal(shape, dtype=np.float32) for path, shape in shapes.items()}
    return write_torch_file(folder / "base.pt", {"cfg": to_cfg(config), "model": to_torch(unflatten_dict(flat, sep="/"), config)})


def load_here(file: Path) -> Any:
    import jax

    import beats_jax

    return jax.block_until_ready(beats_jax.load(file).params)


def peak(*arguments: str) -> int:
    """Bytes: the largest resident size of a fresh process (Linux)."""
    command = [sys.executable, "-c", PEAK, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="Python of an environment with torch and openbeats; left out: not compared")
    parser.add_argument("--threads", type=int, default=2, help="processor cores for every side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_torch:
        serve_torch(arguments.threads)
        return
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads; the torch process inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    torch_side = TorchSide(arguments.torch_python, __file__, arguments.threads) if arguments.torch_python else None
    with tempfile.TemporaryDirectory() as folder:
        file = write_base(Path(folder))
        size = file.stat().st_size
        print(
            f"{platform.machine()}, {arguments.threads} cores, {torch_side.versions if torch_side else ''}, {size / 1e6:.0f} MB"
        )
        methods: dict[str, Any] = {"beats_jax": here(lambda: load_here(file))}
        if torch_side is not None:
            methods = {"torch": lambda warm: tuple(torch_side.ask(file=str(file), warm=warm)), **methods}
        print("\nms: median (best); x: speed relative to torch, median of ratios (of best times).\n")
        print("| case | method | ms | x | CPU s |\n|---|---|---|---|---|")
        print_rows("load, warm", take_turns(methods, arguments.rounds), "torch")
        before, after = peak(), peak(str(file))
    print(
        f"\npeak memory: {before / 1e6:.0f} MB imported, {after / 1e6:.0f} MB loaded: {(after - before) / size:.2f} of the file"
    )
    if torch_side:
        torch_side.close()


if __name__ == "__main__":
    main()
