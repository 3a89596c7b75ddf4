"""A model as a program file (`convert --export`) against the live model: BEATs base with random weights, 10 s clips.

    python benchmarks/export.py [--rounds 5] [--clips 1 8]      a minute or two on two cores

Both sides take the same waveforms and lengths and give the embedding; they take turns, and a ratio compares neighbours in time.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rounds import here, print_rows, take_turns

SECONDS = 10


def sides(folder: Path) -> tuple[Callable[..., object], Callable[..., object]]:
    """(waveforms, lengths) → embedding, of the live model and of its file."""
    import jax
    import jax.numpy as jnp

    from beats_jax.config import AudioConfig, BEATsConfig
    from beats_jax.inference.export import export_model
    from beats_jax.inference.model import Model
    from beats_jax.models import registry
    from beats_jax.weights.bundle import Bundle
    from beats_jax.weights.exported import load_exported

    config = BEATsConfig()
    params = jax.jit(registry.build(config).init)(jax.random.key(0), jnp.zeros((1, 16, 128)))["params"]
    bundle = Bundle(jax.tree.map(np.asarray, params), config, AudioConfig(), (), False, "random")
    export_model(folder / "model.stablehlo", bundle, SECONDS)
    _, run = load_exported(folder / "model.stablehlo")
    model = Model(bundle)
    return lambda waveforms, lengths: model.embed(waveforms, lengths=lengths), run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="processor cores for both sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", nargs="+", type=int, default=(1, 8))
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import jax

    print(f"{platform.machine()}, {arguments.threads} cores, jax {jax.__version__}, {jax.default_backend()}")
    print("\nms of all clips: median (best); x: speed relative to the live model, median of ratios (of best times).\n")
    print("| case | method | ms | x | CPU s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        live, program = sides(Path(folder))
        for clips in arguments.clips:
            waveforms = (0.1 * np.random.default_rng(0).standard_normal((clips, SECONDS * 16_000))).astype(np.float32)
            lengths = np.full(clips, SECONDS * 16_000, np.int32)

            def compute(side: Callable[..., object], waveforms: np.ndarray = waveforms, lengths: np.ndarray = lengths) -> None:
                jax.block_until_ready(side(waveforms, lengths))

            methods = {
                "live": here(lambda compute=compute: compute(live)),
                "file": here(lambda compute=compute: compute(program)),
            }
            print_rows(f"BEATs base, {clips} x {SECONDS} s", take_turns(methods, arguments.rounds), "live")


if __name__ == "__main__":
    main()
