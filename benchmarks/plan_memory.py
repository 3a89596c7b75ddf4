"""What `train --plan cpu-N` says of memory, against what this machine's kernel counts while the step runs.

python benchmarks/plan_memory.py CONFIG DEVICES [SETTING ...]      such as: small 2 --config.data.batch_size=32

Peak of resident memory during one step, less that before the state was made. All simulated devices lie in one process, so
the plan of one is taken DEVICES times.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Prints both figures and their ratio."""
    config, devices, *settings = sys.argv[1:]
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    import jax

    from beats_jax.command_line import read_experiment
    from beats_jax.pipelines.planning.machines import machine_of
    from beats_jax.pipelines.planning.plan import compile_plan

    found, program, state, arrays = compile_plan(read_experiment(config, settings), machine_of(f"cpu-{devices}"))
    print(found)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = resident("VmRSS")
    make = jax.jit(
        lambda shapes=(state, arrays): jax.tree.map(lambda leaf: jax.numpy.ones(leaf.shape, leaf.dtype), shapes),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, (state, arrays)),
    )
    made = make()
    jax.block_until_ready(program(*made))
    peak = resident("VmHWM") - before
    said = found.memory * int(devices)
    print(f"measured {peak / 1e6:.0f} MB, said {said / 1e6:.0f} MB: {said / peak:.3f}")


if __name__ == "__main__":
    main()
