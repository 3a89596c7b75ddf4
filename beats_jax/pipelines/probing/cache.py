"""Embeddings of all layers and poolings in one pass, kept on disk, so the next probe of the same files reads them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import DataConfig, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.validation import merge_repeated_rows, require_classes, validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.reduce import Pooled
from beats_jax.json_files import parse_json
from beats_jax.pipelines.probing.encoders import Encoder
from beats_jax.weights.download import cache_folder
from beats_jax.weights.hashed import read_arrays, write_arrays

FORMAT = 2  # of the cached files; raise it when the computation changes
# Settings that decide which sound of a file is embedded and which files can be used; others do not change the embeddings.
_READ = ("window_seconds", "evaluation_window_seconds", "hop_seconds", "trim_below_dbfs", "check", "multi_label")


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the N rows that could be read."""

    manifest: Manifest  # with metadata `seconds` and `content`
    values: np.ndarray  # float32 [L, P, N, D]; over all tokens of all windows of a row
    layers: tuple[str, ...]  # L names
    poolings: tuple[str, ...]  # P names
    cached: Path  # the file that holds them
    seconds: float  # time to compute them, 0 where they were read


def embed_manifest(
    encoder: Encoder, manifest: Manifest, data: DataConfig, errors: ErrorLog, cache: str | Path | None = None
) -> Embeddings:
    """Embeds every row, or reads the embeddings that an earlier call kept.

    Args:
      manifest: rows from a source, not validated yet. data: window, batch size, workers.
      errors: gets the files that cannot be used, also those that the kept embeddings name.
      cache: folder of the kept embeddings; None = `embeddings` in the folder of downloaded checkpoints.
    Raises:
      UserError: nothing usable, fewer than two classes, a cache that cannot be written; with strict `errors` the first bad file.
    """
    if len(manifest):
        manifest = merge_repeated_rows(manifest, data.multi_label)[0]
    folder = Path(cache) if cache is not None else cache_folder() / "embeddings"
    facts = _facts(encoder, manifest, data)
    path = folder / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.safetensors"
    found, seconds = _read(path), 0.0
    if found is None:
        start = time.perf_counter()
        found = _compute(encoder, manifest, data, errors)
        seconds = time.perf_counter() - start
        _write(path, found, facts)
    for file, reason in found["errors"]:
        errors.add(file, reason)
    rows = manifest.take(found["rows"]).with_metadata(seconds=found["seconds"], content=text_column(found["content"]))
    rows = replace(rows, errors=())
    require_classes(rows, data.multi_label, 2)
    return Embeddings(rows, found["values"], encoder.layers, encoder.poolings, path, seconds)


def _facts(encoder: Encoder, manifest: Manifest, data: DataConfig) -> dict[str, Any]:
    """The key: all that the embeddings depend on, with each file's path, size and time of change."""
    names, place = np.unique(manifest.files, return_inverse=True)
    rows = hashlib.sha256()
    for column in (place.astype(np.int64), manifest.starts, manifest.ends):
        rows.update(column.tobytes())
    settings = to_mapping(data)
    return {
        "format": FORMAT,
        "encoder": encoder.program.identity(),
        "reading": {name: settings[name] for name in _READ},
        "files": [(str(Path(name).absolute()), *_stamp(name)) for name in map(str, names)],
        "rows_sha256": rows.hexdigest(),
    }


def _stamp(file: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; (-1, -1) for a missing file, which validation lists."""
    try:
        status = os.stat(file)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _compute(encoder: Encoder, manifest: Manifest, data: DataConfig, errors: ErrorLog) -> dict[str, Any]:
    """The content of a cached file: rows, their durations and contents, values, errors."""
    numbered = manifest.with_metadata(row=np.arange(len(manifest)))
    report = validate(numbered, data, encoder.program.audio, error_log=errors)
    usable = report.manifest
    grid = evaluation_grid(data, encoder.program.audio)
    reading: dict[str, Any] = {"batch_size": data.batch_size, "threads": max(1, data.num_workers)}
    found = answer_rows(encoder.program, usable, grid, Pooled(encoder.pooled), **reading)
    seen = np.array([row.row for row in found if row.value is not None], np.int64)
    if not len(seen):
        raise UserError(f"none of the {len(usable)} rows could be embedded; {errors.path} lists why")
    shape = (len(encoder.layers), len(encoder.poolings), -1)
    values = np.stack([row.value.reshape(shape) for row in found if row.value is not None], axis=2)
    unread = [row.error for row in found if row.error is not None]
    bad = [(os.fspath(error.path), error.reason) for error in (*report.errors, *unread)]
    return {
        "rows": usable.metadata["row"][seen],
        "seconds": usable.metadata["seconds"][seen],
        "content": usable.metadata["content"][seen].tolist(),
        "values": values,
        "errors": bad,
    }


def _read(path: Path) -> dict[str, Any] | None:
    """A file of `_write`; None where there is none, or a damaged one, which is named and computed again."""
    if not path.is_file():
        return None
    try:
        arrays, texts = read_arrays(path)
        return {**arrays, **parse_json(texts["found"], {"content": [str], "errors": list}, str(path))}
    except UserError as error:
        print(f"{error}: the embeddings are computed again", flush=True)
        return None


def _write(path: Path, found: dict[str, Any], facts: dict[str, Any]) -> None:
    texts = {
        "found": json.dumps({"content": found["content"], "errors": found["errors"]}),
        "facts": json.dumps({**facts, "files": len(facts["files"])}),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"no embeddings can be kept in {path.parent}: {error.strerror}; choose another --cache") from error
    write_arrays(path, {name: found[name] for name in ("rows", "seconds", "values")}, texts)
