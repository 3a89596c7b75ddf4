"""Converts published tensors to our parameters and back by tables of keys, strictly.

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
    """How one tensor changes between the two layouts; both directions are views if possible."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]
    dtype: type[np.number] = np.float32  # of our parameter; the file may have any type of the same kind


MISFIT = "the weights do not fit their configuration"
HEAD_WIDTH = 64  # of one attention head in every published AST and EAT: gives the number of heads if a file does not
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
    """The shape of a tensor. Raises `UserError` if it is missing, of another rank, or empty."""
    if key not in state_dict:
        raise UserError(f"{MISFIT}: missing {key}")
    shape = np.shape(state_dict[key])
    if len(shape) != rank or 0 in shape:
        raise UserError(f"{MISFIT}: {key} has shape {list(shape)}, not one of {rank} sizes")
    return shape


def heads_of(width: int) -> int:
    """Attention heads of a published AST or EAT of this width. Raises `UserError` if none has such a width."""
    if width % HEAD_WIDTH:
        raise UserError(
            f"the number of attention heads is not stated, and the width {width} is not a multiple of {HEAD_WIDTH}, which would "
            "give it; put a config.json with the number beside the file"
        )
    return width // HEAD_WIDTH


def depth_of(state_dict: Mapping[str, Any], prefix: str) -> int:
    """How many different numbers follow `prefix` in the keys."""
    found = [re.match(rf"{re.escape(prefix)}(\d+)\.", str(key)) for key in state_dict]
    return len({match[1] for match in found if match})


def without_prefix(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose keys begin with `prefix`, under the rest of their keys."""
    return {str(key)[len(prefix) :]: value for key, value in state_dict.items() if str(key).startswith(prefix)}


def require_known(unknown: Sequence[str]) -> None:
    """Raises `UserError` naming these keys if there are any."""
    if unknown:
        raise UserError(f"{MISFIT}: {list_problems([f'unknown {key}' for key in unknown])}")


def require_settings(given: Mapping[str, Any], required: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` naming every setting in `given` that asks for another model than `required`."""
    wrong = [f"{name} is {given[name]!r}, not {value!r}" for name, value in required.items() if given.get(name, value) != value]
    if wrong:
        raise UserError(f"{where} asks for a model that beats_jax does not have: {'; '.join(wrong)}")


def to_params(state_dict: Mapping[str, Any], table: KeyTable, config: ModelConfig) -> Params:
    """Converts a published state dict to nested float32 numpy parameters, which are views of it if possible.

    Args:
      state_dict: float numpy arrays under the published keys.
      table: the key map of `config`.
    Raises:
      UserError: keys missing, unknown, of the wrong shape or type, values that are not finite (one NaN weight would make every
        feature NaN, far from its cause), or copies of a shared tensor that differ; the first of each kind are named.
    """
    given = {str(key): value for key, value in state_dict.items()}
    missing = [f"missing {key}" for key in table if key not in given]
    if len(missing) > max(len(given), MANY):  # another size altogether; tracing its shapes could take minutes
        raise UserError(f"{MISFIT}: {list_problems(missing)}")
    return convert_tensors(given, table, param_shapes(config))


def convert_tensors(given: Mapping[str, Any], table: KeyTable, shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """`to_params` for any mapping of our paths to shapes."""
    missing = [f"missing {key}" for key in table if key not in given]
    unknown = [f"unknown {key}" for key in given if key not in table]
    problems: list[str] = []
    flat: dict[str, np.ndarray] = {}
    for key, (path, rule) in table.items():
        if key in given:
            problems += _place(flat, key, given[key], path, rule, shapes[path])
    if missing or unknown or problems:
        raise UserError(f"{MISFIT}: {list_problems(missing, unknown, problems)}")
    return unflatten_dict(flat, sep="/")


def _place(flat: dict[str, np.ndarray], key: str, value: Any, path: str, rule: Rule, shape: tuple[int, ...]) -> list[str]:
    """Converts one tensor into `flat`; returns its faults."""
    expected = rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape
    kind, words = (jnp.floating, "a float") if rule.dtype is np.float32 else (jnp.integer, "an integer")
    if not isinstance(value, np.ndarray) or not jnp.issubdtype(value.dtype, kind):
        return [f"{key} is {getattr(value, 'dtype', type(value).__name__)}, not {words} tensor"]
    if value.shape != expected:
        return [f"{key} has shape {list(value.shape)}, not {list(expected)}"]
    with np.errstate(over="ignore"):  # a float64 beyond float32 is reported below
        ours = np.asarray(rule.to_ours(value), rule.dtype)  # a view if possible: the only copy is the device's
    if not _all_finite(ours):
        return [f"{key} holds {np.count_nonzero(~np.isfinite(ours))} values that are not finite in float32"]
    if path in flat and not np.array_equal(flat[path], ours):
        return [f"{key} differs from its copy under another key, with which it is shared"]
    flat[path] = ours
    return []


def _all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite. One pass usually suffices: NaN and infinity make the sum of squares not finite."""
    flat = values.ravel(order="K")  # a view of contiguous and of transposed values
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat))) or bool(np.isfinite(flat).all())  # large finite values overflow too


def to_state_dict(params: Mapping[str, Any], table: KeyTable, config: ModelConfig) -> dict[str, np.ndarray]:
    """The published state dict (float32, contiguous) of parameters; a shared tensor appears under each of its keys.

    Raises `UserError` if the parameters do not fit the configuration.
    """
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in flatten_dict(params, sep="/").items()}
    check_params(flat, config, "export")
    return {key: np.ascontiguousarray(rule.to_torch(flat[path])) for key, (path, rule) in table.items()}
