"""One process of a job that exchanges everything there is to exchange; writes what it got to FOLDER/INDEX.json."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
import tiny_problem

from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.parallel import exchange, processes
from beats_jax.parallel.launchers import place_of
from beats_jax.parallel.mesh import local_mesh, make_mesh, put_batch, replicate, state_shardings, to_local
from beats_jax.training.loop import compile_update


def main() -> None:
    """Joins the job and tries every function."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    arguments = parser.parse_args()
    processes.start(place_of(arguments.coordinator, arguments.num_processes, arguments.process_id))
    index = processes.process_index()
    found = {"count": processes.process_count(), "is_main": processes.is_main(), **arrays(index), **values(index)}
    found |= errors(index) | {"losses": losses(make_mesh(2, 2))}
    (arguments.folder / f"{index}.json").write_text(json.dumps(found))


def arrays(index: int) -> dict[str, object]:
    """Rows to devices and back, whole parameters, and rows of all processes."""
    own = np.arange(8.0, dtype=np.float32).reshape(4, 2) + 100 * index
    found: dict[str, object] = {}
    devices = np.array(jax.devices())
    for name, order in (("", slice(None)), ("interleaved_", [0, 2, 1, 3])):
        mesh = (
            make_mesh(0, 2, list(devices[order]))
            if not name
            else jax.sharding.Mesh(devices[order].reshape(2, 2), ("data", "fsdp"))
        )
        batch = put_batch(mesh, {"x": own})["x"]
        found[f"{name}rows"] = [shard.data.tolist() for shard in batch.addressable_shards]
        total = jax.jit(lambda x: x.sum(), out_shardings=replicate(mesh))(batch)
        found[f"{name}total"] = float(total)
    params = {"kernel": np.arange(32.0, dtype=np.float32).reshape(8, 4), "bias": np.arange(3.0, dtype=np.float32)}
    mesh = jax.sharding.Mesh(devices.reshape(1, 4), ("data", "fsdp"))
    shardings = state_shardings(mesh, params)
    split = jax.tree.map(lambda x, where: jax.make_array_from_callback(x.shape, where, lambda part: x[part]), params, shardings)
    found["split"] = not split["kernel"].is_fully_addressable
    found["local"] = own_computation(mesh, split, own)
    within = jax.sharding.Mesh(devices.reshape(2, 2), ("data", "fsdp"))
    found["local_fsdp"] = own_computation(within, jax.device_put(params, state_shardings(within, params)), own)
    found["fetched"] = {name: value.tolist() for name, value in exchange.fetch(split).items()}
    counted = np.full((2 * index, 2), 2**40 + index, np.int64)
    found["gathered"] = [part.tolist() for part in exchange.gather_values(counted)]
    found["precise"] = [part.tolist() for part in exchange.gather_values(np.array([1 / 3 + index]))]
    found["names"] = exchange.gather_values("é" * 300 * index)
    return found


def losses(mesh) -> list:
    """(sum, count) of every metric of three steps of the tiny problem in a mesh; this process gives its part of each batch."""
    index, count = processes.process_index(), processes.process_count()
    objective, found, state = tiny_problem.make_objective(TrainingConfig(learning_rate=0.1)), [], None
    for step in range(3):
        rows = tiny_problem.make_arrays(step)
        own = slice(index * len(rows["rows"]) // count, (index + 1) * len(rows["rows"]) // count)
        batch = put_batch(mesh, {name: array[own] for name, array in rows.items()})
        if state is None:
            shapes = jax.eval_shape(objective.init, jax.random.key(0), batch)
            state = jax.jit(objective.init, out_shardings=state_shardings(mesh, shapes))(jax.random.key(0), batch)
            update = compile_update(objective, mesh, shapes)
        with jax.set_mesh(mesh):
            state, metrics = update(state, batch)
        found.append(np.asarray(metrics.values).tolist())
    return found


def own_computation(mesh, params, rows) -> object:
    """Each process computes with its own rows alone, on weights that lie on both."""
    own = local_mesh(mesh)
    weights = to_local(own, params)
    batch = put_batch(own, {"x": rows})["x"]
    found = jax.jit(lambda weights, x: (x @ weights["kernel"][:2]).sum() + weights["bias"].sum())(weights, batch)
    return [dict(own.shape), list(weights["kernel"].sharding.spec), float(found)]


def values(index: int) -> dict[str, object]:
    """Plain values."""
    exchange.barrier()
    return {
        "values": [list(pair) for pair in exchange.gather_values((index, index + 1))],
        "any": [exchange.any_process(index == 1), exchange.any_process(False)],
        "from_main": exchange.call_on_main(lambda: {"of": index}),
    }


def errors(index: int) -> dict[str, object]:
    """Errors of process 0, and values that differ."""

    def fail() -> None:
        raise UserError("no space for it")

    found = {}
    for name, work in (("user", fail), ("own", lambda: 1 // 0)):
        try:
            exchange.call_on_main(work)
        except (UserError, RuntimeError, ZeroDivisionError) as error:
            found[f"{name}_error"] = [type(error).__name__, str(error)]
    exchange.require_same("settings", "equal")
    try:
        exchange.require_same("settings", {"name": "owls", "training": {"seed": index, "steps": 3}})
    except UserError as error:
        found["difference"] = str(error)
    try:
        exchange.main_first(lambda: fail() if index else 0)
    except UserError as error:
        found["second_error"] = str(error)
    order = exchange.main_first(lambda: index)
    return {**found, "own": order}


if __name__ == "__main__":
    main()
