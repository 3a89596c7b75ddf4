"""Reads a checkpoint by name or path: published checkpoints, model folders, runs of `python -m beats_jax.train`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from beats_jax.errors import LicenceWarning, UserError, warn
from beats_jax.weights import formats
from beats_jax.weights.bundle import FACTS_FILE, TENSORS_FILE, Bundle, load_bundle, read_seen
from beats_jax.weights.download import ensure
from beats_jax.weights.published import check_architecture, find, registry, stated_settings, suggestion
from beats_jax.weights.raw import read_raw
from beats_jax.weights.seen import Seen
from beats_jax.weights.torch_file import is_safetensors, is_torch, read_head

RUN_MODEL_FOLDER = "model"  # where a run keeps its model folder


def read_checkpoint(source: str | Path) -> Bundle:
    """Reads parameters (numpy), configuration and labels. Arguments, errors and warning as `inference.model.load`."""
    path = _existing_path(source)
    bundle = _read_published(str(source)) if path is None else _read_path(path)
    if "-NC" in bundle.licence.upper():
        _warn_of_licence(bundle.licence)
    return bundle


def require_checkpoint(source: str | Path) -> None:
    """Downloads a published checkpoint if it is missing; reads no weights.

    Raises:
      UserError: `source` is neither a path nor a published name, or the download fails.
    """
    if _existing_path(source) is None:
        ensure(find(str(source)))


def _existing_path(source: str | Path) -> Path | None:
    """`source` as a path, None for a published name. Raises `UserError` if it is neither."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    if str(source) not in registry():
        raise UserError(
            f"{str(source)!r} is not there (looked at {path.absolute()}) and no published checkpoint has this name "
            f"({suggestion(str(source))}); give the path of a published file, of a model folder ({TENSORS_FILE}, {FACTS_FILE}) "
            "or of a training run"
        )
    return None


def read_memory(source: str | Path) -> Seen | None:
    """The recordings in the description of a model that beats_jax wrote; None for all others. Reads no weights.

    Raises:
      UserError: the description is damaged.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        places = [path / FACTS_FILE, path / RUN_MODEL_FOLDER / FACTS_FILE]
    else:
        places = [path if path.name == FACTS_FILE else path.with_suffix(".json")]
        places = places if path.suffix.lower() in (".safetensors", ".json") else []
    return next((read_seen(place) for place in places if place.is_file()), None)


def _read_published(name: str) -> Bundle:
    published = find(name)
    obtained = ensure(published)
    bundle = formats.read(replace(read_raw(obtained.path), stated=stated_settings(published)))
    check_architecture(published, bundle.model)
    source = f"{published.name} ({obtained.source})"
    return replace(bundle, source=source, source_sha256=obtained.sha256, licence=published.licence)


@cache
def _warn_of_licence(licence: str) -> None:
    # Cached: one warning in a process.
    warn(f"these weights are under {licence}: no commercial use", LicenceWarning)


def _read_path(path: Path) -> Bundle:
    if path.is_dir():
        folder = _model_folder(path)
        # A folder without model.json may be a repository of the Hugging Face hub.
        hub = not (folder / FACTS_FILE).is_file() and (folder / "config.json").is_file()
        return formats.read(read_raw(folder / TENSORS_FILE)) if hub else load_bundle(folder)
    if path.name == FACTS_FILE:
        return load_bundle(path.parent)
    if path.with_suffix(".json").is_file():  # perhaps `NAME.json` of our `NAME.safetensors`
        head, named = read_head(path), path.suffix.lower() == ".safetensors"
        if is_safetensors(head) or (named and not is_torch(head)):
            return load_bundle(path)
    return formats.read(read_raw(path))


def _model_folder(path: Path) -> Path:
    tried = [path, path / RUN_MODEL_FOLDER]
    for folder in tried:
        if (folder / TENSORS_FILE).is_file():
            return folder
    names = " nor ".join(str(folder / TENSORS_FILE) for folder in tried)
    raise UserError(f"{path} holds no model: there is neither {names}; a run writes one when its training ends")
