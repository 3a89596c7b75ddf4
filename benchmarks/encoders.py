"""Forward of AST-base and EAT-base on a CPU against PyTorch: transformers' AST with sdpa, and EAT's definition in torch.nn.

    python benchmarks/encoders.py --torch-python OTHER_ENV/bin/python [--rounds 5]      some minutes on two cores

The other environment needs torch and transformers. Both sides begin at normalised filterbanks of 10.24 s in memory and have
random weights, the same number of threads, float32 parameters; a bfloat16 row casts within the measured time. Sides take turns,
a ratio compares neighbours in time, and the median of the rounds' ratios is reported beside the ratio of the best times. Every
ratio is to the fastest of torch's float32 ways: the whole batch at once, or clip by clip.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from rounds import here, print_rows, take_turns, timed
from torch_side import TorchSide

FRAMES, MEL_BINS = 1024, 128


def fbank(clips: int) -> np.ndarray:
    """Normalised filterbanks f32 [clips, 1024, 128]."""
    return (0.5 * np.random.default_rng(0).standard_normal((clips, FRAMES, MEL_BINS))).astype(np.float32)


# ---------------------------------------------------------------- the torch side, in its own process


def serve_torch(threads: int) -> None:
    """Answers requests, one JSON object a line: {"family", "clips", "precision", "part", "warm"}."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    models = {"ast": _torch_ast(), "eat": _torch_eat()}
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        compute = _torch_forward(models[request["family"]], request["clips"], request["precision"], request["part"])
        for _ in range(request["warm"]):
            compute()
        print(json.dumps(timed(compute)), flush=True)


def _torch_ast() -> Any:
    from transformers import ASTConfig, ASTModel

    return ASTModel(ASTConfig(attn_implementation="sdpa")).eval()


def _torch_eat() -> Any:
    """EAT-base as its code computes it (specs of eat: patches, positions, CLS, pre-norm, post-norm blocks), attention by sdpa."""
    import torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention

    width, heads = 768, 12

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
            self.fc1, self.fc2, self.gelu = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.GELU()

        def forward(self, x: Any) -> Any:
            batch, tokens, _ = x.shape
            q, k, v = self.qkv(x).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
            attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
            x = self.norm1(x + self.proj(attended))
            return self.norm2(x + self.fc2(self.gelu(self.fc1(x))))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, width, 16, 16)
            self.positions = nn.Parameter(torch.zeros(1, 512, width))
            self.cls, self.norm = nn.Parameter(torch.zeros(1, 1, width)), nn.LayerNorm(width, 1e-6)
            self.blocks = nn.Sequential(*(Block() for _ in range(12)))

        def forward(self, x: Any) -> Any:
            x = self.patches(x[:, None]).flatten(2).transpose(1, 2) + self.positions
            return self.blocks(self.norm(torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)))

    return Encoder().eval()


def _torch_forward(model: Any, clips: int, precision: str, part: int) -> Callable[[], None]:
    import torch

    x = torch.from_numpy(fbank(clips))

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            for piece in x.split(part):
                model(piece)

    return forward


# ---------------------------------------------------------------- this side


def jax_forward(family: str, params: Any, clips: int, precision: str) -> Callable[[], None]:
    """The encoder as `beats_jax.load` runs it, the whole batch in one call."""
    import jax
    import jax.numpy as jnp

    from beats_jax.config.models import MODEL_FAMILIES
    from beats_jax.models import registry

    module, x = registry.build(MODEL_FAMILIES[family](), precision), jnp.asarray(fbank(clips))
    forward = jax.jit(lambda params, x: module.apply({"params": params}, x).features)  # type: ignore[union-attr]

    def run() -> None:
        jax.block_until_ready(forward(params, x))

    return run


def random_params(family: str) -> Any:
    import jax
    import jax.numpy as jnp

    from beats_jax.config.models import MODEL_FAMILIES
    from beats_jax.models import registry

    module = registry.build(MODEL_FAMILIES[family]())
    return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, FRAMES, MEL_BINS)))["params"]


def measure(family: str, clips: int, rounds: int, params: Any, torch_side: TorchSide | None) -> dict[str, np.ndarray]:
    """[rounds, 2] seconds and CPU seconds of each method, the methods taking turns."""
    methods: dict[str, Callable[[int], tuple[float, float]]] = {}
    for precision in ("float32", "bfloat16"):
        for part in dict.fromkeys((clips, 1)):
            how = precision + (", clip by clip" if part < clips else "")
            if torch_side is not None:
                request = {"family": family, "clips": clips, "precision": precision, "part": part}
                methods[f"torch {how}"] = lambda warm, request=request: tuple(torch_side.ask(**request, warm=warm))  # type: ignore
        methods[f"beats_jax {precision}"] = here(jax_forward(family, params, clips, precision))
    return take_turns(methods, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="Python of an environment with torch and transformers; left out: not compared")
    parser.add_argument("--threads", type=int, default=2, help="processor cores for every side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--families", nargs="+", choices=("ast", "eat"), default=("ast", "eat"))
    parser.add_argument("--clips", nargs="+", type=int, default=(1, 4))
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
    print(f"{platform.machine()}, {arguments.threads} cores, " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    print("\nms of all clips: median (best); x: speed relative to torch float32, median of ratios (of best times).\n")
    print("| case | method | ms | x | CPU s |\n|---|---|---|---|---|")
    for family in arguments.families:
        params = random_params(family)
        for clips in arguments.clips:
            results = measure(family, clips, arguments.rounds, params, torch_side)
            print_rows(f"{family.upper()}, {clips} x 10.24 s", results, "torch float32")
    if torch_side:
        torch_side.close()


if __name__ == "__main__":
    main()
