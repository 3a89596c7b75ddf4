"""Cooperation of the processes of a job: the same rows for all, and one list of unusable files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.manifest import Manifest
from beats_jax.parallel.exchange import gather_values, require_same
from beats_jax.parallel.processes import is_main, process_count, process_index
from beats_jax.pipelines.training.workdir import ERRORS_FILE


def open_errors(folder: Path, *, strict: bool) -> ErrorLog:
    """errors.csv of a folder for process 0; the others keep lists of their own beside it, until `merge_errors`.

    Process 0 also takes over the lists of a killed job, so it must be the first to call this.
    """
    if not is_main():
        return ErrorLog(_own_list(folder, process_index()), strict)
    errors = ErrorLog(folder / ERRORS_FILE, strict)
    for left in sorted(folder.glob(_own_list(folder, "*").name)):
        _add(errors, ErrorLog(left).rows())
        left.unlink()
    return errors


def merge_errors(errors: ErrorLog) -> None:
    """Adds the lists of the other processes to errors.csv; all processes call it, any number of times."""
    for rows in gather_values(errors.rows())[1:]:
        if is_main():
            _add(errors, rows)


def end_errors(errors: ErrorLog) -> None:
    """Merges for the last time, and removes the lists of the other processes."""
    merge_errors(errors)
    if not is_main():
        errors.path.unlink()


def require_same_rows(manifest: Manifest) -> None:
    """Raises `UserError` in all processes where one of them sees other recordings than process 0."""
    require_same("usable recordings", fingerprint(manifest))


def fingerprint(manifest: Manifest) -> dict[str, Any]:
    """Number and hash of rows, with length and content of their recordings where known; {} in a job of one process."""
    if process_count() == 1:
        return {}
    digest = hashlib.sha256()
    contents = [manifest.metadata[name] for name in ("seconds", "file_hash") if name in manifest.metadata]
    codes = [manifest.starts, manifest.ends, manifest.labels.ids, manifest.labels.offsets]
    for column in (manifest.files, manifest.splits, manifest.groups, np.array(manifest.labels.names), *contents):
        names, places = distinct(column.astype(np.dtypes.StringDType()))
        digest.update("\n".join(names.tolist()).encode("utf-8", "surrogateescape"))
        codes.append(places)
    for numbers in codes:
        digest.update(numbers.tobytes())
    return {"rows": len(manifest), "hash": digest.hexdigest()[:12]}


def _own_list(folder: Path, index: int | str) -> Path:
    name = Path(ERRORS_FILE)
    return folder / f"{name.stem}.process-{index}{name.suffix}"


def _add(errors: ErrorLog, rows: list[tuple[str, str]]) -> None:
    """Not `errors.add`, which stops a strict run: the process that listed the file has stopped already."""
    log = ErrorLog(errors.path) if errors.strict else errors
    for file, reason in rows:
        log.add(file, reason)
