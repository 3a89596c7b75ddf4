"""Which parameters an architecture has, and whether given ones fit it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import ModelConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.weights.tree import flatten


def param_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path → shape of every parameter of a model, without allocating any."""
    return dict(_param_shapes(model))


@lru_cache(maxsize=32)
def _param_shapes(model: ModelConfig) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Traced once for each architecture: 0.2 s."""
    frames = registry.fixed_frames(model) or registry.min_frames(model)  # the parameters do not depend on their number
    fbank = jax.ShapeDtypeStruct((1, frames, registry.mel_bins(model)), jnp.float32)
    init = registry.build(model).init
    variables = jax.eval_shape(lambda fbank: init(jax.random.key(0), fbank), fbank)  # the key is traced too: no device is used
    return tuple((path, tuple(leaf.shape)) for path, leaf in flatten(variables["params"]).items())


def check_params(flat: Mapping[str, np.ndarray], model: ModelConfig, where: str) -> None:
    """Raises `UserError` naming every parameter that is missing, unknown or of the wrong shape or type for `model`."""
    shapes = param_shapes(model)
    problems = [f"missing {path}" for path in sorted(set(shapes) - set(flat))]
    problems += [f"unknown {path}" for path in sorted(set(flat) - set(shapes))]
    for path in sorted(set(flat) & set(shapes)):
        if flat[path].shape != shapes[path]:
            problems.append(f"{path} has shape {list(flat[path].shape)}, not {list(shapes[path])}")
        elif flat[path].dtype != np.float32:
            problems.append(f"{path} is {flat[path].dtype}, not float32")
    if problems:
        raise UserError(f"{where}: the parameters do not fit the architecture: {'; '.join(problems)}")
