"""The folder of a run: which experiment it holds, and whether the run has started or finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from beats_jax.config import Experiment, experiment_from_mapping, to_mapping
from beats_jax.datasets.manifest_file import MANIFEST_FILES
from beats_jax.errors import UserError
from beats_jax.files import remove_leftovers
from beats_jax.files import write_text as write_text
from beats_jax.json_files import read_json as read_json
from beats_jax.parallel.exchange import call_on_main
from beats_jax.pipelines.training.workdir_lock import hold, others

EXPERIMENT_FILE = "experiment.json"
METRICS_FILE = "metrics.json"
ERRORS_FILE = "errors.csv"
# Settings that may change when a run is resumed: they alter its speed, not its results.
MAY_CHANGE = (
    "training.mesh_data",
    "training.mesh_fsdp",
    "training.remat",
    "training.log_every_steps",
    "data.num_workers",
    "data.worker_kind",
    "data.prefetch_batches",
)


@contextmanager
def hold_workdir(workdir: Path) -> Iterator[None]:
    """Makes the folder of a run and holds it while the block runs; in a job of many processes the first one holds it.

    Raises:
      UserError: another process holds it, or it cannot be made.
    """
    with ExitStack() as held:
        call_on_main(lambda: _make_folder(workdir))
        call_on_main(lambda: held.enter_context(hold(workdir)))
        yield


def open_workdir(workdir: Path, experiment: Experiment) -> None:
    """Records the experiment in its folder, which is new or holds this experiment; call it within `hold_workdir`.

    Raises:
      UserError: see `require_same_run`.
    """
    call_on_main(lambda: _open(workdir, experiment))


def _open(workdir: Path, experiment: Experiment) -> None:
    _require_same_run(workdir, experiment)
    _make_folder(workdir)
    remove_leftovers(workdir)
    if not has_started(workdir):  # the first mistake is mostly a wrong path; the next try with another one is the same run
        for name in (EXPERIMENT_FILE, ERRORS_FILE, *MANIFEST_FILES):
            (workdir / name).unlink(missing_ok=True)
    if not (workdir / EXPERIMENT_FILE).exists():
        write_json(workdir / EXPERIMENT_FILE, to_mapping(experiment))


def _make_folder(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror or error}") from error


def require_same_run(workdir: Path, experiment: Experiment) -> None:
    """Raises `UserError` where the folder holds another experiment's run (every setting that differs is named), or no run."""
    call_on_main(lambda: _require_same_run(workdir, experiment))


def _require_same_run(workdir: Path, experiment: Experiment) -> None:
    record = workdir / EXPERIMENT_FILE
    if workdir.is_file():
        raise UserError(f"{workdir} is a file; --workdir takes a folder")
    if record.exists() and has_started(workdir):
        differences = list(differing_settings(to_mapping(read_experiment(workdir)), to_mapping(experiment)))
        if differences:
            raise UserError(
                f"{workdir} holds the run of another experiment: {'; '.join(differences)}. "
                "Choose another --workdir or the old settings"
            )
    elif not record.exists() and workdir.is_dir() and others(workdir):
        raise UserError(f"{workdir} is not empty and holds no run ({EXPERIMENT_FILE} is missing); choose another --workdir")


def read_experiment(workdir: Path) -> Experiment:
    """The experiment of a run; settings that are newer than the run have their defaults.

    Raises:
      UserError: experiment.json is missing or damaged, or names a setting that this version does not know.
    """
    record = workdir / EXPERIMENT_FILE
    settings = read_json(record)
    try:
        return experiment_from_mapping(settings)
    except UserError as error:
        raise UserError(f"{record}: {error}") from error


def has_started(workdir: Path) -> bool:
    """True when there is something to resume: checkpoints, a written step, a finished run or folds."""
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
    return call_on_main(lambda: (workdir / METRICS_FILE).is_file())


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that the file is either whole or absent."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
