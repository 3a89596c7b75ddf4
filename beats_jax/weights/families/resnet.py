"""ResNet-18 weights: torchvision's keys to our variables and back, strict in both directions (torchvision models/resnet.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from beats_jax.config import AudioConfig, ModelConfig, ResNetConfig, from_mapping, to_mapping
from beats_jax.errors import UserError
from beats_jax.models.convnets import BLOCKS, ResNet18
from beats_jax.models.statistics import join, split
from beats_jax.weights.architecture import Params
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.families.key_map import MISFIT, SAME, TRANSPOSED, Rule, convert_tensors, shape_of, without_prefix
from beats_jax.weights.raw import OURS, RawCheckpoint, Upstream, group, own_entry, read_raw

PARALLEL = "module."  # prefix of all keys of a model that was trained on several GPUs
CONV = Rule(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # [out, in, h, w] to [h, w, in, out]
COLOURS = 3
BESIDE = "config.json"  # beside tensors that we write
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
    if config.predictor_class:
        table["fc.weight"], table["fc.bias"] = ("params/predictor/kernel", TRANSPOSED), ("params/predictor/bias", SAME)
    return table


def is_resnet(raw: RawCheckpoint) -> bool:
    """A state dict of torchvision's ResNet-18."""
    return raw.has("conv1.weight", "bn1.running_mean", "layer4.1.bn2.weight")


def read_bundle(raw: RawCheckpoint) -> Bundle:
    """Reads a ResNet-18 as an encoder. Of pictures (no entry of ours) it is a start for training: the head is left out.

    Raises:
      UserError: the tensors are not those of a ResNet-18 of three colours, or its entry of ours is damaged.
    """
    own = own_entry(raw.content) or own_entry(group(raw.beside(BESIDE), BESIDE))
    tensors = {key: value for key, value in raw.state_dict.items() if own or not str(key).startswith("fc.")}
    config, variables = from_torch(tensors)
    if shape_of(tensors, "conv1.weight", 4)[1] != COLOURS:
        raise UserError(f"{MISFIT}: conv1.weight reads {shape_of(tensors, 'conv1.weight', 4)[1]} colours, not {COLOURS}")
    params = jax.tree.map(np.asarray, join(variables))
    if not own:
        config, note = replace(config, trained_on="images"), " (ResNet-18 of images, to train from)"
        return Bundle(params, config, AudioConfig(), (), False, f"{raw.path.name}{note}")
    model = from_mapping(ModelConfig, own["model"], f"{OURS}.model")
    assert isinstance(model, ResNetConfig)
    config = replace(model, width=config.width, predictor_class=config.predictor_class)
    audio = from_mapping(AudioConfig, own["audio"], f"{OURS}.audio")
    return Bundle(params, config, audio, tuple(own["labels"]), own["multi_label"], raw.path.name)


def write_resnet(bundle: Bundle) -> Upstream:
    """The model under torchvision's keys, with an entry of ours (or a file beside the tensors) for what these lack."""
    config = cast(ResNetConfig, bundle.model)
    tensors = to_torch(split(jax.tree.map(np.asarray, bundle.params)), config)
    own = {
        "model": to_mapping(config), "audio": to_mapping(bundle.audio), "labels": list(bundle.labels),
        "multi_label": bundle.multi_label,
    }  # fmt: skip
    return Upstream({"state_dict": tensors, OURS: own}, tensors, {BESIDE: {OURS: own}})


def read_resnet(path: str | Path) -> tuple[ResNetConfig, Params]:
    """Reads a ResNet-18 of torchvision's layout, `.pt` or `.safetensors`, with or without `module.` before all keys.

    For images; `beats_jax.load` gives the same weights as an encoder of sound.

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
    config = ResNetConfig(width=width, predictor_class=classes)
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
