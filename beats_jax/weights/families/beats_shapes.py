"""The architecture of a BEATs encoder whose file has no `cfg`: what its tensors show, and what somebody else must state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beats_jax.config import BEATsConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.weights.families.beats import PUBLISHED_DEFAULTS
from beats_jax.weights.key_map import depth_of, shape_of

TABLE = "encoder.layers.0.self_attn.relative_attention_bias.weight"
HIDDEN = ("activation_fn", "layer_norm_first", "deep_norm", "max_distance")  # change the features and leave no trace in a shape


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


def config_of(state_dict: Mapping[str, Any], stated: Mapping[str, Any], classes: int, remedy: str) -> BEATsConfig:
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


def without_prefix(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose keys begin with `prefix`, under the rest of their keys."""
    return {str(key)[len(prefix) :]: value for key, value in state_dict.items() if str(key).startswith(prefix)}
