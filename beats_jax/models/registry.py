"""The families of encoders: one function each. A new family is a config dataclass, a module file and its function here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool

from beats_jax.config import ModelConfig
from beats_jax.config.rules import require, require_one_of
from beats_jax.config.schema import ATTENTIONS
from beats_jax.models import TokenMask, ast, beats, cnn, eat, masking, statistics
from beats_jax.models.cpu import Form, platform
from beats_jax.models.pretraining import tokenizer

FrameMask = Bool[Array, "batch frames"]
PaddingMask = Bool[Array, "batch entries"]


@dataclass(frozen=True)
class Family:
    """What the other rooms need to know of the encoder that a configuration describes.

    Attributes:
      module: (config, dtype, form) → module with BEATs' call: fbank, token_mask, deterministic, layers → `EncoderOutput`.
      depth_of: parameter path ("encoder/layers_0/fc1/kernel") → 0 before the blocks, i + 1 in block i, L + 1 in the head.
      token_mask: (real frames, mel bins) → real tokens, by the rule under which a clip in a batch equals the clip alone.
      reference_token_mask: (padding mask of samples or frames, True = padding; frames; mel bins) → real tokens, as published.
      min_frames: fbank frames that give one token. fixed_frames: the one number of frames it reads; 0 = any from `min_frames` on.
      mel_bins: of its filterbanks (BEATs reads any number). num_features: D. num_layers: L.
      num_special: special tokens that lead the features; masks have them too, True.
      constants: regular expressions on paths of parameters that no optimizer may change.
      hides_padding: padded tokens are hidden from attention.
      batch_statistics: it normalises by the batch in training, and its call takes `batch_statistics` (`models.cnn`).
      resize: (numpy parameters, frames, mel bins, wanted config) → config and parameters of the same model for other filterbanks;
        None = it fits one kind of input.
    """

    config: ModelConfig
    module: Callable[[Any, Any, Form], Any]
    depth_of: Callable[[str], int]
    token_mask: Callable[[FrameMask, int], TokenMask]
    reference_token_mask: Callable[[PaddingMask, int, int], TokenMask]
    min_frames: int
    num_features: int
    num_layers: int
    fixed_frames: int = 0
    mel_bins: int = 128
    num_special: int = 0
    constants: tuple[str, ...] = ()
    hides_padding: bool = True
    batch_statistics: bool = False
    resize: Callable[[Any, int, int, Any], tuple[ModelConfig, Any]] | None = None

    def attention_mask(self, token_mask: TokenMask | None) -> TokenMask | None:
        """The mask that the module is given when `token_mask` is real: itself, or None for a model that attends to padding."""
        # AST and EAT learnt with padding in sight; for them the mask only says which tokens count when features are pooled.
        return token_mask if self.hides_padding else None


def family(config: ModelConfig) -> Family:
    """The family of `config.family`, bound to `config`."""
    return FAMILIES[config.family](config)


def build(config: ModelConfig, dtype: DTypeLike = jnp.float32, form: Form = Form.AUTO) -> Any:
    """The module of `config.family` computing in `dtype` (float32 | bfloat16, as a name or a type): a Linen module, or
    `statistics.WithStatistics` around one.
    """
    return family(config).module(config, jnp.dtype(dtype), form)


def form_for(config: ModelConfig, attention: str, dtype: DTypeLike, remat: str = "none") -> Form:
    """The form in which `attention` (`config.schema.ATTENTIONS`) is computed in `dtype` by the device of this process.

    Args:
      remat: `TrainingConfig.remat`.
    Raises:
      UserError: it cannot be, or the model has no attention.
    """
    require_one_of("attention", attention, ATTENTIONS)
    if attention == "auto":
        return Form.AUTO if remat == "none" else Form(remat)
    require(remat == "none", f"training.remat {remat!r} and attention {attention!r} do not go together; leave one at its default")
    require(not family(config).batch_statistics, f"attention is {attention!r}; a {config.family} has none: leave it at 'auto'")
    able, here = {"cudnn": ("gpu",), "kernel": ("gpu", "tpu")}.get(attention), platform()
    require(
        able is None or here in able,
        f"attention {attention!r} runs on a {' or '.join(map(str.upper, able or ()))}, and this is a {here.upper()}: take 'auto'",
    )
    require(
        attention != "cudnn" or jnp.dtype(dtype) == jnp.bfloat16,
        f"attention 'cudnn' computes in bfloat16; the precision (training.precision, dtype) is {jnp.dtype(dtype).name}",
    )
    return Form(attention)


def _beats(config: Any) -> Family:
    size = config.input_patch_size

    def token_mask(frame_mask: FrameMask, num_mel_bins: int) -> TokenMask:
        return masking.token_mask_from_frames(frame_mask, size, num_mel_bins)

    def reference_token_mask(padding_mask: PaddingMask, num_frames: int, num_mel_bins: int) -> TokenMask:
        return ~masking.reference_token_mask(padding_mask, num_frames, (num_frames // size) * (num_mel_bins // size))

    return Family(
        config,
        beats.BEATs,
        partial(beats.parameter_depth, config=config),
        token_mask,
        reference_token_mask,
        min_frames=size,
        num_features=config.encoder_embed_dim,
        num_layers=config.encoder_layers,
    )


def _beats_tokenizer(config: Any) -> Family:
    depth_of = partial(tokenizer.parameter_depth, config=config)
    return replace(_beats(config), module=tokenizer.Tokenizer, depth_of=depth_of, constants=tokenizer.CONSTANTS)


def _eat(config: Any) -> Family:
    return Family(
        config,
        eat.EAT,
        partial(eat.parameter_depth, config=config),
        partial(eat.token_mask, config),
        partial(eat.reference_mask, config),
        min_frames=config.patch_size,
        num_features=config.embed_dim,
        num_layers=config.depth,
        mel_bins=config.mel_bins,
        num_special=1,
        constants=eat.CONSTANTS,
        hides_padding=config.mask_padding,
    )


def _ast(config: Any) -> Family:
    return Family(
        config,
        ast.AST,
        partial(ast.parameter_depth, config=config),
        partial(ast.token_mask, config),
        partial(ast.reference_mask, config),
        min_frames=config.patch_size,
        num_features=config.hidden_size,
        num_layers=config.num_hidden_layers,
        fixed_frames=config.max_length,
        mel_bins=config.num_mel_bins,
        num_special=ast.SPECIAL,
        hides_padding=False,
        resize=partial(ast.resize, config),
    )


def _convolutional(config: Any) -> Family:
    return Family(
        config,
        cnn.build,
        partial(cnn.parameter_depth, config=config),
        partial(cnn.token_mask, config),
        partial(cnn.reference_mask, config),
        min_frames=cnn.patch_of(config),
        num_features=cnn.width_of(config),
        num_layers=cnn.blocks_of(config),
        mel_bins=128 * getattr(config, "colours", 1),
        constants=statistics.CONSTANTS,
        batch_statistics=True,
    )


FAMILIES: dict[str, Callable[[Any], Family]] = {
    "beats": _beats,
    "beats_tokenizer": _beats_tokenizer,
    "eat": _eat,
    "ast": _ast,
    "cnn": _convolutional,
    "resnet": _convolutional,
}
