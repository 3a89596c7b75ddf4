"""From a name or a path to a model at rest: published checkpoints, our own model folders, runs of `python -m beats_jax.train`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

from beats_jax.errors import LicenceWarning, UserError
from beats_jax.weights import formats
from beats_jax.weights.bundle import FACTS_FILE, TENSORS_FILE, Bundle, load_bundle, read_seen
from beats_jax.weights.download import ensure
from beats_jax.weights.published import check_architecture, find, registry, stated_settings, suggestion
from beats_jax.weights.raw import read_raw
from beats_jax.weights.seen import Seen
from beats_jax.weights.torch_file import is_safetensors, is_torch, read_head

RUN_MODEL_FOLDER = "model"  # where a run keeps its model folder


def read_checkpoint(source: str | Path) -> Bundle:
    """A model at rest: numpy parameters, configuration, labels. Source, errors and warning as `inference.model.load`."""
    path = _existing_path(source)
    bundle = _read_published(str(source)) if path is None else _read_path(path)
    if "-NC" in bundle.licence.upper():
        _warn_of_licence(bundle.licence)
    return bundle


def require_checkpoint(source: str | Path) -> None:
    """Makes sure that a checkpoint is at hand, downloading a published one; reads no weights.

    Raises:
      UserError: it is neither a path nor a published name, or it cannot be fetched.
    """
    if _existing_path(source) is None:
        ensure(find(str(source)))


def _existing_path(source: str | Path) -> Path | None:
    """The path that `source` is, None for a published name. Raises `UserError` where it is neither."""
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
    """The recordings that a model of ours remembers, without its weights; None for all others.

    Args:
      source: as in `load`.
    Raises:
      UserError: its description is damaged.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        places = [path / FACTS_FILE, path / RUN_MODEL_FOLDER / FACTS_FILE]
    else:
        places = [path if path.name == FACTS_FILE else path.with_suffix(".json")]
        places = places if path.suffix.lower() in (".safetensors", ".json") else []
    return next((read_seen(place) for place in places if place.is_file()), None)


def _read_published(name: str) -> Bundle:
    """A checkpoint of the registry, which knows where it is from and under which licence."""
    published = find(name)
    obtained = ensure(published)
    bundle = formats.read(replace(read_raw(obtained.path), stated=stated_settings(published)))
    check_architecture(published, bundle.model)
    source = f"{published.name} ({obtained.source})"
    return replace(bundle, source=source, source_sha256=obtained.sha256, licence=published.licence)


@cache
def _warn_of_licence(licence: str) -> None:
    """Once in a process."""
    warnings.warn(f"these weights are under {licence}: no commercial use", LicenceWarning, stacklevel=4)


def _read_path(path: Path) -> Bundle:
    if path.is_dir():
        folder = _model_folder(path)
        # Without our description it may be a folder as the Hugging Face hub keeps models.
        hub = not (folder / FACTS_FILE).is_file() and (folder / "config.json").is_file()
        return formats.read(read_raw(folder / TENSORS_FILE)) if hub else load_bundle(folder)
    if path.name == FACTS_FILE:
        return load_bundle(path.parent)
    if path.with_suffix(".json").is_file():  # perhaps our description, as `NAME.json` of `NAME.safetensors`
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
    raise UserError(f"{path} holds no model: there is neither {names}; a run has one when its training is finished")
