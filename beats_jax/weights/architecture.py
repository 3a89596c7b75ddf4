"""The parameters of an architecture, and checks that given parameters or front-ends fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from beats_jax.config import AudioConfig, ModelConfig
from beats_jax.errors import UserError
from beats_jax.models import registry

Params = dict[str, Any]  # nested, with arrays as leaves; flat, the paths are joined by "/"
MOST_LISTED = 20  # problems of one kind
LONGEST = 300  # characters of one problem


def param_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path → shape of every parameter of a model; allocates none."""
    return dict(_param_shapes(model))


@lru_cache(maxsize=32)
def _param_shapes(model: ModelConfig) -> tuple[tuple[str, tuple[int, ...]], ...]:
    # Cached, because a trace takes 0.2 s. The key is traced too, so that no device is used.
    family = registry.family(model)
    fbank = jax.ShapeDtypeStruct((1, family.fixed_frames or family.min_frames, family.mel_bins), jnp.float32)
    init = registry.build(model).init
    variables = jax.eval_shape(lambda fbank: init(jax.random.key(0), fbank), fbank)
    flat: dict[str, Any] = flatten_dict(variables["params"], sep="/")
    return tuple((path, tuple(leaf.shape)) for path, leaf in flat.items())


def check_params(flat: Mapping[str, np.ndarray], model: ModelConfig, where: str) -> None:
    """Raises `UserError` naming the parameters that are missing, unknown or of the wrong shape or type for `model`."""
    shapes = param_shapes(model)
    missing = [f"missing {path}" for path in sorted(shapes.keys() - flat.keys())]
    unknown = [f"unknown {path}" for path in sorted(flat.keys() - shapes.keys())]
    problems = []
    for path in sorted(flat.keys() & shapes.keys()):
        if flat[path].shape != shapes[path]:
            problems.append(f"{path} has shape {list(flat[path].shape)}, not {list(shapes[path])}")
        elif flat[path].dtype != np.float32:
            problems.append(f"{path} is {flat[path].dtype}, not float32")
    if missing or unknown or problems:
        raise UserError(f"{where}: the parameters do not fit the architecture: {list_problems(missing, unknown, problems)}")


def list_problems(*kinds: Sequence[str]) -> str:
    """The first problems of each kind and the number of the others, as one line of bounded length."""
    parts = []
    for problems in kinds:
        parts += [problem if problem.isprintable() else ascii(problem)[1:-1] for problem in problems[:MOST_LISTED]]
        if len(problems) > MOST_LISTED:
            parts.append(f"and {len(problems) - MOST_LISTED} more")
    return "; ".join(part[:LONGEST] for part in parts)


def front_end_changes(trained: AudioConfig, wanted: AudioConfig) -> dict[str, tuple[Any, Any]]:
    """Settings of the filterbank in which the two differ: name → (trained, wanted)."""
    old, new = vars(trained.filterbank), vars(wanted.filterbank)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def require_same_front_end(changed: dict[str, tuple[Any, Any]], checkpoint: str) -> None:
    """Raises `UserError` naming both values of every setting in `changed`."""
    if changed:
        differing = ", ".join(f"{name} {before!r} (the experiment: {after!r})" for name, (before, after) in changed.items())
        raise UserError(
            f"{checkpoint} was trained on another filterbank: {differing}; set config.audio.filterbank to the checkpoint's"
        )
