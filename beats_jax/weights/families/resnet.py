"""ResNet-18 weights: torchvision's keys to our variables and back, strict in both directions (torchvision models/resnet.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.errors import UserError
from beats_jax.models.convnets import BLOCKS, ResNet18, ResNetConfig
from beats_jax.weights.architecture import Params
from beats_jax.weights.families.key_map import SAME, TRANSPOSED, Rule, shape_of
from beats_jax.weights.raw import read_raw

PARALLEL = "module."  # begins every key of a model that was trained on several GPUs
CONV = Rule(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # [out, in, h, w] to [h, w, in, out]
COUNT = Rule(lambda x: x.astype(np.int32), lambda x: x.astype(np.int64))


def key_table(config: ResNetConfig) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path below the collection, rule). Paths begin with the collection, `params` or `batch_stats`."""
    table: dict[str, tuple[str, Rule]] = {}

    def conv_and_norm(conv: str, norm: str, our_conv: str, our_norm: str) -> None:
        table[f"{conv}.weight"] = (f"params/{our_conv}/kernel", CONV)
        table[f"{norm}.weight"] = (f"params/{our_norm}/scale", SAME)
        table[f"{norm}.bias"] = (f"params/{our_norm}/bias", SAME)
        table[f"{norm}.running_mean"] = (f"batch_stats/{our_norm}/mean", SAME)
        table[f"{norm}.running_var"] = (f"batch_stats/{our_norm}/var", SAME)
        table[f"{norm}.num_batches_tracked"] = (f"batch_stats/{our_norm}/count", COUNT)

    conv_and_norm("conv1", "bn1", "conv1", "bn1")
    for stage, count in enumerate(BLOCKS, start=1):
        for i in range(count):
            theirs, ours = f"layer{stage}.{i}", f"layer{stage}_{i}"
            for n in (1, 2):
                conv_and_norm(f"{theirs}.conv{n}", f"{theirs}.bn{n}", f"{ours}/conv{n}", f"{ours}/bn{n}")
            if stage > 1 and i == 0:
                down = f"{theirs}.downsample"
                conv_and_norm(f"{down}.0", f"{down}.1", f"{ours}/downsample_conv", f"{ours}/downsample_bn")
    if config.num_classes:
        table["fc.weight"], table["fc.bias"] = ("params/fc/kernel", TRANSPOSED), ("params/fc/bias", SAME)
    return table


def read_resnet(path: str | Path) -> tuple[ResNetConfig, Params]:
    """A ResNet-18 from a file of torchvision's layout, `.pt` or `.safetensors`, with or without `module.` before its keys.

    Returns:
      configuration and variables {"params", "batch_stats"} of numpy arrays for `ResNet18(config)`.
    Raises:
      UserError: the file cannot be read, or its tensors are not those of a ResNet-18; all of them are named.
    """
    raw = read_raw(Path(path))
    try:
        return from_torch(_without_parallel({str(key): value for key, value in raw.state_dict.items()}))
    except UserError as error:
        raise UserError(f"{path} (ResNet-18 of torchvision): {error}") from error


def _without_parallel(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    if not all(key.startswith(PARALLEL) for key in state_dict):
        return state_dict
    return {key.removeprefix(PARALLEL): value for key, value in state_dict.items()}


def from_torch(state_dict: Mapping[str, Any]) -> tuple[ResNetConfig, Params]:
    """As `read_resnet`, of a state dict of numpy arrays.

    A file from before PyTorch 0.4.1 counts no batches at all; as PyTorch itself does, its counts are read as 0.
    """
    width = shape_of(state_dict, "conv1.weight", 4)[0]
    classes = shape_of(state_dict, "fc.weight", 2)[0] if "fc.weight" in state_dict else 0
    config = ResNetConfig(width=width, num_classes=classes)
    table, shapes = key_table(config), variable_shapes(config, shape_of(state_dict, "conv1.weight", 4)[1])
    counters = [key for key, (_, rule) in table.items() if rule is COUNT]
    if not any(key in state_dict for key in counters):
        state_dict = {**state_dict, **{key: np.zeros((), np.int64) for key in counters}}
    problems = [f"missing {key}" for key in table if key not in state_dict]
    problems += [f"unknown {key}" for key in state_dict if key not in table]
    flat: dict[str, np.ndarray] = {}
    for key, (path, rule) in table.items():
        if key not in state_dict:
            continue
        value, (shape, dtype) = state_dict[key], shapes[path]
        expected = rule.to_torch(np.broadcast_to(np.zeros((), dtype), shape))
        if not isinstance(value, np.ndarray) or value.shape != expected.shape or value.dtype != expected.dtype:
            found = f"{getattr(value, 'dtype', type(value).__name__)} {list(np.shape(value))}"
            problems.append(f"{key} is {found}, not {expected.dtype} {list(expected.shape)}")
        elif not np.isfinite(value).all():
            problems.append(f"{key} holds {np.count_nonzero(~np.isfinite(value))} values that are not finite")
        else:
            flat[path] = np.asarray(rule.to_ours(value), order="C")  # keeps []
    if problems:
        raise UserError(f"the weights do not fit their configuration: {'; '.join(problems)}")
    return config, unflatten_dict(flat, sep="/")


def to_torch(variables: Mapping[str, Any], config: ResNetConfig) -> dict[str, np.ndarray]:
    """The published state dict (contiguous) of variables {"params", "batch_stats"}.

    Raises:
      UserError: variables are missing.
    """
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    table = key_table(config)
    missing = sorted({path for path, _ in table.values()} - set(flat))
    if missing:
        raise UserError(f"export: missing {'; missing '.join(missing)}")
    return {key: np.asarray(rule.to_torch(flat[path]), order="C") for key, (path, rule) in table.items()}


def variable_shapes(config: ResNetConfig, channels: int = 3) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Path → (shape, dtype) of every variable, without allocating any."""
    images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    flat: dict[str, Any] = flatten_dict(jax.eval_shape(ResNet18(config).init, jax.random.key(0), images), sep="/")
    return {path: (tuple(leaf.shape), leaf.dtype) for path, leaf in flat.items()}
