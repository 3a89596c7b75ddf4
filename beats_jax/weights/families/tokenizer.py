"""Weights of the self-distilled tokenizer: published keys to our parameters and back (unilm/beats/Tokenizers.py, quantizer.py).

All 259 keys become parameters, also the unused state of the quantiser, so that writing is the inverse of reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from beats_jax.config import TokenizerConfig, from_mapping
from beats_jax.weights.architecture import Params
from beats_jax.weights.families import beats
from beats_jax.weights.families.key_map import SAME, Rule, linear, to_params

# Defaults of the published `TokenizersConfig` class, for settings that a file's cfg leaves out.
NOT_THERE = ("predictor_class", "predictor_dropout", "layer_wise_gradient_decay_ratio")  # settings that only `BEATsConfig` has
PUBLISHED_DEFAULTS: dict[str, Any] = {
    **{name: value for name, value in beats.PUBLISHED_DEFAULTS.items() if name not in NOT_THERE},
    "quant_n": 1024,
    "quant_dim": 256,
}

QUANTIZER = {  # published key → ours
    "quantize.embedding.weight": "embedding",
    "quantize.embedding.cluster_size": "cluster_size",
    "quantize.embedding.embed_avg": "embed_avg",
    "quantize.embedding.initted": "initted",
    "quantize.cluster_size": "usage",
}


def key_table(config: TokenizerConfig) -> dict[str, tuple[str, Rule]]:
    """Published key → (our path joined by "/", rule), for every tensor of a tokenizer with this configuration."""
    table = beats.key_table(config)
    for i in (0, 2):
        linear(table, f"quantize_layer.{i}", f"quantize_layer_{i}")
    return table | {key: (f"quantizer/{name}", SAME) for key, name in QUANTIZER.items()}


def config_from_cfg(cfg: Mapping[str, Any], state_dict: Mapping[str, Any]) -> TokenizerConfig:
    """Configuration of a published `cfg`, completed as by `beats.settings_of`."""
    return from_mapping(TokenizerConfig, beats.settings_of(cfg, state_dict, PUBLISHED_DEFAULTS), "cfg")


def to_cfg(config: TokenizerConfig) -> dict[str, Any]:
    """The published `cfg` of a configuration."""
    names = {field.name for field in fields(config)} & set(PUBLISHED_DEFAULTS)
    return {name: getattr(config, name) for name in sorted(names)}


def from_torch(state_dict: Mapping[str, Any], cfg: Mapping[str, Any]) -> tuple[TokenizerConfig, Params]:
    """Configuration and parameters for `Tokenizer(config)`; arguments and errors as `beats.from_torch`."""
    config = config_from_cfg(cfg, state_dict)
    return config, to_params(beats.publish_keys(state_dict, config), key_table(config), config)
