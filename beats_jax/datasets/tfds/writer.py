"""Writes a manifest as a TFDS data set in array_record files; `tfds.data_source` reads it without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.audio.decoding.tfds_records import RATE_FEATURE, import_tfds
from beats_jax.audio.io import audio_info, read
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.errors import UserError

DTYPES = {"int16": np.int16, "float32": np.float32}
NOT_WRITTEN = ("seconds", "content", "file_hash")  # validation computes them again
FEATURES = ("audio", RATE_FEATURE, "label", "labels", "group")


def write_tfds(
    manifest: Manifest,
    data: DataConfig,
    audio: AudioConfig,
    directory: Path,
    name: str,
    *,
    version: str = "1.0.0",
    dtype: str = "int16",
) -> Path:
    """Writes `directory/name/version`, a record for each row in their order, with little memory; returns that folder.

    Features: `audio` (the row's stretch of sound, channel `audio.channel`, at the file's own rate), `sample_rate` (int32, Hz),
    `label` (ClassLabel; with `data.multi_label` `labels`, a sequence of them), `file` (its name below the common folder),
    `group` (of the row, else its file), and the metadata as texts. Rows without a split form the split `train`.

    Args:
      manifest: rows, validated if files may be bad: the first file that cannot be read ends the writing.
      name: lower case letters, digits and underscores.
      dtype: int16 (clipped at full scale; exact for mono 16 bit files) or float32 (exact).
    Raises:
      UserError: TFDS is not installed, a bad name, version or dtype, the folder exists, no rows, or only some rows have a split.
      AudioError: a file cannot be read; nothing stays behind.
    """
    tfds = import_tfds()
    directory = Path(directory).expanduser().absolute()
    folder = directory / name / version
    _require_request(name, version, dtype, folder)
    _require_rows(manifest, data.multi_label)
    one_label = tfds.features.ClassLabel(names=sorted(manifest.labels.counts()))
    texts = _texts(manifest)
    features = {
        # bytes of int16: 5 s at 44.1 kHz are read in 1.2 ms, with TFDS's default encoding in 4.9, with zlib in 4.2
        "audio": tfds.features.Tensor(shape=(None,), dtype=DTYPES[dtype], encoding=tfds.features.Encoding.BYTES),
        RATE_FEATURE: np.int32,
        **({"labels": tfds.features.Sequence(one_label)} if data.multi_label else {"label": one_label}),
        **{column: tfds.features.Text() for column in texts},
    }

    def examples(rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, row in enumerate(rows.tolist()):
            waveform, rate = _sound(manifest, row, audio.channel)
            labels = list(manifest.labels[row])
            example = {"audio": _encode(waveform, dtype), RATE_FEATURE: rate}
            example |= {"labels": labels} if data.multi_label else {"label": labels[0]}
            yield key, example | {name: cells[row] for name, cells in texts.items()}

    named = dict.fromkeys(manifest.splits.tolist())
    splits = {split or "train": examples(np.flatnonzero(manifest.splits == split)) for split in named}
    builder = _builder(tfds, name, version, features, splits)
    _prepare(tfds, builder(data_dir=str(directory), file_format="array_record"))
    return folder


def _texts(manifest: Manifest) -> dict[str, list[str]]:
    """The text features of all rows."""
    metadata = {name: list(map(str, column.tolist())) for name, column in manifest.metadata.items() if name not in NOT_WRITTEN}
    names = metadata.pop("file", None) or _short_names(manifest.files.tolist())
    groups = [group or name for group, name in zip(manifest.groups.tolist(), names, strict=True)]
    return {"file": names, "group": groups, **metadata}


def _builder(tfds: Any, name: str, version: str, features: dict[str, Any], examples: dict[str, Any]) -> type:
    """A builder class, which TFDS does not register, so that its name can be used again."""

    def info(self: Any) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Recordings and labels, written by beats_jax.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the order of the rows
        )

    body = {
        "name": name,
        "VERSION": tfds.core.Version(version),
        "pkg_dir_path": None,
        "_info": info,
        "_split_generators": lambda self, manager: examples,
        "_generate_examples": lambda self: iter(()),
    }
    base = tfds.core.GeneratorBasedBuilder
    return types.new_class(name, (base,), {"skip_registration": True}, lambda space: space.update(body))


def _prepare(tfds: Any, builder: Any) -> None:
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints about downloads, of which there are none
        builder.download_and_prepare()


def _sound(manifest: Manifest, row: int, channel: str) -> tuple[np.ndarray, int]:
    """(float32 [samples], rate in Hz) of a row, at the rate of its file."""
    path, start, end = str(manifest.files[row]), float(manifest.starts[row]), float(manifest.ends[row])
    rate = audio_info(path).sample_rate
    start = 0.0 if np.isnan(start) else start
    seconds = None if np.isnan(end) else end - start
    return read(path, sample_rate=rate, start_seconds=start, seconds=seconds, channel=channel), rate


def _encode(waveform: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        return waveform
    return np.clip(np.rint(waveform * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)


def _short_names(files: list[str]) -> list[str]:
    """Names below the common folder: a data set that is passed on should not show where it was made."""
    paths = [os.path.abspath(name) for name in files]
    shared = os.path.commonpath({os.path.dirname(path) for path in paths})
    return [Path(os.path.relpath(path, shared)).as_posix() for path in paths]


def _require_request(name: str, version: str, dtype: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"the name of the data set is {name!r}; TFDS takes lower case letters, digits and underscores")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UserError(f"the version of the data set is {version!r}; it must be three numbers such as 1.0.0")
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    if folder.exists():
        raise UserError(f"{folder} exists; give another name or version, or remove it")


def _require_rows(manifest: Manifest, multi_label: bool) -> None:
    if not len(manifest):
        raise UserError("there are no rows to write")
    several = np.flatnonzero(manifest.labels.per_row != 1)
    if len(several) and not multi_label:
        row = int(several[0])
        raise UserError(f"{manifest.files[row]} has {manifest.labels.per_row[row]} labels; set data.multi_label=True")
    undecided = int((manifest.splits == "").sum())
    if 0 < undecided < len(manifest):
        raise UserError(f"{undecided} of {len(manifest)} rows have no split; give all or none a split")
    clashes = [column for column in manifest.metadata if column in FEATURES]
    if clashes:
        raise UserError(f"metadata {', '.join(clashes)} has the names of features of the data set; rename it")
