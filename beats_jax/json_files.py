"""JSON that is read back must have the shape that we wrote, or the error names the file and the place in it.

A shape is a type (`int`, `float`: finite, whole numbers too; `str`, `bool`, `dict`, `list`, None), `[shape]` for a list of them,
`{str: shape}` for any names, `{"name": shape}` for an object with these names at least, or a tuple of alternatives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from beats_jax.errors import UserError
from beats_jax.files import read_text

DEEPEST = 50  # levels; ours have 6, and deeper values overflow the stack of a recursive reader
REMEDY = "restore it from a copy, or make it anew"


def read_json(path: str | Path, shape: Any = dict, *, remedy: str = REMEDY) -> Any:
    """A JSON file of the given shape.

    Raises:
      UserError: it is missing, cannot be read, or has another shape; names the file, and `remedy`.
    """
    return parse_json(read_text(path, remedy=remedy), shape, str(path), remedy=remedy)


def parse_json(text: str, shape: Any, name: str, *, remedy: str = REMEDY) -> Any:
    """A JSON text of the given shape; `name` is its place in messages. Raises `UserError` as `read_json` does."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is damaged ({str(error)[:120]}); {remedy}") from error
    return require_shape(value, shape, name, remedy=remedy)


def require_shape(value: Any, shape: Any, name: str, *, remedy: str = REMEDY) -> Any:
    """`value`, which came from JSON, where it has the shape. Raises `UserError` as `read_json` does."""
    fault = _fault(value, shape, "") if _is_flat(value) else f"it is nested more than {DEEPEST} deep"
    if fault:
        raise UserError(f"{name} is damaged ({fault}); {remedy}")
    return value


def _is_flat(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for part in level for item in _parts(part)]
        if not level:
            return True
    return False


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _fault(value: Any, shape: Any, where: str) -> str:
    """The first fault, or ""."""
    if isinstance(shape, tuple):
        faults = [_fault(value, alternative, where) for alternative in shape]
        return "" if "" in faults else f"{where or 'it'} is {_short(value)}"
    if isinstance(shape, list):
        items = enumerate(value) if isinstance(value, list) else ()
        return _fault(value, list, where) or _first(_fault(item, shape[0], f"{where}[{i}]") for i, item in items)
    if isinstance(shape, dict):
        if fault := _fault(value, dict, where):
            return fault
        if str in shape:
            return _first(_fault(item, shape[str], _inside(where, key)) for key, item in value.items())
        missing = f"{where or 'it'} lacks {', '.join(key for key in shape if key not in value)}"
        return _first(_fault(value[key], part, _inside(where, key)) if key in value else missing for key, part in shape.items())
    return "" if _is(value, shape) else f"{where or 'it'} is {_short(value)}, not {getattr(shape, '__name__', 'null')}"


def _is(value: Any, kind: Any) -> bool:
    if kind is None or isinstance(value, bool):
        return value is kind or (kind is bool and isinstance(value, bool))
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max  # neither NaN nor infinite
    return isinstance(value, kind)


def _first(faults: Any) -> str:
    return next(filter(None, faults), "")


def _inside(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, int | float | str | None) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}..."
