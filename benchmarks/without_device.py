"""Compiles for accelerators that are not at hand, by their own compilers: our attention kernels, and a training step.

python benchmarks/without_device.py SITE tpu kernels             SITE: a folder with the unpacked wheel libtpu
python benchmarks/without_device.py SITE cuda kernels            jax-cuda13-plugin, jax-cuda13-pjrt, nvidia-cuda-nvcc, nvidia-nvvm
python benchmarks/without_device.py SITE cuda step kernel --config.data.batch_size=8 --config.data.window_seconds=60

Needs jax 0.12. It shows that the compilers accept the programs and how much memory they reserve, for a TPU v5e or an H100;
nothing runs. The step is that of the config `finetune` in one form of attention.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84978434048 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 patch: 0 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


def device_of(site: Path, platform: str) -> tuple[Any, Any, dict[str, str]]:
    """The described device, its abstract mesh for Pallas, and options of its compiler."""
    if platform == "tpu":
        os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_LIBRARY_PATH": str(site / "libtpu" / "libtpu.so")}
    else:
        tools = next(site.glob("nvidia/*/bin/ptxas")).parent
        os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
        os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={tools.parent}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jax._src import xla_bridge
    from jax.experimental import topologies
    from jax.sharding import AbstractDevice, AbstractMesh

    if platform == "tpu":
        found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
        kind = AbstractDevice(device_kind=found.device_kind, num_cores=1, platform="tpu")
        return found, AbstractMesh((), (), abstract_device=kind), {}
    plugin = next(site.glob("jax_plugins/xla_cuda*/xla_cuda_plugin.so"))
    xla_bridge.register_plugin("cuda", library_path=str(plugin), options=None)
    found = topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1").devices[0]
    kind = AbstractDevice(device_kind=found.device_kind, num_cores=None, platform="gpu")
    return found, AbstractMesh((), (), abstract_device=kind), {"xla_gpu_autotune_level": "0"}


def compile_kernels(device: Any, mesh: Any, platform: str, options: dict[str, str]) -> None:
    """All four kernels for ten seconds and a minute, in both precisions."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding, use_abstract_mesh

    from beats_jax.models.flash import attend_by_kernel
    from beats_jax.models.flash_kernels import GPU, TPU

    sharding = SingleDeviceSharding(device)
    target = TPU if platform == "tpu" else GPU

    def loss(queries, keys, values, bias, gate, dtype):
        return jnp.sum(jnp.square(attend_by_kernel(queries, keys, values, None, bias, gate, dtype=dtype, target=target)))

    for batch, tokens in ((2, 496), (8, 2976)):
        shapes = [(batch, 12, tokens, 64)] * 3 + [(12, 2 * tokens - 1), (batch, 12, tokens)]
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in shapes]
        for dtype in ("bfloat16", "float32"):
            start = time.perf_counter()
            with use_abstract_mesh(mesh):
                gradient = jax.jit(jax.grad(partial(loss, dtype=dtype), argnums=range(5)))
                lowered = gradient.trace(*arrays).lower(lowering_platforms=(platform,))
            memory = lowered.compile(compiler_options=options).memory_analysis()
            print(f"{batch} x {tokens} tokens, {dtype}: {memory.temp_size_in_bytes / 1e6:.0f} MB, "
                  f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip


def compile_step(device: Any, mesh: Any, platform: str, options: dict[str, str], form: str, settings: list[str]) -> None:
    """The step of `finetune`, as `pipelines.planning.plan` builds it."""
    import jax
    from jax.sharding import use_abstract_mesh

    from beats_jax.command_line import read_experiment
    from beats_jax.models import cpu
    from beats_jax.models import registry as models
    from beats_jax.parallel.mesh import make_mesh, state_shardings
    from beats_jax.pipelines.planning import plan
    from beats_jax.training.loop import compile_update

    cpu.platform = models.platform = lambda: {"cuda": "gpu"}.get(platform, platform)
    experiment = read_experiment("finetune", [f"--config.training.attention={form}", *settings])
    one = make_mesh(1, 1, [device])
    objective, _ = plan._objective(experiment)
    arrays = plan._shapes_of_batch(experiment, one)
    with use_abstract_mesh(mesh):
        shapes = jax.eval_shape(objective.init, jax.random.key(0), arrays)
        state = jax.tree.map(plan._placed, shapes, state_shardings(one, shapes))
        lowered = compile_update(objective, one, state).trace(state, arrays).lower(lowering_platforms=(platform,))
    memory = lowered.compile(compiler_options=options).memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    print(f"{form}: state and batch {kept / 1e9:.2f} GB, work {memory.temp_size_in_bytes / 1e9:.2f} GB", flush=True)


def main() -> None:
    """Compiles and prints memory and time of compilation."""
    site, platform, what, *rest = sys.argv[1:]
    device, mesh, options = device_of(Path(site).resolve(), platform)
    if what == "kernels":
        compile_kernels(device, mesh, platform, options)
    else:
        compile_step(device, mesh, platform, options, rest[0], rest[1:])


if __name__ == "__main__":
    main()
