"""`python -m beats_jax.train`: runs an experiment, or resumes it where it stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from beats_jax.command_line import ArgumentParser, add_process_arguments, read_experiment, run_verb, start_processes
from beats_jax.config import Experiment
from beats_jax.errors import UserError

EXAMPLES = """
examples:
  python -m beats_jax.train --config quickstart
  python -m beats_jax.train --config finetune --config.data.root=recordings --workdir runs/owls
  python -m beats_jax.train --config small --config.data.root=recordings --workdir runs/owls_small
  python -m beats_jax.train --config pretrain_beats:iter1 --config.data.root=recordings
  python -m beats_jax.train --config esc50 --config.data.root=ESC-50-master --config.data.fold=all
  python -m beats_jax.train --config generative:vae --config.data.root=recordings --workdir runs/vae
  python -m beats_jax.train --config pretrain_beats:iter1 --config.data.batch_size=2048 --plan v5e-64
  srun --ntasks=4 python -m beats_jax.train --config pretrain_beats:iter1 --config.data.root=/shared/recordings

finetune starts from BEATs_iter3_plus_AS2M; --config.model.checkpoint=NAME_OR_FILE takes another, none takes random weights.

--config.group.key=value changes any setting; docs/settings.md lists them all. A workdir that holds this experiment already is
resumed; one that holds another experiment is refused.
"""


def parser() -> ArgumentParser:
    """The verb's arguments."""
    description = "Train a model on labelled audio, or pre-train one without labels; writes metrics, report and the model."
    result = ArgumentParser("train", description, EXAMPLES)
    result.add_argument(
        "--config",
        required=True,
        metavar="NAME_OR_FILE[:ARGUMENT]",
        help="a recipe (see configs/), or a Python file with get_config()",
    )
    result.add_argument("--workdir", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME of the experiment)")
    result.add_argument(
        "--strict", action="store_true", help="stop at the first unusable file instead of listing it in errors.csv"
    )
    result.add_argument(
        "--plan",
        metavar="MACHINE",
        help="train nothing: memory, operations and time of a step on 8xH100, v5e-64, v5p-256, cpu-8 …; reads no recordings",
    )
    add_process_arguments(result)
    return result


def verb(argv: Sequence[str]) -> int:
    """Parses the arguments, runs the experiment and returns the exit status."""
    arguments, overrides = parser().parse_known_args(argv)
    experiment = read_experiment(arguments.config, overrides)
    if arguments.plan:
        return _plan(experiment, arguments)
    workdir = arguments.workdir or Path("runs") / experiment.name
    start_processes(arguments)

    from beats_jax.pipelines.training.experiment import run_experiment

    command = "python -m beats_jax.train " + shlex.join(argv)
    return run_experiment(experiment, workdir, strict=arguments.strict, command=command)


def _plan(experiment: Experiment, arguments: argparse.Namespace) -> int:
    if arguments.workdir or arguments.strict or arguments.coordinator:
        raise UserError("--plan trains nothing and writes nothing; --workdir, --strict and --coordinator belong to a run")
    from beats_jax.pipelines.planning.machines import machine_of

    machine = machine_of(arguments.plan)
    # Both are read when JAX first looks for devices, which is below
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={machine.count}"
    from beats_jax.pipelines.planning.plan import plan

    print(plan(experiment, machine))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for ours."""
    status = run_verb(verb, argv)
    if any(
        thread.name == "compile" for thread in threading.enumerate()
    ):  # stopped while XLA compiles: Python would wait for that thread
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
