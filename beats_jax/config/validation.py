"""Nested mappings (from a config file, JSON or a checkpoint) into frozen dataclasses of settings, and back."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from beats_jax.config.models import MODEL_FAMILIES, ModelConfig
from beats_jax.config.objectives import OBJECTIVE_CONFIGS, ObjectiveConfig
from beats_jax.config.schema import Experiment
from beats_jax.errors import UserError

T = TypeVar("T")

# Groups of settings with several kinds: base class → the key that chooses the kind, its default, the dataclass of each value.
KINDS: dict[type, tuple[str, str, Mapping[str, Any]]] = {
    ModelConfig: ("family", "beats", MODEL_FAMILIES),
    ObjectiveConfig: ("name", "supervised", OBJECTIVE_CONFIGS),
}


def nearest(name: str, known: list[str]) -> str:
    """`did you mean 'X'?` when one of `known` resembles `name`, else the list of all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def experiment_from_mapping(settings: Mapping[str, Any]) -> Experiment:
    """Checks nested settings and returns them as an `Experiment`.

    Args:
      settings: nested mapping such as `{"data": {"root": "..."}, "training": {...}}`; absent settings have their defaults.
    Raises:
      UserError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    return from_mapping(Experiment, settings, "config")


def from_mapping(cls: type[T], settings: Mapping[str, Any], where: str) -> T:
    """Builds the dataclass `cls` from a mapping, strictly; `where` is the dotted path used in messages."""
    if not isinstance(settings, Mapping):
        raise UserError(f"{where} is {settings!r}; it must be a group of settings")
    if cls in KINDS:
        cls = _kind(cls, settings, where)
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise UserError(f"unknown setting {where}.{key}; {nearest(str(key), known)}")
        values[key] = _require_type(value, hints[key], f"{where}.{key}")
    return cls(**values)


def to_mapping(settings: Any) -> dict[str, Any]:
    """A dataclass as nested plain dicts and lists, fit for JSON."""
    return json.loads(json.dumps(asdict(settings)))  # tuples become lists


def _kind(cls: type[T], settings: Mapping[str, Any], where: str) -> type[T]:
    """The kind that the settings choose for the group with the base class `cls`."""
    key, default, kinds = KINDS[cls]
    chosen = settings.get(key, default)
    if not isinstance(chosen, str) or chosen not in kinds:
        raise UserError(f"{where}.{key} is {chosen!r}; {nearest(str(chosen), list(kinds))}")
    return kinds[chosen]


def _require_type(value: Any, hint: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    if get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise UserError(f"{where} is {value!r}; it must be a list")
        return tuple(_require_type(item, get_args(hint)[0], where) for item in value)
    if isinstance(hint, UnionType):  # X | None
        optional = [one for one in get_args(hint) if one is not type(None)]
        return None if value is None else _require_type(value, optional[0], where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) > sys.float_info.max or math.isnan(value):
            raise UserError(f"{where} is {value if isinstance(value, float) else 'too large'}; it must be a finite number")
        return float(value)
    kind: Any = hint
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} is {value!r} ({type(value).__name__}); it must be of type {kind.__name__}")
    return value
