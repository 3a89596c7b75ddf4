"""Plans for other machines: operations by closed forms, exchange of known programs, names of machines."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from beats_jax.command_line import read_experiment
from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives.state.state import apply_gradients, create
from beats_jax.parallel.mesh import make_mesh, replicate, state_shardings
from beats_jax.pipelines.planning.cost import COLLECTIVES, count_flops, exchanged_bytes, link_seconds
from beats_jax.pipelines.planning.machines import machine_of
from beats_jax.pipelines.planning.plan import compile_plan, plan
from beats_jax.training.optimizer import build

TINY = [
    "--config.model.encoder_layers=1", "--config.model.encoder_embed_dim=32", "--config.model.encoder_ffn_embed_dim=64",
    "--config.model.embed_dim=32", "--config.model.encoder_attention_heads=4", "--config.model.conv_pos=8",
    "--config.model.conv_pos_groups=4", "--config.data.window_seconds=1", "--config.data.batch_size=8",
    "--config.objective.augment.mixup_probability=0", "--config.objective.augment.time_masks=0",
]  # fmt: skip


def flops_of(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return count_flops(jax.make_jaxpr(function)(*arrays).jaxpr)


def program_of(function, shape, sharding):
    text = jax.jit(function, out_shardings=sharding).lower(shape).compile().as_text()
    assert text is not None
    return text


def collectives(program):
    """(kind, shape) of each array that devices exchange."""
    found = []
    for line in program.splitlines():
        match = re.search(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        for sides in re.findall(r"[a-z]+\d*\[([\d,]*)\]", match[1]) if match else ():
            found.append((match[2], tuple(int(side) for side in sides.split(",") if side)))
    return found


@pytest.mark.parametrize("rule", ["adamw", "cautious_adamw"])
def test_the_optimizer_works_on_its_own_part_alone(rule):
    """Nothing of a parameter's size is gathered, and only numbers are added up (norms, counts)."""
    mesh, optimizer = make_mesh(data=1, fsdp=8), build(TrainingConfig(optimizer=rule), 10)
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in {"kernel": (64, 32), "bias": (64,)}.items()}
    make = partial(create, optimizer=optimizer, average=True)
    shapes = jax.eval_shape(make, params, jax.random.key(0))
    state = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, state_shardings(mesh, shapes)
    )
    step = jax.jit(
        lambda state, gradients: apply_gradients(state, gradients, optimizer, 0.9), out_shardings=state_shardings(mesh, shapes)
    )
    program = step.lower(state, state.params).compile().as_text()
    found = collectives(program)
    assert found
    assert set(found) == {("all-reduce", ())}
    assert "[64,32]" not in program  # no array of the whole kernel's shape
    # The test sees a gather where there is one
    gathering = jax.jit(lambda state, gradients: apply_gradients(state, gradients, optimizer, 0.9), out_shardings=replicate(mesh))
    assert "all-gather" in exchanged_bytes(gathering.lower(state, state.params).compile().as_text())


def test_operations_of_products_convolutions_and_loops():
    product = 2 * 5 * 7 * 3
    assert flops_of(lambda a, b: a @ b, (5, 7), (7, 3)) == product
    assert flops_of(lambda a, b: jnp.einsum("nij,njk->nik", a, b), (4, 5, 7), (4, 7, 3)) == 4 * product
    assert flops_of(jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1)), (5, 7), (7, 3)) == 3 * product
    looped = lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, length=6)[0]  # noqa: E731
    assert flops_of(looped, (5, 7), (7, 7)) == 6 * 2 * 5 * 7 * 7

    def grouped(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"), feature_group_count=4
        )

    assert flops_of(grouped, (2, 50, 16), (3, 4, 8)) == 2 * (2 * 50 * 8) * 3 * 4


def test_the_exchange_of_a_gather_and_a_sum():
    mesh = make_mesh(data=1, fsdp=8)
    rows, whole = NamedSharding(mesh, PartitionSpec("fsdp")), NamedSharding(mesh, PartitionSpec())
    shape = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=rows)
    assert exchanged_bytes(program_of(lambda x: x, shape, whole)) == {"all-gather": (1, 64 * 32 * 4)}
    assert exchanged_bytes(program_of(lambda x: jnp.sum(x, axis=0), shape, whole)) == {"all-reduce": (1, 32 * 4)}
    # A ring of n sends (n - 1) / n of a gathered array over each link, and twice that of a sum
    assert link_seconds({"all-gather": (1, 800)}, 8, 100.0) == pytest.approx(7.0)
    assert link_seconds({"all-reduce": (1, 800)}, 8, 100.0) == pytest.approx(14.0)


@pytest.mark.slow
def test_a_plan_counts_what_the_mesh_splits():
    tiny = read_experiment("quickstart", TINY)
    copies = plan(tiny, machine_of("cpu-8"))
    split, program, state, _ = compile_plan(replace(tiny, training=replace(tiny.training, mesh_fsdp=8)), machine_of("cpu-8"))
    assert split.state < copies.state / 2  # parameters and optimizer in eighths; small vectors stay whole
    assert copies.flops == split.flops > 0
    assert set(copies.exchanged) == {"all-reduce"}
    assert set(split.exchanged) == {"all-gather", "all-reduce"}  # docs/several_machines.md explains each
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.params) if not leaf.sharding.is_fully_replicated}
    gathered = [shape for kind, shape in collectives(program.as_text()) if kind == "all-gather"]
    assert set(gathered) <= shapes  # parameters, and nothing else: no activation, no batch
    split_leaves = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    assert len(gathered) == split_leaves - 1  # each once; the table of relative positions is looked up where it lies
    assert "step:" not in str(copies)  # the speed of a simulated device means nothing


@pytest.mark.slow
def test_a_plan_for_gpus_names_time_and_what_does_not_fit():
    found = plan(read_experiment("quickstart", TINY), machine_of("8xH100"))
    half_of_the_peak = found.step_seconds(0.5) - found.step_seconds(1.0)
    assert half_of_the_peak == pytest.approx(found.flops / (8 * 989e12))
    assert "8 devices, 8 windows of 1 s" in str(found)
    assert "80.00 GB: fits" in str(found)
    small = replace(found, work=int(90e9))
    assert "DOES NOT FIT" in str(small)


@pytest.mark.slow
def test_a_step_of_episodes_is_whole_episodes():
    small = ["--config.model.widths=(4, 6)", "--config.objective.n_way=2", "--config.objective.n_shot=1"]
    small += ["--config.objective.n_query=1", "--config.objective.episodes_per_step=2", "--config.data.window_seconds=1"]
    found = plan(read_experiment("fewshot", small), machine_of("cpu-8"))
    assert found.experiment.data.batch_size == 2 * 2 * (1 + 1)
    assert "all-reduce" in found.exchanged


def test_names_of_machines():
    assert [machine_of(name).count for name in ("8xH100", "v5e-64", "v5p-256", "v6e-8", "cpu-4", "h200")] == [8, 64, 128, 8, 4, 1]
    for name in ("8xQ100", "v5p-3", "0xH100", "8xv5e-8", ""):
        with pytest.raises(UserError, match="--plan"):
            machine_of(name)
