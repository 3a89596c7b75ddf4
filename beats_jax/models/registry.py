"""The families of encoders: one entry each. A new family is a config dataclass, a module file and its entry here."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config import ModelConfig
from beats_jax.models import ast, ast_positions, beats, eat, masks
from beats_jax.models.forms import AUTO, Forms
from beats_jax.models.pretraining import tokenizer


class Family(NamedTuple):
    """What the rest of the house needs to know about a family."""

    module: Callable[
        ..., nn.Module
    ]  # (config, dtype, forms) → module with BEATs' call: fbank, token_mask, deterministic, layers → EncoderOutput
    depth: Callable[[str, Any], int]  # (parameter path, config) → depth
    token_mask: Callable[[Any, jax.Array, int], jax.Array]  # (config, frame_mask, mel bins) → bool [B, T], True = real
    reference_mask: Callable[[Any, jax.Array, int, int], jax.Array]  # (config, padding_mask, F, mel bins) → bool [B, T]
    min_frames: Callable[[Any], int]  # (config) → fbank frames that give one token
    num_features: Callable[[Any], int]  # (config) → D
    num_layers: Callable[[Any], int]  # (config) → L
    fixed_frames: Callable[[Any], int] = lambda config: 0  # (config) → the one number of frames it reads; 0 = any
    num_special: int = 0  # special tokens that lead the features; masks have them too, True
    constants: tuple[str, ...] = ()  # regular expressions on paths of parameters that are never learnt
    hides_padding: Callable[[Any], bool] = lambda config: True  # (config) → padded tokens are hidden from attention
    mel_bins: Callable[[Any], int] = lambda config: 128  # (config) → mel bins it reads (BEATs reads any number)
    # (config, params, frames, mel bins, wanted config) → the same model for other inputs; None = it fits one kind of input
    resize: Callable[[Any, Any, int, int, Any], tuple[Any, Any]] | None = None


def _patch_mask(config: Any, frame_mask: jax.Array, num_mel_bins: int) -> jax.Array:
    return masks.token_mask_from_frames(frame_mask, config.input_patch_size, num_mel_bins)


def _reference_patch_mask(config: Any, padding_mask: jax.Array, num_frames: int, num_mel_bins: int) -> jax.Array:
    num_tokens = (num_frames // config.input_patch_size) * (num_mel_bins // config.input_patch_size)
    return ~masks.reference_token_mask(padding_mask, num_frames, num_tokens)


FAMILIES: dict[str, Family] = {
    "beats": Family(
        module=beats.BEATs,
        depth=beats.parameter_depth,
        token_mask=_patch_mask,
        reference_mask=_reference_patch_mask,
        min_frames=attrgetter("input_patch_size"),
        num_features=attrgetter("encoder_embed_dim"),
        num_layers=attrgetter("encoder_layers"),
    ),
    "beats_tokenizer": Family(
        module=tokenizer.Tokenizer,
        depth=tokenizer.parameter_depth,
        token_mask=_patch_mask,
        reference_mask=_reference_patch_mask,
        min_frames=attrgetter("input_patch_size"),
        num_features=attrgetter("encoder_embed_dim"),
        num_layers=attrgetter("encoder_layers"),
        constants=tokenizer.CONSTANTS,
    ),
    "eat": Family(
        module=eat.EAT,
        depth=eat.parameter_depth,
        token_mask=eat.token_mask,
        reference_mask=eat.reference_mask,
        min_frames=attrgetter("patch_size"),
        num_features=attrgetter("embed_dim"),
        num_layers=attrgetter("depth"),
        num_special=1,
        constants=eat.CONSTANTS,
        hides_padding=lambda config: config.mask_padding,
        mel_bins=attrgetter("mel_bins"),
    ),
    "ast": Family(
        module=ast.AST,
        depth=ast.parameter_depth,
        token_mask=ast.token_mask,
        reference_mask=ast.reference_mask,
        min_frames=attrgetter("patch_size"),
        num_features=attrgetter("hidden_size"),
        num_layers=attrgetter("num_hidden_layers"),
        fixed_frames=attrgetter("max_length"),
        num_special=ast.SPECIAL,
        hides_padding=lambda config: False,
        mel_bins=attrgetter("num_mel_bins"),
        resize=ast_positions.resize,
    ),
}


def build(config: ModelConfig, dtype: Any = jnp.float32, forms: Forms = AUTO) -> nn.Module:
    """The module of `config.family` computing in `dtype` (float32 | bfloat16, as a name or a type)."""
    return FAMILIES[config.family].module(config, jnp.dtype(dtype), forms)


def depth_of(config: ModelConfig) -> Callable[[str], int]:
    """A function from parameter path ("encoder/layers_0/fc1/kernel") to depth: 0 before the blocks, i + 1 block i, L + 1 head."""
    depth = FAMILIES[config.family].depth
    return lambda path: depth(path, config)


def token_mask(config: ModelConfig, frame_mask: jax.Array, num_mel_bins: int = 128) -> jax.Array:
    """Real frames, bool [B, F], to real tokens, bool [B, T], by the rule under which a clip in a batch equals the clip alone."""
    return FAMILIES[config.family].token_mask(config, frame_mask, num_mel_bins)


def reference_token_mask(config: ModelConfig, padding_mask: jax.Array, num_frames: int, num_mel_bins: int = 128) -> jax.Array:
    """The published reduction of a padding mask, bool [B, samples] or [B, F] (True = padding), to real tokens, bool [B, T]."""
    return FAMILIES[config.family].reference_mask(config, padding_mask, num_frames, num_mel_bins)


def attention_mask(config: ModelConfig, token_mask: jax.Array | None) -> jax.Array | None:
    """The mask that the module is given when `token_mask` [B, T] is real: itself, or None for a model that attends to padding.

    AST and EAT learnt with padding in sight; for them the mask only says which tokens count when features are pooled.
    """
    return token_mask if FAMILIES[config.family].hides_padding(config) else None


def constants(config: ModelConfig) -> tuple[str, ...]:
    """Regular expressions on the paths of parameters that no optimizer may change."""
    return FAMILIES[config.family].constants


def fixed_frames(config: ModelConfig) -> int:
    """The one number of frames that the model reads; 0 = any number from `min_frames` on."""
    return FAMILIES[config.family].fixed_frames(config)


def mel_bins(config: ModelConfig) -> int:
    """Mel bins of the filterbanks that it reads."""
    return FAMILIES[config.family].mel_bins(config)


def resizes(config: ModelConfig) -> bool:
    """Whether `resize_params` can bring the model to other inputs."""
    return FAMILIES[config.family].resize is not None


def resize_params(
    config: ModelConfig, params: Any, frames: int, num_mel_bins: int, wanted: ModelConfig
) -> tuple[ModelConfig, Any]:
    """Configuration and nested numpy parameters for filterbanks of another length or height; `resizes` must hold.

    Args:
      wanted: what else the experiment asks for (AST: strides other than the default ones).
    """
    resize = FAMILIES[config.family].resize
    assert resize is not None
    return resize(config, params, frames, num_mel_bins, wanted)


def min_frames(config: ModelConfig) -> int:
    """Frames below which there is no token."""
    return FAMILIES[config.family].min_frames(config)


def num_features(config: ModelConfig) -> int:
    """Width D of the features."""
    return FAMILIES[config.family].num_features(config)


def num_layers(config: ModelConfig) -> int:
    """Number L of blocks."""
    return FAMILIES[config.family].num_layers(config)


def num_special(config: ModelConfig) -> int:
    """Special tokens that lead the features."""
    return FAMILIES[config.family].num_special
