"""Recordings that are records of a TensorFlow Datasets folder (array_record), read without TensorFlow.

Such a recording has an address in place of a path: `tfds:/data/owls/1.0.0/train#12`, and after a "?" `audio=waveform` (name of
the feature, unless it is "audio") and `rate=44100` (unless every record has its `sample_rate`). Its decoder stands beside those
of libsndfile and PyAV, so that rates, windows and checks are the same code as for files.

TFDS constructs its feature `Audio` only with TensorFlow. On disk it is a plain tensor (unless it is lazily decoded), so such a
folder is opened through links and a description that calls it a tensor.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import parse_qs, urlencode
from weakref import finalize

import numpy as np

from beats_jax.audio.recording import BLOCK_FRAMES, AnyPath, AudioError, AudioInfo
from beats_jax.errors import UserError

SCHEME = "tfds:"
RATE_FEATURE = "sample_rate"
FULL_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**15}  # int64: TFDS's Audio of 16 bit files
AUDIO_CLASS = "tensorflow_datasets.core.features.audio_feature.Audio"
TENSOR_CLASS = "tensorflow_datasets.core.features.tensor_feature.Tensor"


@dataclass(frozen=True)
class Address:
    """Where a record lies: folder of one version of a data set, split, index, feature with the sound, rate (0 = the record's)."""

    folder: str
    split: str
    index: int
    feature: str = "audio"
    sample_rate: int = 0

    def __str__(self) -> str:
        settings = {} if self.feature == "audio" else {"audio": self.feature}
        settings |= {"rate": self.sample_rate} if self.sample_rate else {}
        return f"{SCHEME}{self.folder}/{self.split}#{self.index}" + (f"?{urlencode(settings)}" if settings else "")


@dataclass(frozen=True)
class RecordFolder:
    """An opened version of a data set."""

    builder: Any  # of TFDS
    rates: dict[str, int]  # Hz, for the features whose description has a rate


def is_record(path: AnyPath) -> bool:
    """Whether a path is the address of a record."""
    return os.fspath(path).startswith(SCHEME)


def parse_address(path: AnyPath) -> Address:
    """The parts of an address. Raises `AudioError` for one that is incomplete."""
    place, _, settings = os.fspath(path).removeprefix(SCHEME).partition("?")
    place, _, index = place.rpartition("#")
    folder, _, split = place.rpartition("/")
    chosen = {name: values[0] for name, values in parse_qs(settings).items()}
    rate = chosen.get("rate", "0")
    if not (folder and split and index.isdecimal() and rate.isdecimal()):
        raise AudioError(path, "no address of a record; an address looks like tfds:/data/owls/1.0.0/train#12")
    return Address(folder, split, int(index), chosen.get("audio", "audio"), int(rate))


def is_present(path: AnyPath) -> bool:
    """Whether the file, or the folder of the record, exists."""
    return os.path.exists(os.path.join(parse_address(path).folder, "dataset_info.json") if is_record(path) else path)


def import_tfds() -> Any:
    """The module tensorflow_datasets. Raises `UserError` where it is not installed."""
    try:
        return import_module("tensorflow_datasets")
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'beats-jax[tfds]' (TensorFlow is not needed)") from error


@cache
def open_folder(folder: str) -> RecordFolder:
    """Opens one version of a data set (a folder with dataset_info.json and features.json); no record is read.

    Raises:
      UserError: TFDS is not installed, the folder is no data set, is not in array_record, or stores encoded files.
    """
    tfds = import_tfds()
    try:
        features = json.loads(Path(folder, "features.json").read_text(encoding="utf-8"))
        described = _audio_features(features)
        rates = {name: int(feature["audio"].get("sampleRate", 0)) for name, feature in described.items()}
        if any(feature["audio"].get("lazyDecode") for feature in described.values()):
            raise UserError(f"{folder} keeps its sound as encoded files (lazy_decode), which only TensorFlow reads")
        builder = tfds.builder_from_directory(_shadow(folder, features) if described else folder)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(f"{folder} is no folder of TFDS that can be read: {error}; give one with dataset_info.json") from error
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"{folder} is in the format {builder.info.file_format.value}, which needs TensorFlow; convert it where that is "
            "installed: python -m tensorflow_datasets.scripts.convert_format --out_file_format=array_record"
        )
    return RecordFolder(builder, rates)


def read_record(path: Path) -> RecordDecoder:
    """Reads the record with this address.

    Raises:
      AudioError: there is no such record, it cannot be read, its rate is unknown, or its feature holds no sound.
      UserError: as `open_folder`.
    """
    address = parse_address(path)
    if not is_present(path):
        raise AudioError(path, "no such data set")
    example = _read(path, address)
    if address.feature not in example:
        raise AudioError(path, f"has no feature {address.feature!r}; there are {', '.join(example)}")
    rate = address.sample_rate or int(example.get(RATE_FEATURE, 0))
    if rate < 1:
        raise AudioError(path, "its sample rate is unknown; set data.tfds_sample_rate")
    return RecordDecoder(path, np.asarray(example[address.feature]), rate)


def record_bytes(path: AnyPath) -> bytes:
    """The stored samples of a record, for comparisons. Raises as `read_record`."""
    return read_record(Path(path)).samples.tobytes()


class RecordDecoder:
    """The sound of a record (a `recording.Decoder`)."""

    def __init__(self, path: Path, samples: np.ndarray, sample_rate: int) -> None:
        """samples: [frames] or [frames, channels], integers or floats. Raises `AudioError` for anything else."""
        kind = str(samples.dtype)
        if samples.ndim not in (1, 2) or (kind not in FULL_SCALE and samples.dtype.kind != "f"):
            raise AudioError(path, f"{kind} of shape {samples.shape} is no sound; known: {', '.join(FULL_SCALE)} and floats")
        if kind == "int64" and len(samples) and max(-int(samples.min()), int(samples.max())) > 2**15:
            raise AudioError(path, "int64 samples beyond 16 bit: their full scale is unknown")
        self.samples = samples.reshape(len(samples), -1)
        self._scale, self._zero = FULL_SCALE.get(kind, 1.0), 128 if kind == "uint8" else 0
        self.info = AudioInfo(len(samples), sample_rate, max(1, self.samples.shape[1]), f"TFDS {kind}")

    def count_samples(self) -> AudioInfo:
        return self.info

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for begin in range(start, min(stop, self.info.frames), BLOCK_FRAMES):
            block = self.samples[begin : min(begin + BLOCK_FRAMES, stop)]
            yield ((block.astype(np.float64) - self._zero) / self._scale).astype(np.float32)


@cache
def _source(folder: str, split: str) -> Any:
    return open_folder(folder).builder.as_data_source(split=split)


def _read(path: Path, address: Address) -> dict[str, Any]:
    from google.protobuf.message import DecodeError

    try:
        return _source(address.folder, address.split)[address.index]
    except (RuntimeError, ValueError, LookupError, OSError, DecodeError) as error:
        raise AudioError(path, f"record cannot be read: {error}") from error


def _audio_features(features: dict[str, Any]) -> dict[str, Any]:
    """Features of the class `Audio` among those of the top level."""
    known = features.get("featuresDict", {}).get("features", {})
    return {name: feature for name, feature in known.items() if feature.get("pythonClassName") == AUDIO_CLASS}


def _shadow(folder: str, features: dict[str, Any]) -> str:
    """A temporary folder of links to the files of `folder`, with a features.json that describes `Audio` as tensors."""
    shadow = mkdtemp(prefix="beats_jax_tfds_")
    finalize(open_folder, shutil.rmtree, shadow, ignore_errors=True)
    for path in Path(os.path.abspath(folder)).iterdir():
        if path.name != "features.json":
            Path(shadow, path.name).symlink_to(path)
    for feature in _audio_features(features).values():
        stored = feature.pop("audio")
        feature["pythonClassName"] = TENSOR_CLASS
        feature["tensor"] = {"encoding": "none"} | {key: stored[key] for key in ("dtype", "encoding", "shape") if key in stored}
    Path(shadow, "features.json").write_text(json.dumps(features), encoding="utf-8")
    return shadow
