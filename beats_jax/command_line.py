"""Shared by all verbs: settings from a config file and `--config.key=value`, and errors turned into exit statuses."""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import beats_jax
from beats_jax.config import Experiment, ModelConfig, ObjectiveConfig, experiment_from_mapping, from_mapping, to_mapping
from beats_jax.config.validation import nearest
from beats_jax.errors import Preempted, UserError
from beats_jax.files import FULL, cannot_write
from beats_jax.parallel.launchers import place_of, require_alone
from beats_jax.streams import drop_failing_output, prepare_streams, reader_is_gone, write_nowhere

PACKAGE = Path(__file__).parent
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # gs://bucket, as `Path` writes it
# Settings that choose the kind of their group, with the settings that all kinds share. Those of one kind mean nothing to another.
KINDS = (
    ("model", ModelConfig, "family", ("checkpoint",)),
    ("objective", ObjectiveConfig, "name", ("augment",)),
    ("objective.base", ObjectiveConfig, "name", ()),  # of a joint objective; views need an augmentation, masks need none
)


class ArgumentParser(argparse.ArgumentParser):
    """argparse with errors of one line and exit status 2, like all other errors of the user."""

    def __init__(self, verb: str, description: str, examples: str) -> None:
        # Abbreviations would take a mistyped --config.key for another argument.
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(f"beats_jax.{verb}", None, description, examples, formatter_class=layout, allow_abbrev=False)

        self._verb = verb

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # pyright: ignore
        """As argparse; refuses an address in place of a folder, and several processes of a verb that runs as one."""
        found, others = super().parse_known_args(args, namespace)
        for name, value in vars(found).items():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path) and ADDRESS.match(str(path)):
                    address = str(path).replace(":/", "://", 1)
                    raise UserError(
                        f"--{name.replace('_', '-')} is the address {address!r}; it takes a folder: mount the bucket "
                        "(gcsfuse, Mountpoint for S3; docs/several_machines.md)"
                    )
        if "coordinator" not in found:
            require_alone(self._verb, os.environ)
        return found, others

    def error(self, message: str) -> Any:
        raise UserError(f"{message} (python -m {self.prog} --help shows how)")


def add_grid_arguments(group: argparse._ActionsContainer) -> None:
    """The windows of recordings, for verbs that compute something of each."""
    group.add_argument("--window", type=float, metavar="S", help="seconds of a window (default: the model's own, else 10)")
    group.add_argument("--hop", type=float, metavar="S", help="seconds from one window to the next (default: the window)")
    group.add_argument(
        "--tail",
        choices=("shift", "pad", "drop"),
        default="shift",
        help="the end of a recording: one more window that ends with it (shift), a shorter one (pad), none (drop)",
    )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a job that runs as several processes, for `start_processes`."""
    group = parser.add_argument_group(
        "several processes",
        "One job on many machines: give the same command to all of them. Under SLURM (srun), Open MPI (mpirun) and on a TPU pod "
        "the processes find each other; elsewhere add these arguments, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
        "JAX_PROCESS_ID. All must see the same data and the same output folder.",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, the same for all")
    group.add_argument("--num-processes", type=int, metavar="N", help="processes of the job, the same for all")
    group.add_argument("--process-id", type=int, metavar="I", help="number of this process, 0 to N-1")


def start_processes(arguments: argparse.Namespace) -> None:
    """Joins the other processes of the job, if there are any. Standard output is that of process 0; all write errors.

    Raises:
      UserError: impossible arguments, the processes do not find each other, or they have different versions.
    """
    from beats_jax.parallel import exchange, processes

    processes.start(place_of(arguments.coordinator, arguments.num_processes, arguments.process_id))
    if processes.process_count() > 1:
        exchange.require_same("versions", _versions())
    if not processes.is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # until the process ends


def _versions() -> dict[str, str]:
    """What the numbers of a job depend on, with a hash of our own files: checkouts of one version may differ."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    found = {name: metadata.version(name) for name in ("jax", "jaxlib", "grain", "numpy", "optax", "flax")}
    return {"beats_jax": f"{beats_jax.__version__} ({digest.hexdigest()[:8]})", **found}


def run_verb(verb: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs `verb(arguments)` and returns the exit status.

    A `UserError` becomes one line on standard error and status 2, and so does a full disk; `Preempted` a line and its status; any
    other exception keeps its traceback and gives status 1. When the reader of our output has gone, the status is 141. A process
    of a job of several ends at once on an error: an ordinary exit would wait in JAX's barrier for the others, which wait in an
    exchange for this one.
    """
    prepare_streams()
    status = _status(verb, argv)
    processes = sys.modules.get("beats_jax.parallel.processes")  # not loaded: no job was joined
    if status and processes is not None and processes.process_count() > 1:
        processes.leave(status)
    return status


def _status(verb: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    try:
        try:
            return verb(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()  # here, where a failure has a handler, not at exit
    except UserError as error:
        return _fail(error)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the outermost frame: the traceback is what our own mistakes need
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            write_nowhere(1)
            return 141
        if isinstance(error, OSError) and error.errno in FULL:
            drop_failing_output()
            return _fail(cannot_write(error.filename or "standard output or a file", error))
        traceback.print_exc()
        return 1


def _fail(error: UserError) -> int:
    """One line for the user. Standard output is left alone: it may be what failed."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def config_folder() -> Path:
    """Where the recipes are: in the installed package, or beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Names that `--config` takes, such as quickstart."""
    return sorted(path.stem for path in config_folder().glob("*.py"))


def config_path(config: str) -> Path:
    """The file that `config` means: an existing path first, else a recipe (`quickstart`, with or without `configs/` and `.py`).

    Raises:
      UserError: neither; names the recipe that resembles it, and all others.
    """
    names, path = config_names(), Path(config)
    if path.is_file():
        return path
    if path.parent.as_posix() in (".", "configs") and path.suffix in ("", ".py") and path.stem in names:
        return config_folder() / f"{path.stem}.py"
    hint = nearest(path.stem, names)
    known = "" if hint.startswith("known") else f" known: {', '.join(names)};"
    raise UserError(
        f"config {config!r} does not exist; {hint};{known} or give the path of a Python file with a function get_config()"
    )


def read_experiment(config: str, overrides: Sequence[str]) -> Experiment:
    """The experiment that a config file describes, changed by `--config.key=value` arguments.

    Args:
      config: name of a recipe or path of a Python file with `get_config()`; `path:argument` for `get_config(argument)`.
      overrides: arguments such as `--config.data.root=recordings`.
    Raises:
      UserError: the file is missing or has no `get_config`, or a setting is unknown or of the wrong type.
    """
    # The dataclasses complete the file's settings first: it names only what differs, and every setting can be overridden.
    return apply_overrides(experiment_from_mapping(_config_from_file(config)), overrides)


def _config_from_file(config: str) -> dict[str, Any]:
    name, separator, argument = config.partition(":")
    path = str(config_path(name))
    try:
        names = runpy.run_path(path)
    except SyntaxError as error:
        raise UserError(f"config file {path!r} is not valid Python: {error}") from error
    if "get_config" not in names:
        raise UserError(f"config file {path!r} has no function get_config(); see {config_path('quickstart')}")
    try:
        settings = names["get_config"](argument) if separator else names["get_config"]()
    except ValueError as error:  # how a config refuses its argument
        raise UserError(f"config {config!r}: {error}") from error
    return settings.to_dict()


def apply_overrides(base: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment changed by `--config.key=value` arguments. Raises `UserError` for an unknown key or a wrong value."""
    settings = to_mapping(_with_kinds(base, overrides))
    for argument in overrides:
        name, equals, text = argument.partition("=")
        if not name.startswith("--config."):
            raise UserError(f"unknown argument {argument!r}; settings are given as --config.group.key=value")
        if not equals:
            raise UserError(f"{name} needs a value: {name}=...")
        *groups, key = name.removeprefix("--config.").split(".")
        node: Any = settings
        for group in groups:  # an unknown group or key stays in the mapping, whose check names the nearest known one
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise UserError(f"{group!r} is a value, not a group of settings; cannot set {name}")
        node[key] = _parse_value(name, text, node.get(key))
    return experiment_from_mapping(settings)


def _with_kinds(base: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment with the model family and objectives that the arguments ask for: another one begins with its defaults."""
    for group, cls, key, shared in KINDS:
        chosen = [v for name, _, v in (a.partition("=") for a in overrides) if name == f"--config.{group}.{key}"]
        outer, _, inner = group.partition(".")
        old = getattr(base, outer)
        old = getattr(old, inner, None) if inner else old  # None: this objective has no base
        if chosen and old is not None and chosen[-1] != getattr(old, key):
            settings = {key: chosen[-1], **{name: getattr(old, name) for name in shared}}
            new = from_mapping(cls, settings, f"config.{group}")
            base = replace(base, **{outer: replace(getattr(base, outer), **{inner: new}) if inner else new})
    return base


def _parse_value(name: str, text: str, old: Any) -> Any:
    """The value that `text` means in place of `old`, whose type it has."""
    if isinstance(old, dict):
        raise UserError(f"{name} is a group of settings; name one of {', '.join(sorted(old))}")
    try:
        if isinstance(old, bool):
            return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}[text.lower()]
        if isinstance(old, int | float):
            return type(old)(text)
        return _parse_list(text) if isinstance(old, list) else text
    except (KeyError, ValueError, SyntaxError) as error:
        kind = "list of texts such as ('owl','frog')" if isinstance(old, list) else type(old).__name__
        raise UserError(f"{name} is {text!r}; it must be of type {kind}") from error


def _parse_list(text: str) -> list[Any]:
    """`('owl','frog')`, or one text without quotes, such as a regular expression."""
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if "," in text or " " in text:  # a list that lacks its quotes
            raise
        items = text
    return list(items) if isinstance(items, list | tuple) else [items]
