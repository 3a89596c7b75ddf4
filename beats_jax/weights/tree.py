"""Nested parameters as a flat mapping of paths ("encoder/layers_0/fc1/kernel"), and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Params = dict[str, Any]


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters → {"encoder/layer_norm/scale": leaf, ...}, sorted by path."""
    flat: dict[str, Any] = {}
    for name in sorted(params):
        value = params[name]
        flat.update(flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> Params:
    """The inverse of `flatten`."""
    params: Params = {}
    for path, leaf in flat.items():
        *groups, name = path.split("/")
        node = params
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = leaf
    return params
