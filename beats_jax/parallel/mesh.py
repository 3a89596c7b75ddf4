"""Where arrays live: one mesh with the axes "data" and "fsdp", and constraints that keep batches split inside jitted functions.

Batches are split over both axes, parameters and optimizer state over "fsdp". With one device both are 1, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from beats_jax.errors import UserError

AXES = ("data", "fsdp")
NATIVE_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})  # of x86 CPUs, as Linux names them


def make_mesh(data: int = 0, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh [data, fsdp] of all devices (or of the `jax.Device`s given).

    Args:
      data: devices on the data axis; 0 = all that `fsdp` leaves.
      fsdp: devices over which parameters are split.
    Raises:
      UserError: data * fsdp is not the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    if fsdp < 1 or data < 0 or (data or len(devices) // fsdp) * fsdp != len(devices):
        raise UserError(
            f"training.mesh_data {data} x training.mesh_fsdp {fsdp} does not use all {len(devices)} devices: "
            "their product must be the number of devices (mesh_data 0 = all that mesh_fsdp leaves)"
        )
    # Axes of type Auto: on Explicit ones, the default, plain model code does not run.
    return jax.make_mesh((len(devices) // fsdp, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def check_batch_size(mesh: Mesh, batch_size: int, accumulation_steps: int = 1, setting: str = "data.batch_size") -> None:
    """Refuses a global batch that cannot be split evenly over the devices and the parts of an accumulated step.

    Raises:
      UserError: with the next batch size that can.
    """
    unit = mesh.size * accumulation_steps
    if batch_size % unit:
        parts = f" x {accumulation_steps} accumulation steps" if accumulation_steps > 1 else ""
        raise UserError(
            f"{setting} {batch_size} does not divide over {mesh.size} devices{parts}: use a multiple of {unit}, "
            f"such as {-(-batch_size // unit) * unit}"
        )


def inference_batch_size(mesh: Mesh | None = None) -> int:
    """Windows at once where the user names no number: 4 a device on CPUs, 32 on accelerators.

    Each batch is padded to its full size. Larger ones are no faster on a CPU, and a single recording would wait for the padding.
    """
    return (1 if mesh is None else mesh.size) * (4 if jax.default_backend() == "cpu" else 32)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicate(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """A sharding for every leaf of a state, optimizer state included.

    Leaves with two or more axes are split over "fsdp" along their largest axis that it divides (the first of equals);
    all others are replicated.

    Args:
      shapes: pytree of arrays or `jax.ShapeDtypeStruct`.
    """
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _leaf_spec(leaf.shape, mesh.shape["fsdp"])), shapes)


def _leaf_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    divisible = [axis for axis, size in enumerate(shape) if size % fsdp == 0 and size > 0]
    if fsdp == 1 or len(shape) < 2 or not divisible:
        return PartitionSpec()
    largest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == largest else None for axis in range(largest + 1)))


def local_mesh(mesh: Mesh) -> Mesh:
    """This process's devices of the mesh, for what each process computes alone; `mesh` itself where they are all.

    Parameters stay split over "fsdp" where that axis lies within processes.
    """
    if not _spans_processes(mesh):
        return mesh
    rows = [row for row in mesh.devices if {device.process_index for device in row} == {jax.process_index()}]
    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    whole = len(rows) * mesh.shape["fsdp"] == len(own)
    return Mesh(np.array(own).reshape(-1, mesh.shape["fsdp"] if whole else 1), AXES, axis_types=(AxisType.Auto,) * 2)


def to_local(own: Mesh, tree: Any) -> Any:
    """Weights (global arrays that are not split over "data") as arrays on the `local_mesh` of this process; all must call it.

    Only parts that lie on other processes' devices alone are copied.
    """

    def local(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        sharding = leaf.sharding
        assert isinstance(sharding, NamedSharding)
        spec = sharding.spec
        if own.shape["fsdp"] != sharding.mesh.shape["fsdp"]:
            spec = PartitionSpec()
            leaf = jax.jit(lambda x: x, out_shardings=NamedSharding(sharding.mesh, spec))(leaf)
        parts = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, NamedSharding(own, spec), parts)

    return jax.tree.map(local, tree)


def put_batch(mesh: Mesh, arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this host's rows of a batch onto its devices, as parts of global arrays; every host gives the same number of rows.

    Raises:
      UserError: the rows do not divide over the devices.
    """
    # The global shape is stated, so that a host with other rows fails instead of training on another shape.
    sharding, hosts = batch_sharding(mesh), len({device.process_index for device in mesh.devices.flat})
    check_batch_size(mesh, hosts * len(next(iter(arrays.values()))))
    return {
        name: jax.make_array_from_process_local_data(sharding, array, (hosts * array.shape[0], *array.shape[1:]))
        for name, array in arrays.items()
    }


def _spans_processes(mesh: Mesh) -> bool:
    return jax.process_count() > 1 and len({device.process_index for device in mesh.devices.flat}) > 1


def shard_batch(tree: Any) -> Any:
    """Keeps every array of `tree` split over the devices along its first axis; a no-op outside `jax.set_mesh`."""
    # The compiler gathers what it cannot split (a Fourier transform, mixup's partners), and without this constraint it would
    # keep the gathered array on every device.
    axes = jax.sharding.get_abstract_mesh().axis_names
    return _constrain(tree, PartitionSpec(axes)) if axes else tree


def replicate_tree(tree: Any) -> Any:
    """Every array of `tree` whole on every device, so that each host can read it; a no-op outside `jax.set_mesh`."""
    return _constrain(tree, PartitionSpec()) if jax.sharding.get_abstract_mesh().axis_names else tree


def _constrain(tree: Any, spec: PartitionSpec) -> Any:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, spec), tree)


def shard_map_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of batched arrays, run by each device on its own rows; `function` itself outside `jax.set_mesh`.

    Only for functions that treat every row alone. XLA cannot split a Fourier transform over the batch: without this every
    device would transform the whole batch.
    """

    def run(*arrays: jax.Array) -> Any:
        axes = jax.sharding.get_abstract_mesh().axis_names
        if not axes:
            return function(*arrays)
        rows = PartitionSpec(axes)
        return jax.shard_map(function, in_specs=rows, out_specs=rows)(*arrays)

    return run


def native_dtype(cpu_facts: Path = Path("/proc/cpuinfo")) -> str:
    """bfloat16 on accelerators and on CPUs with instructions for it, else float32: the compute precision of dtype "auto"."""
    if jax.default_backend() != "cpu":
        return "bfloat16"
    try:
        words = cpu_facts.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # another system than Linux does not describe its CPU here
        return "float32"
    return "bfloat16" if NATIVE_FLAGS & set(words) else "float32"
