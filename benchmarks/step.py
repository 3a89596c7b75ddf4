"""One whole training step of a configuration on this machine, in a process of its own: seconds, memory, share of the peak.

    python benchmarks/step.py small --devices 2 --config.data.batch_size=32       two simulated devices of the CPU
    python benchmarks/step.py finetune --machine 1xH200 --config.model.checkpoint=none --config.training.precision=bfloat16
    python benchmarks/step.py finetune --machine 1xH200 --trace FOLDER ...        jax.profiler's trace of three steps

The step is what `train` runs (filterbank, model, gradients, optimizer), compiled as `train --plan` does, on noise. Printed: a
line of JSON. `said` is the memory that the plan states for all devices. On a CPU memory is the growth of the resident set in the
step, elsewhere the peak that the first device's allocator counts. `mfu` needs --machine: products over time over its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from plan_memory import resident


def noise(leaf: Any, random: np.random.Generator) -> Any:
    """Small positive numbers (a second moment may not be negative); whole numbers are 1."""
    import jax

    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0) if leaf.shape == () else jax.random.split(jax.random.key(0), leaf.shape)
    if not np.issubdtype(leaf.dtype, np.floating) and leaf.dtype.name != "bfloat16":
        return np.ones(leaf.shape, leaf.dtype)
    return np.abs(random.standard_normal(leaf.shape, np.float32) * 0.02).astype(leaf.dtype)


def batch_of(shapes: dict[str, Any], random: np.random.Generator) -> dict[str, np.ndarray]:
    """A batch of noise that lasts the whole window."""
    found = {name: noise(leaf, random) for name, leaf in shapes.items()}
    for name, leaf in shapes.items():
        if name.endswith("lengths"):
            found[name] = np.full(leaf.shape, shapes[name.replace("lengths", "waveforms")].shape[1], leaf.dtype)
        elif name.endswith(("rows", "positions")):
            found[name] = np.arange(leaf.shape[0], dtype=leaf.dtype)
    return found


def top_costs(folder: Path, most: int = 5) -> list[tuple[str, float, float]]:
    """Name, ms and share of the operations that took most of the time in a trace: of the devices, else of the CPU's threads."""
    import jax

    data = jax.profiler.ProfileData.from_file(str(max(folder.rglob("*.xplane.pb"))))
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    spent: dict[str, float] = {}
    for plane in devices or planes:
        lines = list(plane.lines)
        own = [line for line in lines if "XLA Ops" in line.name or line.name.startswith(("Stream", "tf_XLA"))] or lines
        # names with :: are of the runtime and hold the operations within them
        for event in (event for line in own for event in line.events if "::" not in event.name):
            spent[event.name] = spent.get(event.name, 0.0) + event.duration_ns / 1e6
    total = sum(spent.values())
    largest = sorted(spent.items(), key=lambda cost: -cost[1])[:most]
    return [(name[:120], round(ms, 3), round(ms / total, 4)) for name, ms in largest]


def measure(given: argparse.Namespace, settings: list[str]) -> dict[str, Any]:
    """The figures of one configuration."""
    import jax

    from beats_jax.command_line import read_experiment
    from beats_jax.pipelines.planning.machines import machine_of
    from beats_jax.pipelines.planning.plan import compile_plan

    experiment, random = read_experiment(given.config, settings), np.random.default_rng(0)
    machine = machine_of(given.machine or f"cpu-{given.devices}")
    plan, step, state, arrays = compile_plan(experiment, machine)
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = resident("VmRSS")
    state = jax.tree.map(lambda leaf: jax.device_put(noise(leaf, random), leaf.sharding), state)
    batch = batch_of(arrays, random)
    batch = {name: jax.device_put(batch[name], leaf.sharding) for name, leaf in arrays.items()}
    seconds = []
    for number in range(given.rounds + 1):
        if given.trace and number == max(1, given.rounds - 2):
            jax.profiler.start_trace(str(given.trace))
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
    if given.trace:
        jax.profiler.stop_trace()
    middle = float(np.median(seconds[1:]))
    statistics = jax.local_devices()[0].memory_stats() or {}
    peak = resident("VmHWM") - before if on_cpu else statistics.get("peak_bytes_in_use", 0)
    found = {
        "seconds": middle,
        "best": min(seconds[1:]),
        "clips a second": experiment.data.batch_size / middle,
        "MB": peak / 1e6,
        "said MB": plan.memory * machine.count / 1e6,
        "TFLOP": plan.flops / 1e12,
        "device": jax.devices()[0].device_kind,
        "load": os.getloadavg()[0],
    }
    if given.trace:
        found["top costs: name, ms of three steps, share"] = top_costs(given.trace)
    return found | ({"mfu": plan.flops / middle / machine.count / machine.device.flops} if not machine.is_simulated else {})


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--devices", type=int, default=1, help="simulated devices of the CPU")
    parser.add_argument("--machine", help="a machine of `train --plan`, such as 1xH200: this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trace", type=Path)
    given, settings = parser.parse_known_args()
    if not given.machine:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={given.devices}"
    found = measure(given, settings)
    print(json.dumps({name: round(value, 5) if isinstance(value, float) else value for name, value in found.items()}))


if __name__ == "__main__":
    main()
