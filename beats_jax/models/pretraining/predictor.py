"""Stacks behind an encoder, [B, T, W] → [B, T, outputs], in pre-training only: they predict codes or a teacher's features.

A stack is a few deep-norm blocks of BEATs with its own table of relative positions; residual factor and initialisation follow
the depth of this stack, not the encoder's (ESPnet's `espnet2/beats`; arXiv 2212.09058 §3.1 states no more than "a Transformer").
"""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from beats_jax.config import BEATsConfig
from beats_jax.models import TokenMask, Tokens
from beats_jax.models.beats import RelativeTable, TransformerLayer, attention_bias
from beats_jax.models.cpu import Form, block_class
from beats_jax.models.layers import LayerNorm, Linear
from beats_jax.models.masking import Places


def stack_config(encoder: BEATsConfig, layers: int, width: int = 0, heads: int = 0) -> BEATsConfig:
    """Settings of a stack behind `encoder`: its dropouts, buckets and shape of the feed-forward part.

    Args:
      width, heads: 0 = the encoder's.
    Raises:
      UserError: a width that is not a multiple of the heads.
    """
    width = width or encoder.encoder_embed_dim
    return replace(
        encoder,
        encoder_layers=layers,
        encoder_embed_dim=width,
        encoder_attention_heads=heads or encoder.encoder_attention_heads,
        encoder_ffn_embed_dim=width * encoder.encoder_ffn_embed_dim // encoder.encoder_embed_dim,
        conv_pos_groups=1,
        deep_norm=True,
        layer_norm_first=False,
        relative_position_embedding=True,
        gru_rel_pos=True,
        num_buckets=max(encoder.num_buckets, 4),
    )


class DeepNormStack(nn.Module):
    """Blocks with relative positions, and a LayerNorm: [B, T, W] → [B, T, W]."""

    config: BEATsConfig
    dtype: DTypeLike
    form: Form

    def setup(self) -> None:
        self.relative_attention_bias = RelativeTable(self.config)
        layer = block_class(TransformerLayer, self.form, deterministic=4)
        self.layers = [layer(self.config, self.dtype, self.form) for _ in range(self.config.encoder_layers)]
        self.layer_norm = LayerNorm(self.dtype)

    def __call__(self, x: Tokens, token_mask: TokenMask | None, deterministic: bool) -> Tokens:
        bias = attention_bias(self.relative_attention_bias(), x.shape[1], self.config.max_distance, self.form)
        for layer in self.layers:
            x = layer(x, bias, token_mask, deterministic)
        return self.layer_norm(x)


class Predictor(nn.Module):
    """From the features of visible tokens to logits over codes for all tokens of the clip.

    Masked tokens enter as one learnt vector (ESPnet, N(0, 0.02)), or as zeros (the paper).
    """

    config: BEATsConfig
    codes: int
    learnt_mask: bool = True
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        width = self.config.encoder_embed_dim
        self.input = Linear(width, self.dtype)
        if self.learnt_mask:
            self.mask_token = self.param("mask_token", nn.initializers.normal(0.02), (width,))
        self.stack = DeepNormStack(self.config, self.dtype, self.form)
        self.output = Linear(self.codes, self.dtype)

    def __call__(
        self, features: Float[Array, "batch visible width"], places: Places, token_mask: TokenMask | None, deterministic: bool
    ) -> Float[Array, "batch tokens codes"]:
        """Logits; `token_mask` is True at real tokens, visible or not."""
        x = places.restore(self.input(features), self.mask_token if self.learnt_mask else None)
        return self.output(self.stack(x, token_mask, deterministic))


class Estimator(nn.Module):
    """From codes, as vectors [B, T, Q], to an estimate of a teacher's features of every token, [B, T, outputs]."""

    config: BEATsConfig
    outputs: int
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        self.input = Linear(self.config.encoder_embed_dim, self.dtype)
        self.stack = DeepNormStack(self.config, self.dtype, self.form)
        self.output = Linear(self.outputs, self.dtype)

    def __call__(
        self, vectors: Float[Array, "batch tokens code_width"], token_mask: TokenMask | None, deterministic: bool
    ) -> Float[Array, "batch tokens outputs"]:
        return self.output(self.stack(self.input(vectors), token_mask, deterministic))
