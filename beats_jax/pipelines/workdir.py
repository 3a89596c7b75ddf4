"""The folder of a run: which experiment it holds, and whether it is finished. Writes are to a temporary name, then renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beats_jax.config import Experiment, experiment_from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.files import write_text as write_text

EXPERIMENT_FILE = "experiment.json"
METRICS_FILE = "metrics.json"
ERRORS_FILE = "errors.csv"
# Settings that may change between the start of a run and its resumption: they alter how fast it goes, not what comes out.
MAY_CHANGE = (
    "training.mesh_data",
    "training.mesh_fsdp",
    "training.log_every_steps",
    "data.num_workers",
    "data.worker_kind",
    "data.prefetch_batches",
)


def open_workdir(workdir: Path, experiment: Experiment) -> None:
    """Makes the folder of a new run, or checks that an existing one holds this same experiment.

    Raises:
      UserError: the folder holds another experiment's run (every setting that differs is named), or files but no run.
    """
    settings = to_mapping(experiment)
    record = workdir / EXPERIMENT_FILE
    if record.exists() and not has_started(workdir):  # it failed before the first step: its settings bind nobody
        record.unlink()
        (workdir / ERRORS_FILE).unlink(missing_ok=True)
    elif record.exists():
        differences = list(differing_settings(_recorded_settings(record), settings))
        if differences:
            raise UserError(
                f"{workdir} holds the run of another experiment: {'; '.join(differences)}. "
                "Choose another --workdir or the old settings"
            )
    elif workdir.is_file():
        raise UserError(f"{workdir} is a file; --workdir takes a folder")
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise UserError(f"{workdir} is not empty and holds no run ({EXPERIMENT_FILE} is missing); choose another --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            write_json(record, settings)
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror or error}") from error


def _recorded_settings(record: Path) -> dict[str, Any]:
    """The settings of a run; those that its version did not know yet have their defaults.

    Raises:
      UserError: the file is damaged, or names a setting that this version does not know.
    """
    try:
        return to_mapping(experiment_from_mapping(read_json(record)))
    except UserError as error:
        raise UserError(f"{record}: {error}") from error


def has_started(workdir: Path) -> bool:
    """True when there is something to go on with: checkpoints, a written step, a finished run or folds."""
    names = ("checkpoints", "history.jsonl", METRICS_FILE)
    return any((workdir / name).exists() for name in names) or any(workdir.glob("fold_*"))


def differing_settings(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """'data.root was X, now Y' for every setting that differs and is not in `MAY_CHANGE`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        path, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differing_settings(before, after, f"{path}.")
        elif before != after and path not in MAY_CHANGE:
            lines.append(f"{path} was {before!r}, now {after!r}")
    return lines


def is_finished(workdir: Path) -> bool:
    """True when the run's last file, metrics.json, has been written."""
    return (workdir / METRICS_FILE).is_file()


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); if the run cannot be spared, restore it from a copy, else delete it"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that the file is either whole or absent."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
