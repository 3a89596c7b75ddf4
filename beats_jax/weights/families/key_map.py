"""Published tensors to our parameters and back, strictly: what all key maps share.

A key map is a table: published key → (our path, rule). Every published key is used exactly once, every parameter of ours comes
from at least one key (from several where the published files repeat a shared tensor).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.config import ModelConfig
from beats_jax.errors import UserError
from beats_jax.weights.architecture import Params, check_params, list_problems, param_shapes


class Rule(NamedTuple):
    """How one tensor changes between the two layouts; both directions are views where they can be."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


MANY = 500  # missing keys: more than any published model has
KeyTable = Mapping[str, tuple[str, Rule]]


def _patch_to_torch(x: np.ndarray) -> np.ndarray:
    side = round(x.shape[0] ** 0.5)
    return x.T.reshape(x.shape[1], 1, side, side)


SAME = Rule(lambda x: x, lambda x: x)
TRANSPOSED = Rule(lambda x: x.T, lambda x: x.T)  # torch Linear [out, in] to [in, out]
PATCH = Rule(lambda x: x.reshape(x.shape[0], -1).T, _patch_to_torch)  # conv [E, 1, P, P] to [P * P, E]
VECTOR = Rule(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))  # [1, 1, D] to [D]
TABLE = Rule(lambda x: x.reshape(x.shape[1:]), lambda x: x[None])  # [1, rows, D] to [rows, D]


def linear(table: dict[str, tuple[str, Rule]], key: str, path: str, bias: bool = True) -> None:
    """Adds a torch Linear to `table`."""
    table[f"{key}.weight"] = (f"{path}/kernel", TRANSPOSED)
    if bias:
        table[f"{key}.bias"] = (f"{path}/bias", SAME)


def norm(table: dict[str, tuple[str, Rule]], key: str, path: str) -> None:
    """Adds a torch LayerNorm to `table`."""
    table[f"{key}.weight"] = (f"{path}/scale", SAME)
    table[f"{key}.bias"] = (f"{path}/bias", SAME)


def shape_of(state_dict: Mapping[str, Any], key: str, rank: int) -> tuple[int, ...]:
    """The shape of a tensor that gives sizes of a model.

    Raises:
      UserError: it is missing, or has another number of dimensions or none of some size.
    """
    if key not in state_dict:
        raise UserError(f"the weights do not fit their configuration: missing {key}")
    shape = np.shape(state_dict[key])
    if len(shape) != rank or 0 in shape:
        raise UserError(f"the weights do not fit their configuration: {key} has shape {list(shape)}, not one of {rank} sizes")
    return shape


def depth_of(state_dict: Mapping[str, Any], prefix: str) -> int:
    """How many different numbers follow `prefix` in the keys."""
    found = [re.match(rf"{re.escape(prefix)}(\d+)\.", str(key)) for key in state_dict]
    return len({match[1] for match in found if match})


def without_prefix(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose keys begin with `prefix`, under the rest of their keys."""
    return {str(key)[len(prefix) :]: value for key, value in state_dict.items() if str(key).startswith(prefix)}


def require_known(unknown: Sequence[str]) -> None:
    """Raises `UserError` naming these keys, which nothing uses."""
    if unknown:
        raise UserError(f"the weights do not fit their configuration: {list_problems([f'unknown {key}' for key in unknown])}")


def to_params(state_dict: Mapping[str, Any], table: KeyTable, config: ModelConfig) -> Params:
    """Parameters of a published state dict.

    Args:
      state_dict: float numpy arrays under the published keys.
      table: the key map of `config`.
    Returns:
      nested float32 numpy parameters, views of `state_dict` where they can be.
    Raises:
      UserError: keys missing, unknown, of the wrong shape or type, values that are not finite, or copies of a shared tensor that
        differ; the first of each kind are named.
    """
    given = {str(key): value for key, value in state_dict.items()}
    missing = [f"missing {key}" for key in table if key not in given]
    if len(missing) > max(len(given), MANY):  # of another size altogether, whose shapes could take minutes to trace
        raise UserError(f"the weights do not fit their configuration: {list_problems(missing)}")
    shapes = param_shapes(config)
    unknown = [f"unknown {key}" for key in given if key not in table]
    problems: list[str] = []
    flat: dict[str, np.ndarray] = {}
    for key, (path, rule) in table.items():
        if key in given:
            problems += _place(flat, key, given[key], path, rule, shapes[path])
    if missing or unknown or problems:
        raise UserError(f"the weights do not fit their configuration: {list_problems(missing, unknown, problems)}")
    return unflatten_dict(flat, sep="/")


def _place(flat: dict[str, np.ndarray], key: str, value: Any, path: str, rule: Rule, shape: tuple[int, ...]) -> list[str]:
    """Converts one tensor into `flat`; returns what is wrong with it."""
    expected = rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape
    if not isinstance(value, np.ndarray) or not jnp.issubdtype(value.dtype, jnp.floating):
        return [f"{key} is {getattr(value, 'dtype', type(value).__name__)}, not a float tensor"]
    if value.shape != expected:
        return [f"{key} has shape {list(value.shape)}, not {list(expected)}"]
    with np.errstate(over="ignore"):  # a float64 that float32 cannot hold is told below
        ours = np.asarray(rule.to_ours(value), np.float32)  # a view where it can be: the one copy is the device's
    if not _all_finite(ours):
        return [f"{key} holds {np.count_nonzero(~np.isfinite(ours))} values that are not finite in float32"]
    if path in flat and not np.array_equal(flat[path], ours):
        return [f"{key} differs from its copy under another key, with which it is shared"]
    flat[path] = ours
    return []


def _all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, in one pass: what is not finite makes the sum of squares so."""
    flat = values.ravel(order="K")  # a view of contiguous and of transposed values
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat))) or bool(np.isfinite(flat).all())  # large values overflow it too


def to_state_dict(params: Mapping[str, Any], table: KeyTable, config: ModelConfig) -> dict[str, np.ndarray]:
    """The published state dict (float32, contiguous) of parameters; shared tensors are repeated under each of their keys.

    Raises:
      UserError: parameters that do not fit the configuration.
    """
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in flatten_dict(params, sep="/").items()}
    check_params(flat, config, "export")
    return {key: np.ascontiguousarray(rule.to_torch(flat[path])) for key, (path, rule) in table.items()}
