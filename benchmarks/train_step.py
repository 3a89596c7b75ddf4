"""Speed of BEATs-base on a CPU, forward and one training step's gradients, against the openbeats package in PyTorch.

    python benchmarks/train_step.py --torch-python OTHER_ENV/bin/python            about fifteen minutes on two cores
    python benchmarks/train_step.py --torch-python OTHER_ENV/bin/python --quick    about five
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/train_step.py ...      both sides on large pages

Torch lives in an environment of its own: this file starts itself there and asks over pipes, one request at a time, while nothing
else of it runs. Rounds go A B C A B C with all sides warm; a ratio compares neighbours in time, and the median of the rounds'
ratios is reported, beside the ratio of the best times. Both sides have the same number of threads and random weights of the
released base model's shape, begin at normalised filterbanks in memory without a mask, and keep float32 parameters: a bfloat16
row casts them within the measured time. A step is loss and gradients of all parameters, dropout off, no optimizer.

"in parts of 1" sends a batch through clip by clip and, in a step, adds the gradients up. Every ratio is to the fastest of
torch's float32 ways, which for several clips is clip by clip. CPU s is user and system time of all threads: on a machine with
other work to do it is steadier than the clock. Torch's threads sleep in waiting; with OMP_WAIT_POLICY=active they spin, which
may be faster for it on an idle machine and is far slower on a busy one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rounds import here, print_rows, take_turns, timed
from torch_side import TorchSide

WIDTH, MEL_BINS, PATCH = 768, 128, 16


class Case(NamedTuple):
    """What is computed: `forward` or `step` on `clips` clips of `frames` filterbank frames."""

    kind: str
    clips: int
    frames: int


CASES = {
    "forward, 1 x 10 s": Case("forward", 1, 998),
    "forward, 4 x 10 s": Case("forward", 4, 998),
    "step, 4 x 10 s": Case("step", 4, 998),
    "step, 8 x 5 s": Case("step", 8, 498),
}


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """fbank f32 [clips, frames, 128] and the gradient that the loss sends back, f32 [clips, tokens, 768]."""
    random = np.random.default_rng(0)
    tokens = case.frames // PATCH * (MEL_BINS // PATCH)
    fbank = 0.5 * random.standard_normal((case.clips, case.frames, MEL_BINS))
    return fbank.astype(np.float32), (random.standard_normal((case.clips, tokens, WIDTH)) / tokens).astype(np.float32)


# ---------------------------------------------------------------- the torch side, in its own process


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"case": [kind, clips, frames], "precision": ..., "part": clips}."""
    import warnings

    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(threads)
    model = openbeats_encoder()
    print(json.dumps({"torch": torch.__version__, "openbeats": _version("openbeats")}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        compute = torch_computation(model, Case(*request["case"]), request["precision"], request["part"])
        for _ in range(request["warm"]):
            compute()
        print(json.dumps(timed(compute)), flush=True)


def openbeats_encoder() -> Any:
    """The base model with random weights and no dropout, in training mode."""
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    for name in ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi"):  # only its filterbank needs them
        sys.modules.setdefault(name, ModuleType(name)).__spec__ = ModuleSpec(name, None)
    from openbeats.beats_encoder import BeatsEncoder  # pyright: ignore[reportMissingImports]

    config = {
        "deep_norm": True,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "num_buckets": 320,
        "max_distance": 800,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "dropout_input": 0.0,
    }
    return BeatsEncoder(input_size=1, beats_config=config).train()


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


def torch_computation(model: Any, case: Case, precision: str, part: int) -> Callable[[], None]:
    import torch

    fbank, cotangent = (torch.from_numpy(array) for array in inputs(case))

    def features(x: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model.extract_features(x, None, skip_fbank_extraction=True)[0]

    def forward() -> None:
        with torch.inference_mode():
            for x in fbank.split(part):
                features(x)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        for x, weights in zip(fbank.split(part), cotangent.split(part), strict=True):
            (features(x).float() * weights).sum().backward()

    return forward if case.kind == "forward" else step


# ---------------------------------------------------------------- this side


def jax_computation(case: Case, precision: str, part: int, params: Any) -> Callable[[], None]:
    """The encoder as `beats_jax.load` and the objectives run it."""
    import jax
    import jax.numpy as jnp

    from beats_jax.models.beats import BEATs
    from beats_jax.objectives.objective import mean_gradients

    model = BEATs(base_config(), jnp.dtype(precision))
    fbank, cotangent = (jnp.asarray(array) for array in inputs(case))

    def features(params: Any, x: jax.Array) -> jax.Array:
        return model.apply({"params": params}, x).features  # type: ignore[union-attr]

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        total = jnp.sum(features(params, batch["fbank"]) * batch["cotangent"])
        return total, {"loss": (total, jnp.ones(()))}

    if case.kind == "forward":
        forward = jax.jit(features)
        pieces = [fbank[i : i + part] for i in range(0, case.clips, part)]
        return lambda: [forward(params, piece).block_until_ready() for piece in pieces] and None
    step = jax.jit(lambda params, batch: mean_gradients(loss, params, batch, jax.random.key(0), case.clips // part))
    batch = {"fbank": fbank, "cotangent": cotangent}
    return lambda: jax.block_until_ready(step(params, batch)) and None


def base_config() -> Any:
    from beats_jax.config import BEATsConfig

    return BEATsConfig()


def random_params() -> Any:
    import jax
    import jax.numpy as jnp

    from beats_jax.models.beats import BEATs

    return jax.jit(BEATs(base_config()).init)(jax.random.key(0), jnp.zeros((1, PATCH, MEL_BINS)))["params"]


def measure(case: Case, rounds: int, params: Any, torch_side: TorchSide | None, quick: bool) -> dict[str, np.ndarray]:
    """[rounds, 2] seconds and CPU seconds of each method, the methods taking turns."""
    methods: dict[str, Callable[[int], tuple[float, float]]] = {}
    parts = [case.clips] if case.clips == 1 else [case.clips, 1]
    for precision in ("float32", "bfloat16"):
        for part in parts:
            how = precision + (", in parts of 1" if part < case.clips else "")
            if torch_side is not None:
                request = {"case": list(case), "precision": precision, "part": part}
                methods[f"torch {how}"] = lambda warm, request=request: tuple(torch_side.ask(**request, warm=warm))  # type: ignore
            ours = jax_computation(case, precision, part, params)
            if quick and case.kind == "step" and part < case.clips:
                continue
            methods[f"beats_jax {how}"] = here(ours)
    return take_turns(methods, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="Python of an environment with torch and openbeats; left out: not compared")
    parser.add_argument("--threads", type=int, default=2, help="processor cores for every side")
    parser.add_argument("--rounds", type=int, help="rounds of forwards; half as many of steps, at least 2 (default: 7, quick 3)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; steps of 4 x 10 s only, ours of the whole batch")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None, help="only these")
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
    pages = os.environ.get("GLIBC_TUNABLES", "default allocator")
    print(f"{platform.machine()}, {arguments.threads} cores, {pages}, " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    print("\nms of all clips: median (best); x: speed relative to torch float32, median of ratios (of best times).\n")
    print("| case | method | ms | x | CPU s |\n|---|---|---|---|---|")
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    params = random_params()
    for name in arguments.cases or [name for name in CASES if not (arguments.quick and "8 x 5" in name)]:
        case = CASES[name]
        case_rounds = rounds if case.kind == "forward" else max(2, rounds // 2)
        print_rows(name, measure(case, case_rounds, params, torch_side, arguments.quick), "torch float32")
    if torch_side:
        torch_side.close()


if __name__ == "__main__":
    main()
