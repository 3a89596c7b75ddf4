"""BEATs weights: published PyTorch keys to our parameter tree and back, strict in both directions.

Layout of the published files: specs of unilm/beats (`{'cfg', 'model'[, 'label_dict']}`); torch Linear is [out, in], ours
[in, out].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from beats_jax.config import BEATsConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.weights.architecture import Params
from beats_jax.weights.families.key_map import PATCH, SAME, TRANSPOSED, Rule, depth_of, shape_of, to_params, to_state_dict

# Values that the published `BEATsConfig` class gives to what a file's cfg leaves out; they are not the released models' values.
PUBLISHED_DEFAULTS: dict[str, Any] = {
    "input_patch_size": -1, "embed_dim": 512, "conv_bias": False, "encoder_layers": 12, "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "activation_fn": "gelu", "layer_norm_first": False,
    "deep_norm": False, "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0, "dropout_input": 0.0,
    "encoder_layerdrop": 0.0, "conv_pos": 128, "conv_pos_groups": 16, "relative_position_embedding": False, "gru_rel_pos": False,
    "num_buckets": 320, "max_distance": 1280, "layer_wise_gradient_decay_ratio": 1.0, "predictor_dropout": 0.1,
    "predictor_class": 527,
}  # fmt: skip

TABLE = "encoder.layers.0.self_attn.relative_attention_bias.weight"
HIDDEN = ("activation_fn", "layer_norm_first", "deep_norm", "max_distance")  # change the features and leave no trace in a shape
FROZEN_ONES = ("patch_embedding_pad.weight", "raw2fbank_pad.weight")  # by which OpenBEATs reduces masks; no model uses them

TAPS = Rule(lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))  # [out, in, K] to [K, in, out]
TAP_GAIN = Rule(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))
HEAD_GAIN = Rule(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))


def key_table(config: BEATsConfig) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path joined by "/", rule), for every tensor of a model with this configuration."""
    table: dict[str, tuple[str, Rule]] = {"patch_embedding.weight": ("patch_embedding/kernel", PATCH)}
    if config.conv_bias:
        table["patch_embedding.bias"] = ("patch_embedding/bias", SAME)
    norms = ["layer_norm", "encoder.layer_norm"]
    linears = ["post_extract_proj"] if config.embed_dim != config.encoder_embed_dim else []
    if config.predictor_class > 0:
        linears.append("predictor")
    conv = "encoder.pos_conv.0."
    table[conv + "weight_g"] = ("encoder/pos_conv/weight_g", TAP_GAIN)
    table[conv + "weight_v"] = ("encoder/pos_conv/weight_v", TAPS)
    table[conv + "bias"] = ("encoder/pos_conv/bias", SAME)
    gated = config.gru_rel_pos and config.relative_position_embedding
    for i in range(config.encoder_layers):
        layer = f"encoder.layers.{i}."
        norms += [layer + "self_attn_layer_norm", layer + "final_layer_norm"]
        linears += [layer + "self_attn." + name for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
        linears += [layer + ("fc1.linear" if config.activation_fn == "glu" else "fc1"), layer + "fc2"]
        if gated:
            linears.append(layer + "self_attn.grep_linear")
            table[layer + "self_attn.grep_a"] = (_path(layer) + "self_attn/grep_a", HEAD_GAIN)
        if config.relative_position_embedding:
            table[layer + "self_attn.relative_attention_bias.weight"] = ("encoder/relative_attention_bias/embedding", SAME)
    for name in norms:
        table[name + ".weight"] = (_path(name) + "/scale", SAME)
        table[name + ".bias"] = (_path(name) + "/bias", SAME)
    for name in linears:
        path = _path(name).replace("fc1/linear", "fc1")
        table[name + ".weight"] = (path + "/kernel", TRANSPOSED)
        table[name + ".bias"] = (path + "/bias", SAME)
    return table


def _path(name: str) -> str:
    return name.replace("encoder.layers.", "encoder/layers_").replace(".", "/")


def config_from_cfg(cfg: Mapping[str, Any], state_dict: Mapping[str, Any]) -> tuple[BEATsConfig, tuple[str, ...]]:
    """Configuration of a published `cfg`, and the names in it that are not settings of the encoder and are ignored.

    What `cfg` leaves out takes the published class default. A patch size that it leaves out is read off the patch weight. The
    head counts only where `finetuned_model` says so.
    """
    settings = settings_of(cfg, state_dict, PUBLISHED_DEFAULTS)
    if not cfg.get("finetuned_model", False):
        settings["predictor_class"] = 0
    config = from_mapping(BEATsConfig, settings, "cfg")
    return config, tuple(sorted(str(name) for name in set(cfg) - set(PUBLISHED_DEFAULTS) - {"finetuned_model"}))


def settings_of(cfg: Mapping[str, Any], state_dict: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`cfg` completed by the published class defaults, without what they do not name; the patch size by the patch weight."""
    settings = {name: cfg.get(name, default) for name, default in defaults.items()}
    if settings["input_patch_size"] == -1 and "patch_embedding.weight" in state_dict:
        settings["input_patch_size"] = shape_of(state_dict, "patch_embedding.weight", 4)[3]
    return settings


def visible_settings(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `BEATsConfig` that the tensors show; weight normalisation by its old names.

    Raises:
      UserError: a tensor that gives a size is missing or of the wrong rank, or sizes exclude each other.
    """
    embed_dim, _, _, patch = shape_of(state_dict, "patch_embedding.weight", 4)
    (width,) = shape_of(state_dict, "encoder.layer_norm.weight", 1)
    _, in_group, taps = shape_of(state_dict, "encoder.pos_conv.0.weight_v", 3)
    found: dict[str, Any] = {
        "input_patch_size": patch,
        "embed_dim": embed_dim,
        "conv_bias": "patch_embedding.bias" in state_dict,
        "encoder_layers": depth_of(state_dict, "encoder.layers."),
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": shape_of(state_dict, "encoder.layers.0.fc2.weight", 2)[1],
        "conv_pos": taps,
        "conv_pos_groups": width // in_group,
        "relative_position_embedding": TABLE in state_dict,
    }
    if TABLE in state_dict:
        found["num_buckets"], found["encoder_attention_heads"] = shape_of(state_dict, TABLE, 2)
        found["gru_rel_pos"] = "encoder.layers.0.self_attn.grep_a" in state_dict
    if "encoder.layers.0.fc1.linear.weight" in state_dict:
        found["activation_fn"] = "glu"
    return found


def config_from_tensors(state_dict: Mapping[str, Any], stated: Mapping[str, Any], classes: int, remedy: str) -> BEATsConfig:
    """The configuration of an encoder: sizes from its tensors, the rest as stated.

    Args:
      state_dict: tensors under the released names (`beats.publish_keys`).
      stated: what files or the registry say, by the names of a published `cfg`; other names are left alone.
      classes: classes of the head.
      remedy: how to state what is missing, for the error.
    Raises:
      UserError: a setting that no tensor shows is not stated, or one that a tensor shows is stated otherwise.
    """
    visible = visible_settings(state_dict)
    given = {name: stated[name] for name in PUBLISHED_DEFAULTS if name in stated}
    given["predictor_class"] = classes
    if given.get("input_patch_size") == -1:  # the published class default, by which nothing can be built
        del given["input_patch_size"]
    wrong = [f"{name} is stated as {given[name]!r}, the tensors have {size!r}"
             for name, size in visible.items() if given.get(name, size) != size]  # fmt: skip
    if wrong:
        raise UserError(f"the weights do not fit their configuration: {'; '.join(wrong)}")
    settings = {**given, **visible}
    needed = (*HIDDEN, "encoder_attention_heads")
    missing = [name for name in needed if name not in settings and (name != "max_distance" or TABLE in state_dict)]
    if missing:
        raise UserError(f"{', '.join(missing)} cannot be seen in the tensors and is stated nowhere; {remedy}")
    return from_mapping(BEATsConfig, settings, "cfg")


def to_cfg(config: BEATsConfig) -> dict[str, Any]:
    """The published `cfg` of a configuration."""
    names = {field.name for field in fields(config)} & set(PUBLISHED_DEFAULTS)
    cfg = {name: getattr(config, name) for name in sorted(names)}
    return {**cfg, "finetuned_model": config.predictor_class > 0}


def from_torch(state_dict: Mapping[str, Any], cfg: Mapping[str, Any]) -> tuple[BEATsConfig, Params]:
    """Parameters of a published state dict.

    Args:
      state_dict: numpy arrays under the published keys; weight normalisation as `weight_g`/`weight_v` or as parametrizations.
      cfg: the published `cfg`.
    Returns:
      configuration and nested float32 numpy parameters for `BEATs(config)`.
    Raises:
      UserError: keys missing, unknown, of the wrong shape or type, layers that disagree about the shared position table (all
        named).
    """
    config, _ = config_from_cfg(cfg, state_dict)
    return config, to_params(publish_keys(state_dict, config), key_table(config), config)


def publish_keys(state_dict: Mapping[str, Any], config: BEATsConfig) -> dict[str, Any]:
    """The state dict under the keys of the released files: see `release_names`; without gates that nothing uses."""
    named = release_names(state_dict)
    if config.relative_position_embedding:
        return named
    return {key: value for key, value in named.items() if ".self_attn.grep_" not in key}


def release_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict with weight normalisation by its old names, without the frozen kernels of OpenBEATs.

    Raises:
      UserError: these are not all ones, or a tensor is there under its old and its new name.
    """
    wrong = [key for key in FROZEN_ONES if key in state_dict and not np.all(np.asarray(state_dict[key]) == 1)]
    if wrong:
        raise UserError(f"{', '.join(wrong)} must be all ones, by which OpenBEATs reduces masks; the file is of another model")
    twice = sorted({_old_name(str(key)) for key in state_dict if _old_name(str(key)) != key} & set(state_dict))
    if twice:
        raise UserError(f"the weights hold {', '.join(twice)} twice, under its old and its new name")
    return {_old_name(str(key)): value for key, value in state_dict.items() if key not in FROZEN_ONES}


def _old_name(key: str) -> str:
    for new, old in (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v")):
        key = key.replace(f"encoder.pos_conv.0.{new}", f"encoder.pos_conv.0.{old}")
    return key


def to_torch(params: Mapping[str, Any], config: BEATsConfig) -> dict[str, np.ndarray]:
    """The published state dict (float32, contiguous) of parameters; the shared position table is repeated for each layer.

    Raises:
      UserError: parameters that do not fit the configuration.
    """
    return to_state_dict(params, key_table(config), config)
