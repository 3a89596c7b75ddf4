"""A checkpoint of somebody else's as it lies on disk, before anybody says which model it is."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from beats_jax.errors import UserError
from beats_jax.weights.pickle_machine import shorten
from beats_jax.weights.torch_file import is_safetensors, is_torch, read_head, read_torch_file

WRAPPERS = ("model", "module", "model_state_dict", "state_dict")  # entries under which frameworks keep the state dict
SETTINGS = "hyper_parameters"  # entry under which Lightning keeps what the model was made with


@dataclass(frozen=True)
class RawCheckpoint:
    """What a file holds.

    Attributes:
      path: the file of the tensors.
      state_dict: the tensors under the file's own keys (values that are no tensors are kept: a format says what to do with them).
      content: all other entries of the file's top level ("cfg", "label_dict", "epoch" ...), and those of Lightning's
        hyper_parameters; empty for safetensors.
      wrapper: name of the entry that held the state dict; empty where the file is the state dict.
      metadata: the metadata of a safetensors file.
      stated: what the registry says of a file that was asked for by name: by the names of a released cfg, and `sample_rate`.
    """

    path: Path
    state_dict: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)
    wrapper: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)

    def beside(self, name: str) -> Any:
        """The JSON (.json) or YAML (.yaml, safe loader) file of this name beside the tensors, parsed; None where there is none.

        Raises:
          UserError: it is there and cannot be parsed.
        """
        import yaml

        file = self.path.parent / name
        if not file.is_file():
            return None
        try:
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".json":
                return json.loads(text)
            return yaml.safe_load(text)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from error

    @property
    def has_cfg(self) -> bool:
        """Whether the file has an entry `cfg`, or a cfg.json beside it."""
        return "cfg" in self.content or (self.path.parent / "cfg.json").is_file()

    def cfg(self) -> Mapping[str, Any]:
        """The settings of the architecture, as the published code calls them: an entry of the file, or cfg.json beside it.

        Raises:
          UserError: there are none, or they are no settings.
        """
        cfg = self.content.get("cfg", self.beside("cfg.json"))
        if cfg is None:
            raise UserError("the architecture is missing: there is neither an entry 'cfg' in it nor a file cfg.json beside it")
        return group(cfg, "'cfg'")

    def has(self, *keys: str) -> bool:
        """Whether the state dict holds all of these keys."""
        return all(key in self.state_dict for key in keys)

    def has_prefix(self, prefix: str) -> bool:
        """Whether a key of the state dict begins like this."""
        return any(str(key).startswith(prefix) for key in self.state_dict)


class Upstream(NamedTuple):
    """A model in its family's published layout."""

    content: dict[str, Any]  # what `torch.save` would be given
    state_dict: dict[str, np.ndarray]  # the tensors alone, for safetensors
    beside: Mapping[str, Any]  # file name → JSON that belongs beside a safetensors file
    beside_torch: Mapping[str, Any] = MappingProxyType({})  # the same for a `.pt` file that cannot hold what it must state


def group(settings: Any, name: str) -> Mapping[str, Any]:
    """A group of settings in a file beside the tensors; empty where it is absent.

    Raises:
      UserError: it is something else.
    """
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UserError(f"{name} is a {type(settings).__name__}, not a mapping of settings")
    return {str(key): _setting(value, f"{name}.{str(key)[:40]}") for key, value in settings.items()}


def _setting(value: Any, name: str) -> Any:
    """A value as settings have it: a tensor of one number becomes the number, others are refused."""
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
    """Reads a PyTorch file or a safetensors file, whatever its name; arrays are views of the mapped file.

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
    wrappers.sort(key=lambda name: not _has_tensors(content[name]))  # one with tensors goes before one of settings
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
            return RawCheckpoint(path, {key: file.get_tensor(key) for key in file.keys()}, metadata=file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); get the file again") from error
    except AttributeError as error:  # safetensors asks numpy for types that it does not have: float8, float4
        raise UserError(f"{path} holds tensors of a type that is not read ({error.name}); cast them to float32") from error


def release(array: np.ndarray) -> None:
    """Gives the memory under a view of a mapped file back to the system; the values stay readable, from the file.

    An array that is no view of a mapped file, or a system without `madvise`, is left alone.
    """
    mapped: object = array
    while mapped is not None and not isinstance(mapped, mmap.mmap):  # strided views keep theirs in an object of numpy's own
        mapped = mapped.obj if isinstance(mapped, memoryview) else getattr(mapped, "base", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    low, high = np.lib.array_utils.byte_bounds(array)
    start = low - np.frombuffer(mapped, np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, high - low + start - first)
