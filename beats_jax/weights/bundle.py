"""Our own format: a folder with `model.safetensors` (float32 parameters by path) and `model.json` (all else).

Runs export it beside their orbax checkpoints, because one folder without pickle is enough for inference. The tensors load with
plain safetensors; `model.json` holds the hash of the tensors file, which shows a mixed or damaged pair.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
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
    """How recordings were cut into windows when a trained model was measured; predictions use the same windows."""

    window_seconds: float = 0.0  # of `inference.grid.Grid`; 0 = not known
    hop_seconds: float = 0.0
    trim_below_dbfs: float = 0.0  # both ends of a file below this level were cut off; 0 = nothing was cut


@dataclass(frozen=True)
class Bundle:
    """A model in memory that is not compiled: parameters and all that describes them."""

    params: Params  # nested float32 numpy arrays
    model: ModelConfig
    audio: AudioConfig  # front-end
    labels: tuple[str, ...]  # class names in the order of the logits; empty without a head
    multi_label: bool  # True = probabilities by sigmoid, False = by softmax
    source: str  # where the weights came from, free text
    source_sha256: str = ""  # of the file they were read from; empty where they were trained here
    licence: str = ""  # of the weights, as an SPDX name or free text; empty = not known
    reading: Reading = Reading()
    seen: Seen | None = None  # recordings it was trained on; None = not known, as for published weights


def save_bundle(path: str | Path, bundle: Bundle) -> Path:
    """Writes a model, whole or not at all, and returns the path.

    Args:
      path: a folder (for `model.safetensors` and `model.json`), or a file `NAME.safetensors` (with `NAME.json` beside it). An
        older bundle is replaced, anything else is refused.
      bundle: its params may be host or device arrays; they are stored as float32.
    Raises:
      UserError: parameters that do not fit the architecture, a wrong number of labels, a folder that holds other files, or a
        place that cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    flat = {name: np.asarray(leaf, np.float32, order="C") for name, leaf in flatten_dict(bundle.params, sep="/").items()}
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
    # Both files get temporary names first. A stop between the two renames shows as a wrong hash, not as a wrong model.
    with whole_file(parent / names[1]) as facts_file, whole_file(parent / names[0]) as tensors_file:
        tensors_file.write(tensors)
        facts_file.write(facts.encode())


def load_bundle(path: str | Path) -> Bundle:
    """Reads a model folder or its `.safetensors` file.

    Raises:
      UserError: a file is missing, damaged or of another format version, or the tensors do not fit the architecture.
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
    """The recordings in a model's description, None if it holds none. Raises `UserError` if the description is damaged."""
    return _parse_seen(_read_facts(facts_file), facts_file)


def _parse_seen(facts: dict[str, Any], file: Path) -> Seen | None:
    if "recordings" not in facts:
        return None
    return seen_from_mapping(facts["recordings"], facts["sha256"].get("recordings"), str(file))


def _settings(cls: type[T], settings: Mapping[str, Any], where: str) -> T:
    """`from_mapping`, with `where` in every message."""
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
    kinds = {
        "format": int, "model": dict, "audio": dict, "labels": list, "probabilities": str, "source": str, "source_sha256": str,
        "licence": str, "sha256": dict,
    }  # fmt: skip
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{file} is not the description of a model; it must hold {', '.join(kinds)}")
    if facts["format"] != FORMAT:
        raise UserError(f"{file} has format {facts['format']}; this version of beats_jax reads format {FORMAT}")
    if facts["probabilities"] not in ("sigmoid", "softmax"):
        raise UserError(f"{file}: probabilities is {facts['probabilities']!r}; allowed: sigmoid, softmax")
    return facts


def is_text(label: str) -> bool:
    """Whether UTF-8 can encode a name: JSON and pickles can hold halves of a character (surrogates), which it cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in label)


def _check_labels(labels: Sequence[str], model: ModelConfig, where: str) -> None:
    classes = getattr(model, "predictor_class", 0)
    if not all(isinstance(label, str) and is_text(label) for label in labels):
        raise UserError(f"{where}: labels must be texts")
    if len(labels) != classes:
        raise UserError(f"{where}: {len(labels)} labels for a head of {classes} classes")


def describe(bundle: Bundle) -> list[str]:
    """Lines about a model: family, source, licence, parameters, labels, front-end, settings."""
    audio = bundle.audio.filterbank
    shapes = param_shapes(bundle.model)
    few = bundle.labels[:5]
    head = ", ".join(name if name == label else f"{name} ({label})" for name, label in zip(readable_names(few), few, strict=True))
    head += ", ..." if len(bundle.labels) > 5 else ""
    defaults = vars(type(bundle.model)()) | {"family": bundle.model.family, "checkpoint": bundle.model.checkpoint}
    settings = [f"{name} {value}" for name, value in vars(bundle.model).items() if value != defaults[name]]
    lines = [
        f"family       {bundle.model.family}",
        f"source       {bundle.source or 'not noted'}",
        f"licence      {bundle.licence or 'not noted'}",
        f"parameters   {sum(int(np.prod(shape)) for shape in shapes.values()):,} in {len(shapes)} tensors",
        f"labels       {len(bundle.labels)}: {head}" if bundle.labels else "labels       none: the model has no head",
        f"probability  {'sigmoid' if bundle.multi_label else 'softmax'}" if bundle.labels else "probability  none",
        f"front-end    {audio.sample_rate} Hz, {audio.num_mel_bins} mel bins, {audio.window} window, mean {audio.mean:g}, "
        f"std {audio.std:g}, {f'{audio.target_frames} frames' if audio.target_frames else 'any length'}",
        "settings     " + ", ".join(settings),
    ]
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    # Labels and sources come from untrusted files: they must neither move the cursor of a terminal nor fill it.
    return "".join(character if character.isprintable() else "?" for character in line[:LONGEST_LINE])
