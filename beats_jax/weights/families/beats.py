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
from beats_jax.weights.families.key_map import PATCH, SAME, Rule, depth_of, linear, norm, shape_of, to_params, to_state_dict

# Defaults of the published `BEATsConfig` class, for settings that a file's cfg leaves out; released models differ from them.
PUBLISHED_DEFAULTS: dict[str, Any] = {
    "input_patch_size": -1, "embed_dim": 512, "conv_bias": False, "encoder_layers": 12, "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "activation_fn": "gelu", "layer_norm_first": False,
    "deep_norm": False, "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0, "dropout_input": 0.0,
    "encoder_layerdrop": 0.0, "conv_pos": 128, "conv_pos_groups": 16, "relative_position_embedding": False, "gru_rel_pos": False,
    "num_buckets": 320, "max_distance": 1280, "layer_wise_gradient_decay_ratio": 1.0, "predictor_dropout": 0.1,
    "predictor_class": 527,
}  # fmt: skip

TABLE = "encoder.layers.0.self_attn.relative_attention_bias.weight"
HIDDEN = ("activation_fn", "layer_norm_first", "deep_norm", "max_distance")  # change the features but no shape
FROZEN_ONES = ("patch_embedding_pad.weight", "raw2fbank_pad.weight")  # OpenBEATs reduces masks with them; no model uses them

TAPS = Rule(lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))  # [out, in, K] to [K, in, out]
TAP_GAIN = Rule(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))
HEAD_GAIN = Rule(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))


def key_table(config: BEATsConfig) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path joined by "/", rule), for every tensor of a model with this configuration."""
    table: dict[str, tuple[str, Rule]] = {"patch_embedding.weight": ("patch_embedding/kernel", PATCH)}
    if config.conv_bias:
        table["patch_embedding.bias"] = ("patch_embedding/bias", SAME)
    norm(table, "layer_norm", "layer_norm")
    if config.embed_dim != config.encoder_embed_dim:
        linear(table, "post_extract_proj", "post_extract_proj")
    for name, rule in (("weight_g", TAP_GAIN), ("weight_v", TAPS), ("bias", SAME)):
        table[f"encoder.pos_conv.0.{name}"] = (f"encoder/pos_conv/{name}", rule)
    for i in range(config.encoder_layers):
        theirs, ours = f"encoder.layers.{i}", f"encoder/layers_{i}"
        if config.relative_position_embedding:
            table[f"{theirs}.self_attn.relative_attention_bias.weight"] = ("encoder/relative_attention_bias/embedding", SAME)
            if config.gru_rel_pos:
                linear(table, f"{theirs}.self_attn.grep_linear", f"{ours}/self_attn/grep_linear")
                table[f"{theirs}.self_attn.grep_a"] = (f"{ours}/self_attn/grep_a", HEAD_GAIN)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(table, f"{theirs}.self_attn.{name}", f"{ours}/self_attn/{name}")
        norm(table, f"{theirs}.self_attn_layer_norm", f"{ours}/self_attn_layer_norm")
        linear(table, f"{theirs}.fc1.linear" if config.activation_fn == "glu" else f"{theirs}.fc1", f"{ours}/fc1")
        linear(table, f"{theirs}.fc2", f"{ours}/fc2")
        norm(table, f"{theirs}.final_layer_norm", f"{ours}/final_layer_norm")
    norm(table, "encoder.layer_norm", "encoder/layer_norm")
    if config.predictor_class > 0:
        linear(table, "predictor", "predictor")
    return table


def config_from_cfg(cfg: Mapping[str, Any], state_dict: Mapping[str, Any]) -> BEATsConfig:
    """Configuration of a published `cfg`, completed as by `settings_of`; without `finetuned_model` it has no head."""
    settings = settings_of(cfg, state_dict, PUBLISHED_DEFAULTS)
    if not cfg.get("finetuned_model", False):
        settings["predictor_class"] = 0
    return from_mapping(BEATsConfig, settings, "cfg")


def settings_of(cfg: Mapping[str, Any], state_dict: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in `cfg` that `defaults` names, else the defaults; a missing patch size is that of the patch weight."""
    settings = {name: cfg.get(name, default) for name, default in defaults.items()}
    if settings["input_patch_size"] == -1 and "patch_embedding.weight" in state_dict:
        settings["input_patch_size"] = shape_of(state_dict, "patch_embedding.weight", 4)[3]
    return settings


def visible_settings(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `BEATsConfig` that the tensors (under released names) show. Raises `UserError` as `shape_of`."""
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
    """The configuration of a file without a `cfg`: sizes from its tensors, the rest from `stated`.

    Args:
      state_dict: tensors under the released names.
      stated: settings of files or the registry by the names of a published `cfg`; other names are ignored.
      classes: classes of the head.
      remedy: how to state missing settings, for the error.
    Raises:
      UserError: a setting that no tensor shows is not stated, or one that a tensor shows is stated otherwise.
    """
    visible = visible_settings(state_dict)
    given = {name: stated[name] for name in PUBLISHED_DEFAULTS if name in stated}
    given["predictor_class"] = classes
    if given.get("input_patch_size") == -1:  # the published class default, which builds no model
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
    """Configuration and nested float32 numpy parameters for `BEATs(config)`, from published tensors and `cfg`.

    Weight normalisation may be `weight_g`/`weight_v` or parametrizations. Raises `UserError` as `to_params`.
    """
    config = config_from_cfg(cfg, state_dict)
    return config, to_params(publish_keys(state_dict, config), key_table(config), config)


def publish_keys(state_dict: Mapping[str, Any], config: BEATsConfig) -> dict[str, Any]:
    """The state dict under the keys of the released files (`release_names`), without unused gates."""
    named = release_names(state_dict)
    if config.relative_position_embedding:
        return named
    return {key: value for key, value in named.items() if ".self_attn.grep_" not in key}


def release_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict with the old names of weight normalisation, without the frozen kernels of OpenBEATs (which must be ones)."""
    wrong = [key for key in FROZEN_ONES if key in state_dict and not np.all(np.asarray(state_dict[key]) == 1)]
    if wrong:
        raise UserError(f"{', '.join(wrong)} must be all ones, with which OpenBEATs reduces masks; the file is of another model")
    twice = sorted({_old_name(str(key)) for key in state_dict if _old_name(str(key)) != key} & set(state_dict))
    if twice:
        raise UserError(f"the weights hold {', '.join(twice)} twice, under its old and its new name")
    return {_old_name(str(key)): value for key, value in state_dict.items() if key not in FROZEN_ONES}


def _old_name(key: str) -> str:
    for new, old in (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v")):
        key = key.replace(f"encoder.pos_conv.0.{new}", f"encoder.pos_conv.0.{old}")
    return key


def to_torch(params: Mapping[str, Any], config: BEATsConfig) -> dict[str, np.ndarray]:
    """The published state dict of parameters (see `to_state_dict`); each layer gets the shared position table."""
    return to_state_dict(params, key_table(config), config)
