"""Embedding throughput and training steps of BEATs-base on the device that is there: ours, or the openbeats package in PyTorch.

    python benchmarks/forward.py ours [--clips 64] [--seconds 10]
    OTHER_ENV/bin/python benchmarks/forward.py torch

For an accelerator (`gpu.sh`): both sides begin at normalised filterbanks on the device, float32 parameters, random weights; the
step is loss and gradients, dropout off, no optimizer. Clips a second, by the median round. One line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from train_step import Case, inputs, jax_computation, openbeats_encoder, random_params


def rates(computations: dict[str, Callable[[], None]], clips: int, rounds: int) -> dict[str, Any]:
    """Clips a second of each, in turns; the reason of one that fails."""
    seconds: dict[str, list[float]] = {name: [] for name in computations}
    failed: dict[str, str] = {}
    for number in range(rounds + 1):  # the first one compiles
        for name, compute in computations.items():
            if name in failed:
                continue
            start = time.perf_counter()
            try:
                compute()
            except Exception as error:  # noqa: BLE001  out of memory, mostly: the others still count
                failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if number:
                seconds[name].append(time.perf_counter() - start)
    return failed | {name: round(clips / float(np.median(times)), 1) for name, times in seconds.items() if times}


def torch_computation(model: Any, case: Case, precision: str) -> Callable[[], None]:
    """The encoder of openbeats on the GPU, or on the CPU where there is none."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    fbank, cotangent = (torch.from_numpy(array).to(device) for array in inputs(case))

    def features() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            return model.extract_features(fbank, None, skip_fbank_extraction=True)[0]

    def compute() -> None:
        if case.kind == "forward":
            with torch.inference_mode():
                features()
        else:
            model.zero_grad(set_to_none=True)
            (features().float() * cotangent).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return compute


def main() -> None:
    """Prints clips a second by kind and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("ours", "torch"))
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tiny", action="store_true", help="one clip of a second: a rehearsal")
    given = parser.parse_args()
    clips, frames = (1, 96) if given.tiny else (given.clips, 992)
    cases = {
        f"{kind}, {precision}": (Case(kind, clips, frames), precision)
        for kind in ("forward", "step")
        for precision in ("bfloat16", "float32")
    }
    if given.side == "torch":
        import torch

        model, device = openbeats_encoder(), torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        computations = {name: torch_computation(model, *case) for name, case in cases.items()}
        version = f"torch {torch.__version__}"
    else:
        import jax

        params, device, version = random_params(), jax.devices()[0].device_kind, f"jax {jax.__version__}"
        computations = {name: jax_computation(case, precision, clips, params) for name, (case, precision) in cases.items()}
    print(json.dumps({"device": device, "version": version, "clips": clips, **rates(computations, clips, given.rounds)}))


if __name__ == "__main__":
    main()
