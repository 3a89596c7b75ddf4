"""Checkpoints of other code: what a file holds before its family is known, and what is written back."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.weights.pickle_machine import shorten
from beats_jax.weights.torch_file import is_safetensors, is_torch, read_head, read_torch_file

WRAPPERS = ("model", "module", "model_state_dict", "state_dict")  # entries under which frameworks keep the state dict
OURS = "beats_jax"  # entry of files that we write: settings that a published layout lacks; other readers ignore it
SETTINGS = "hyper_parameters"  # entry under which Lightning keeps the arguments of the model


@dataclass(frozen=True)
class RawCheckpoint:
    """The content of a file."""

    path: Path  # the file of the tensors
    state_dict: Mapping[str, Any]  # tensors under the file's own keys; the readers of the formats judge other values
    content: Mapping[str, Any] = field(default_factory=dict)  # other entries of the file and of Lightning's hyper_parameters
    wrapper: str = ""  # name of the entry that held the state dict; empty if the file is the state dict
    stated: Mapping[str, Any] = field(default_factory=dict)  # by the registry: `published.stated_settings`

    def beside(self, name: str) -> Any:
        """Parses the JSON (.json) or YAML (.yaml, safe loader) file of this name beside the tensors; None if there is none.

        Raises:
          UserError: the file cannot be parsed.
        """
        import yaml

        file = self.path.parent / name
        if not file.is_file():
            return None
        try:
            text = file.read_text(encoding="utf-8")
            return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from error

    @property
    def has_cfg(self) -> bool:
        """Whether the file has an entry `cfg`, or a cfg.json beside it."""
        return "cfg" in self.content or (self.path.parent / "cfg.json").is_file()

    def cfg(self) -> Mapping[str, Any]:
        """The published settings of the architecture: the entry `cfg` of the file, or cfg.json beside it.

        Raises:
          UserError: there is neither, or it is no mapping.
        """
        cfg = self.content.get("cfg", self.beside("cfg.json"))
        if cfg is None:
            raise UserError("the architecture is missing: there is neither an entry 'cfg' in it nor a file cfg.json beside it")
        return group(cfg, "'cfg'")

    def has(self, *keys: str) -> bool:
        """Whether the state dict holds all of these keys."""
        return all(key in self.state_dict for key in keys)

    def has_prefix(self, prefix: str) -> bool:
        """Whether a key of the state dict begins with `prefix`."""
        return any(str(key).startswith(prefix) for key in self.state_dict)


class Upstream(NamedTuple):
    """A model in its family's published layout."""

    content: dict[str, Any]  # the argument of `torch.save`
    state_dict: dict[str, np.ndarray]  # the tensors alone, for safetensors
    beside: Mapping[str, Any]  # file name → JSON that belongs beside a safetensors file
    beside_torch: Mapping[str, Any] = MappingProxyType({})  # the same for a `.pt` file whose layout lacks these settings


def group(settings: Any, name: str) -> Mapping[str, Any]:
    """A group of settings in a file beside the tensors; empty for None. Raises `UserError` if it is no mapping."""
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UserError(f"{name} is a {type(settings).__name__}, not a mapping of settings")
    return {str(key): _setting(value, f"{name}.{str(key)[:40]}") for key, value in settings.items()}


def pick_stated(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of the named settings that are present and not None."""
    return {name: settings[name] for name in names if settings.get(name) is not None}


def own_entry(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry `OURS` of a file that beats_jax wrote; empty for others. Raises `UserError` if it is damaged."""
    found = group(content.get(OURS), OURS)
    if not isinstance(found.get("multi_label", True), bool):
        raise UserError(f"its entry {OURS!r} is damaged: multi_label is neither true nor false")
    return found


def _setting(value: Any, name: str) -> Any:
    """Turns a tensor of one number into the number and refuses other tensors."""
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise UserError(f"{shorten(name)} is a tensor of shape {list(value.shape)}, not a setting")
        return value.item()
    if isinstance(value, list | tuple):
        return type(value)(_setting(item, name) for item in value)
    if isinstance(value, Mapping):
        return {key: _setting(item, f"{name}.{str(key)[:40]}") for key, item in value.items()}
    return value


def read_raw(path: Path) -> RawCheckpoint:
    """Reads a PyTorch or safetensors file, known by its first bytes; arrays are views of the mapped file.

    Raises:
      UserError: the file is missing, damaged, hostile or no checkpoint.
    """
    head = read_head(path)
    if is_safetensors(head) or (path.suffix.lower() == ".safetensors" and not is_torch(head)):
        return _read_safetensors(path)
    content = read_torch_file(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint with tensors")
    wrappers = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    wrappers.sort(key=lambda name: not _has_tensors(content[name]))  # tensors go before settings
    if wrappers:
        others = {str(key): value for key, value in content.items() if key != wrappers[0]}
        settings = others.get(SETTINGS)
        given = {str(key): value for key, value in settings.items()} if isinstance(settings, Mapping) else {}
        return RawCheckpoint(path, content[wrappers[0]], {**given, **others}, wrappers[0])
    if not _has_tensors(content):
        found = ", ".join(shorten(str(key)) for key in list(content)[:5]) or "nothing"
        raise UserError(f"{path} holds no tensors: it has {found}")
    return RawCheckpoint(path, content)


def _has_tensors(entries: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, np.ndarray) for value in entries.values())


def _read_safetensors(path: Path) -> RawCheckpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return RawCheckpoint(path, {key: file.get_tensor(key) for key in file.keys()})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); get the file again") from error
    except AttributeError as error:  # numpy lacks some types of safetensors: float8, float4
        raise UserError(f"{path} holds tensors of a type that is not read ({error.name}); cast them to float32") from error


def release(array: np.ndarray) -> None:
    """Gives the memory under a view of a mapped file back to the system; the values stay readable, from the file.

    Does nothing for other arrays and on systems without `madvise`.
    """
    mapped: object = array
    while mapped is not None and not isinstance(mapped, mmap.mmap):  # strided views hold it in an object of numpy's own
        mapped = mapped.obj if isinstance(mapped, memoryview) else getattr(mapped, "base", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    low, high = np.lib.array_utils.byte_bounds(array)
    start = low - np.frombuffer(mapped, np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, high - low + start - first)
