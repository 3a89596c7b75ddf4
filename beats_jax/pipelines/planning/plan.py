"""`train --plan MACHINE`: compiles the training step for devices of a simulated machine, and prints what it would need.

The program is that of a run: same objective, optimizer, mesh and shardings, but no recordings and no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from beats_jax.config import EpisodicConfig, Experiment, GenerativeConfig, SupervisedConfig
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.datasets.roles import LABELED, UNLABELED, batch_sizes
from beats_jax.errors import UserError
from beats_jax.models.registry import family
from beats_jax.parallel.mesh import batch_sharding, check_batch_size, make_mesh, state_shardings
from beats_jax.pipelines.planning.cost import count_flops, exchanged_bytes, link_seconds
from beats_jax.pipelines.planning.machines import Machine
from beats_jax.pipelines.training.run import build_objective, without_codebook
from beats_jax.pipelines.training.start_report import memory_line, parameter_line
from beats_jax.training.compilation import megabytes
from beats_jax.training.loop import compile_update

STEPS = 100_000  # of the schedule, where the settings give epochs: a step costs the same
CLASSES = 527  # AudioSet's, where the settings name none
AUDIOSET_CLIPS = 2_000_000  # of 10 s
UTILISATION = 0.4  # of the peak that well fed transformers of this size reach (specs: NeMo ViT, nvSubquadratic: 0.16 to 0.5)
# For programs that are never run: without optimised machine code, which takes most of the time to make and changes no memory.
UNFINISHED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SPARE = 0.9  # of a device's memory; the rest is for the allocator and the libraries


@dataclass(frozen=True)
class Plan:
    """What one step needs.

    Attributes:
      state, work: bytes on each device: parameters, optimizer and batch; intermediate values.
      flops: of the whole step over all devices. exchanged: collective → (how often, bytes on one device).
      lines: about parameters and memory.
    """

    machine: Machine
    experiment: Experiment
    state: int
    work: int
    flops: float
    exchanged: Mapping[str, tuple[int, int]]
    lines: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Bytes on each device."""
        return self.state + self.work

    def step_seconds(self, utilisation: float = UTILISATION) -> float:
        """Products at that share of the peak, then the exchange: they may overlap, so it is no lower bound."""
        device = self.machine.device
        computing = self.flops / (self.machine.count * device.flops * utilisation)
        return computing + link_seconds(self.exchanged, self.machine.count, device.link)

    def __str__(self) -> str:
        machine, batch = self.machine, self.experiment.data.batch_size
        name, count = machine.name, machine.count
        room = machine.device.memory
        fits = "" if not room else f" of {megabytes(int(room))}: " + ("fits" if self.memory <= SPARE * room else "DOES NOT FIT")
        lines = [
            f"plan of {self.experiment.name} on {name}: {count} devices, {batch} windows of "
            f"{self.experiment.data.window_seconds:g} s a step, {self.experiment.training.precision}",
            *self.lines,
            f"memory of a device: {megabytes(self.memory)}{fits} (state and batch {megabytes(self.state)}, "
            f"work {megabytes(self.work)}, as the compiler for CPUs lays it out)",
            f"products: {self.flops / 1e12:.4g} TFLOP a step, {self.flops / 1e9 / batch:.4g} GFLOP a window",
            "exchange of a device: "
            + (", ".join(f"{n} {kind} of {megabytes(size)}" for kind, (n, size) in self.exchanged.items()) or "none"),
        ]
        if not machine.is_simulated:
            seconds, ideal = self.step_seconds(), self.step_seconds(1.0)
            hours = AUDIOSET_CLIPS / batch * seconds / 3600
            exchange = link_seconds(self.exchanged, count, machine.device.link)
            lines += [
                f"step: {seconds:.3g} s at {UTILISATION:.0%} of the peak (at the whole peak {ideal:.3g} s; "
                f"exchange {exchange:.3g} s): {batch / seconds:,.0f} windows a second",
                f"an epoch of AudioSet-2M at that pace: {hours:.3g} hours, {hours * count:.4g} device hours",
            ]
        return "\n".join(lines)


def plan(experiment: Experiment, machine: Machine) -> Plan:
    """Compiles the step over the first `machine.count` devices of this process.

    Raises:
      UserError: a batch or a mesh that does not fit the devices, or an objective that trains on one machine only.
    """
    return compile_plan(experiment, machine)[0]


def compile_plan(experiment: Experiment, machine: Machine) -> tuple[Plan, Any, Any, Any]:
    """The plan; the compiled step, and the shapes of its state and batch, to run it. Errors as of `plan`."""
    training = experiment.training
    if isinstance(experiment.objective, GenerativeConfig):
        raise UserError(f"objective {experiment.objective.name} trains in one process; --plan is for jobs of many devices")
    if isinstance(experiment.objective, EpisodicConfig):  # as in `pipelines.training.few_shot`: a step is whole episodes
        experiment = replace(experiment, data=replace(experiment.data, batch_size=experiment.objective.clips_per_step))
    mesh = make_mesh(training.mesh_data, training.mesh_fsdp, jax.devices()[: machine.count])
    check_batch_size(mesh, experiment.data.batch_size, training.accumulation_steps)
    objective, frozen = _objective(experiment)
    arrays = _shapes_of_batch(experiment, mesh)
    shapes = jax.eval_shape(objective.init, jax.random.key(0), arrays)
    state = jax.tree.map(_placed, shapes, state_shardings(mesh, shapes))
    update = compile_update(objective, mesh, state, training.remat)
    with jax.set_mesh(mesh):
        traced = update.trace(state, arrays)
        compiled = traced.lower().compile(None if machine.is_simulated else UNFINISHED)
    memory = compiled.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    lines = (f"parameters: {parameter_line(shapes.params, frozen)}", f"state: {memory_line(shapes, frozen)}")
    flops = count_flops(traced.jaxpr)
    exchanged = exchanged_bytes(compiled.as_text())
    found = Plan(machine, experiment, int(kept), int(memory.temp_size_in_bytes), flops, exchanged, lines)
    return found, compiled, state, arrays


def _objective(experiment: Experiment) -> tuple[Any, tuple[str, ...]]:
    """The objective as a run builds it, and patterns of what does not learn."""
    constants = family(experiment.model).constants
    group = "" if isinstance(experiment.objective, SupervisedConfig) else "model"
    if not experiment.objective.NEEDS_LABELS:
        constants = without_codebook(constants)
    counts, steps = np.ones(_classes(experiment), np.int64), experiment.training.max_steps or STEPS
    return build_objective(experiment, group, constants, _vocabulary(experiment), counts, steps, 1)


def _vocabulary(experiment: Experiment) -> LabelVocabulary | None:
    if not experiment.objective.NEEDS_LABELS and LABELED not in experiment.objective.roles:
        return None
    return LabelVocabulary(tuple(f"class {number:05d}" for number in range(_classes(experiment))))


def _classes(experiment: Experiment) -> int:
    return experiment.model.predictor_class or len(experiment.data.classes) or CLASSES


def _shapes_of_batch(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """A whole batch as shapes on the mesh; of roles, only labelled rows, which some objectives cannot do without."""
    roles = (UNLABELED, *(role for role in (LABELED,) if role in experiment.objective.roles))
    samples = round(experiment.data.window_seconds * experiment.audio.sample_rate)
    arrays: dict[str, Any] = {}
    for role, size in batch_sizes(experiment.data, roles).items():
        shapes = {
            "waveforms": ((size, samples), np.float32),
            "lengths": ((size,), np.int32),
            "positions": ((size,), np.int32),
            "rows": ((size,), np.int32),
            "example_mask": ((size,), np.bool_),
        }
        if experiment.objective.NEEDS_LABELS or role == LABELED:
            many = experiment.data.multi_label
            shapes["labels"] = ((size, _classes(experiment)), np.float32) if many else ((size,), np.int32)
        prefix = "" if role == UNLABELED else f"{role}_"
        arrays |= {
            prefix + name: jax.ShapeDtypeStruct(shape, kind, sharding=batch_sharding(mesh))
            for name, (shape, kind) in shapes.items()
        }
    return arrays


def _placed(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
