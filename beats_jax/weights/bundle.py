"""Our own format: a folder with `model.safetensors` (float32 parameters under their paths) and `model.json` (all else).

The tensors load with plain safetensors; `model.json` names the hash of the tensors file, so that a mixed or damaged pair is
noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import beats_jax
from beats_jax.config import AudioConfig, ModelConfig, from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.files import whole_file, whole_folder
from beats_jax.weights.architecture import Params, check_params, param_shapes
from beats_jax.weights.audioset import readable_names
from beats_jax.weights.seen import Seen, seen_from_mapping

T = TypeVar("T")

TENSORS_FILE = "model.safetensors"
FACTS_FILE = "model.json"
FORMAT = 1
LONGEST_LINE = 2000  # of a description


@dataclass(frozen=True)
class Reading:
    """The windows of recordings in which a trained model was measured, so that it predicts in the same ones.

    Attributes:
      window_seconds, hop_seconds: of `inference.grid.Grid`; a window of 0 = not known.
      trim_below_dbfs: level below which both ends of a file were cut off; 0 = nothing was cut.
    """

    window_seconds: float = 0.0
    hop_seconds: float = 0.0
    trim_below_dbfs: float = 0.0


@dataclass(frozen=True)
class Bundle:
    """A model at rest.

    Attributes:
      params: nested float32 numpy arrays.
      model, audio: architecture and front-end.
      labels: class names in the order of the logits; empty without a head.
      multi_label: True = probabilities by sigmoid, False = by softmax.
      source: where the weights came from, free text.
      source_sha256: hash of the file they were read from; empty where they were trained here.
      licence: of the weights, as an SPDX name or free text; empty = not known.
      reading: windows of recordings.
      seen: recordings that it was trained on; None = not known, as with published weights.
    """

    params: Params
    model: ModelConfig
    audio: AudioConfig
    labels: tuple[str, ...]
    multi_label: bool
    source: str
    source_sha256: str = ""
    licence: str = ""
    reading: Reading = Reading()
    seen: Seen | None = None


def save_bundle(path: str | Path, bundle: Bundle) -> Path:
    """Writes a model, whole or not at all.

    Args:
      path: a folder (`model.safetensors` and `model.json` in it), or a file `NAME.safetensors` (with `NAME.json` beside it). A
        bundle that is there already is replaced, anything else is refused.
      bundle: what to write; its params may be host or device arrays and are stored as float32.
    Returns:
      the path.
    Raises:
      UserError: parameters that do not fit the architecture, a wrong number of labels, a folder that holds other files, or a
        place that cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    flat = {name: np.ascontiguousarray(leaf, dtype=np.float32) for name, leaf in flatten_dict(bundle.params, sep="/").items()}
    check_params(flat, bundle.model, str(path))
    _check_labels(bundle.labels, bundle.model, str(path))
    tensors = save(flat, metadata={"format": "beats_jax"})
    try:
        if path.suffix == ".safetensors":
            names = (path.name, path.with_suffix(".json").name)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_pair(path.parent, names, tensors, _facts_text(bundle, names[0], tensors))
        else:
            _write_folder(path, tensors, _facts_text(bundle, TENSORS_FILE, tensors))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _facts_text(bundle: Bundle, tensors_name: str, tensors: bytes) -> str:
    facts = {
        "format": FORMAT,
        "beats_jax": beats_jax.__version__,
        "model": to_mapping(bundle.model),
        "audio": to_mapping(bundle.audio),
        "labels": list(bundle.labels),
        "probabilities": "sigmoid" if bundle.multi_label else "softmax",
        "source": bundle.source,
        "source_sha256": bundle.source_sha256,
        "licence": bundle.licence,
        "reading": to_mapping(bundle.reading),
        "sha256": {tensors_name: hashlib.sha256(tensors).hexdigest()},
    }
    if bundle.seen is not None:
        facts["recordings"] = bundle.seen.to_mapping()
        facts["sha256"]["recordings"] = bundle.seen.sha256
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _write_folder(path: Path, tensors: bytes, facts: str) -> None:
    names = (TENSORS_FILE, FACTS_FILE)
    if path.exists():
        if not path.is_dir() or set(os.listdir(path)) - set(names):
            raise UserError(f"{path} exists and is not a model folder; choose another place")
        return _write_pair(path, names, tensors, facts)
    with whole_folder(path) as folder:
        (folder / TENSORS_FILE).write_bytes(tensors)
        (folder / FACTS_FILE).write_text(facts, encoding="utf-8")


def _write_pair(parent: Path, names: tuple[str, str], tensors: bytes, facts: str) -> None:
    """Both files under temporary names, then renamed: a stop between the two shows as a wrong hash, not as a wrong model."""
    with whole_file(parent / names[1]) as facts_file, whole_file(parent / names[0]) as tensors_file:
        tensors_file.write(tensors)
        facts_file.write(facts.encode())


def load_bundle(path: str | Path) -> Bundle:
    """Reads a model folder, or the `.safetensors` file in it.

    Raises:
      UserError: a file is missing, damaged, from another format version, or tensors and architecture do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    tensors_file = path / TENSORS_FILE if path.is_dir() else path
    facts_file = tensors_file.with_suffix(".json")
    for file in (tensors_file, facts_file):
        if not file.is_file():
            raise UserError(f"{file} is missing; a model is {TENSORS_FILE} with {FACTS_FILE} beside it")
    facts = _read_facts(facts_file)
    data = tensors_file.read_bytes()
    expected = next(iter(facts["sha256"].values()), None)
    if hashlib.sha256(data).hexdigest() != expected:
        raise UserError(f"{tensors_file} is damaged, or {facts_file.name} belongs to another one: the sha256 in it differs")
    try:
        flat = load(data)
    except SafetensorError as error:
        raise UserError(f"{tensors_file} is damaged: {error}") from error
    model = _settings(ModelConfig, facts["model"], f"{facts_file}: model")
    check_params(flat, model, str(tensors_file))
    labels = tuple(facts["labels"])
    _check_labels(labels, model, str(facts_file))
    audio = _settings(AudioConfig, facts["audio"], f"{facts_file}: audio")
    return Bundle(
        params=unflatten_dict(flat, sep="/"),
        model=model,
        audio=audio,
        labels=labels,
        multi_label=facts["probabilities"] == "sigmoid",
        source=facts["source"],
        source_sha256=facts["source_sha256"],
        licence=facts["licence"],
        reading=from_mapping(Reading, facts.get("reading", {}), f"{facts_file}: reading"),
        seen=_parse_seen(facts, facts_file),
    )


def read_seen(facts_file: Path) -> Seen | None:
    """The recordings that a model remembers, without its weights; None where it remembers none. Raises `UserError` if damaged."""
    return _parse_seen(_read_facts(facts_file), facts_file)


def _parse_seen(facts: dict[str, Any], file: Path) -> Seen | None:
    if "recordings" not in facts:
        return None
    return seen_from_mapping(facts["recordings"], facts["sha256"].get("recordings"), str(file))


def _settings(cls: type[T], settings: Mapping[str, Any], where: str) -> T:
    """`from_mapping`, whose messages about values out of bounds do not say `where`."""
    try:
        return from_mapping(cls, settings, where)
    except UserError as error:
        if where in str(error):
            raise
        raise UserError(f"{where}: {error}") from error


def _read_facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    kinds = {"format": int, "model": dict, "audio": dict, "labels": list, "probabilities": str, "source": str, "sha256": dict}
    kinds |= {"source_sha256": str, "licence": str}
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{file} is not the description of a model; it must hold {', '.join(kinds)}")
    if facts["format"] != FORMAT:
        raise UserError(f"{file} has format {facts['format']}; this version of beats_jax reads format {FORMAT}")
    if facts["probabilities"] not in ("sigmoid", "softmax"):
        raise UserError(f"{file}: probabilities is {facts['probabilities']!r}; allowed: sigmoid, softmax")
    return facts


def is_text(label: str) -> bool:
    """Whether a name can be written at all: halves of a character, which JSON and pickles can state, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in label)


def _check_labels(labels: Sequence[str], model: ModelConfig, where: str) -> None:
    classes = getattr(model, "predictor_class", 0)
    if not all(isinstance(label, str) and is_text(label) for label in labels):
        raise UserError(f"{where}: labels must be texts")
    if len(labels) != classes:
        raise UserError(f"{where}: {len(labels)} labels for a head of {classes} classes")


def describe(bundle: Bundle) -> list[str]:
    """What a model is, a line each."""
    audio = bundle.audio.filterbank
    shapes = param_shapes(bundle.model)
    few = bundle.labels[:5]
    head = ", ".join(name if name == label else f"{name} ({label})" for name, label in zip(readable_names(few), few, strict=True))
    head += ", ..." if len(bundle.labels) > 5 else ""
    lines = [
        f"family       {bundle.model.family}",
        f"source       {bundle.source or 'not noted'}",
        f"licence      {bundle.licence or 'not noted'}",
        f"parameters   {sum(int(np.prod(shape)) for shape in shapes.values()):,} in {len(shapes)} tensors",
        f"labels       {len(bundle.labels)}: {head}" if bundle.labels else "labels       none: the model has no head",
        f"probability  {'sigmoid' if bundle.multi_label else 'softmax'}" if bundle.labels else "probability  none",
        f"front-end    {audio.sample_rate} Hz, {audio.num_mel_bins} mel bins, {audio.window} window, mean {audio.mean:g}, "
        f"std {audio.std:g}, {f'{audio.target_frames} frames' if audio.target_frames else 'any length'}",
        "settings     " + ", ".join(f"{name} {value}" for name, value in _architecture(bundle)),
    ]
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    """Labels and sources are a stranger's texts: nothing in them may move the cursor of a terminal, or fill it."""
    return "".join(character if character.isprintable() else "?" for character in line[:LONGEST_LINE])


def _architecture(bundle: Bundle) -> Iterator[tuple[str, object]]:
    plain = type(bundle.model)()
    for name in vars(plain):
        if name not in ("family", "checkpoint") and getattr(bundle.model, name) != getattr(plain, name):
            yield name, getattr(bundle.model, name)
