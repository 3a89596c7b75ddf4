"""ResNet-18 weights: torchvision's keys to our variables and back, strict in both directions (torchvision models/resnet.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from beats_jax.errors import UserError
from beats_jax.models.convnets import BLOCKS, ResNet18, ResNetConfig
from beats_jax.weights.architecture import Params
from beats_jax.weights.families.key_map import SAME, TRANSPOSED, Rule, convert_tensors, shape_of, without_prefix
from beats_jax.weights.raw import read_raw

PARALLEL = "module."  # prefix of all keys of a model that was trained on several GPUs
CONV = Rule(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # [out, in, h, w] to [h, w, in, out]
COUNT = Rule(lambda x: x, lambda x: x.astype(np.int64), np.int32)


def key_table(config: ResNetConfig) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path, rule). Paths begin with the collection, `params` or `batch_stats`."""
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
    """Reads a ResNet-18 of torchvision's layout, `.pt` or `.safetensors`, with or without `module.` before all keys.

    It has a reader of its own, not `beats_jax.load`, because it reads images, not sound.

    Returns:
      configuration and variables {"params", "batch_stats"} of numpy arrays for `ResNet18(config)`.
    Raises:
      UserError: the file cannot be read, or its tensors are not those of a ResNet-18.
    """
    state_dict = {str(key): value for key, value in read_raw(Path(path)).state_dict.items()}
    if all(key.startswith(PARALLEL) for key in state_dict):
        state_dict = without_prefix(state_dict, PARALLEL)
    try:
        return from_torch(state_dict)
    except UserError as error:
        raise UserError(f"{path} (ResNet-18 of torchvision): {error}") from error


def from_torch(state_dict: Mapping[str, Any]) -> tuple[ResNetConfig, Params]:
    """As `read_resnet`, of a state dict of numpy arrays.

    As in PyTorch, counts of batches are 0 for a file that has none (from before PyTorch 0.4.1).
    """
    width = shape_of(state_dict, "conv1.weight", 4)[0]
    classes = shape_of(state_dict, "fc.weight", 2)[0] if "fc.weight" in state_dict else 0
    config = ResNetConfig(width=width, num_classes=classes)
    table = key_table(config)
    counters = [key for key, (_, rule) in table.items() if rule is COUNT]
    if not any(key in state_dict for key in counters):
        state_dict = {**state_dict, **{key: np.zeros((), np.int64) for key in counters}}
    channels = shape_of(state_dict, "conv1.weight", 4)[1]
    return config, convert_tensors(
        state_dict, table, {path: shape for path, (shape, _) in variable_shapes(config, channels).items()}
    )


def to_torch(variables: Mapping[str, Any], config: ResNetConfig) -> dict[str, np.ndarray]:
    """The published state dict (contiguous) of variables {"params", "batch_stats"}. Raises `UserError` if some are missing."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}
    table = key_table(config)
    missing = sorted({path for path, _ in table.values()} - set(flat))
    if missing:
        raise UserError(f"export: missing {'; missing '.join(missing)}")
    return {key: np.asarray(rule.to_torch(flat[path]), order="C") for key, (path, rule) in table.items()}


def variable_shapes(config: ResNetConfig, channels: int = 3) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Path → (shape, dtype) of every variable; allocates none."""
    images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    flat: dict[str, Any] = flatten_dict(jax.eval_shape(ResNet18(config).init, jax.random.key(0), images), sep="/")
    return {path: (tuple(leaf.shape), leaf.dtype) for path, leaf in flat.items()}
