"""Where arrays lie inside a jitted function: constraints that keep a batch split over the devices of the mesh at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec


def shard_batch(tree: Any) -> Any:
    """Keeps every array of `tree` split over the devices along its first axis; a no-op outside `jax.set_mesh`.

    The compiler gathers what it cannot split (a Fourier transform, mixup's partners) and would go on with the gathered
    array on every device.
    """
    axes = jax.sharding.get_abstract_mesh().axis_names
    if not axes:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec(axes)), tree)


def replicate_tree(tree: Any) -> Any:
    """Every array of `tree` whole on every device, so that each host can read it; a no-op outside `jax.set_mesh`."""
    if not jax.sharding.get_abstract_mesh().axis_names:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def shard_map_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of batched arrays, run by each device on its own rows; `function` itself outside `jax.set_mesh`.

    Only for functions that treat every row alone. XLA cannot split a Fourier transform over the batch: left to it, every
    device would transform the whole batch.
    """

    def run(*arrays: jax.Array) -> Any:
        axes = jax.sharding.get_abstract_mesh().axis_names
        if not axes:
            return function(*arrays)
        rows = PartitionSpec(axes)
        return jax.shard_map(function, in_specs=rows, out_specs=rows)(*arrays)

    return run
