"""The BEATs encoder (arXiv 2212.09058; unilm/beats/BEATs.py, backbone.py).

fbank [B, F, M] → patches [B, T, P * P], T = F // P * (M // P), time-major (10 s: 62 x 8 = 496) → tokens [B, T, E] → features
[B, T, D], one token per 160 ms and 16 mel bins → logits [B, C].
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from beats_jax.config import BEATsConfig
from beats_jax.models import Bias, BiasByDistance, Fbank, TokenMask, Tokens
from beats_jax.models.attention import SelfAttention
from beats_jax.models.blocked import saves_memory
from beats_jax.models.cpu import Form, block_class
from beats_jax.models.heads import AttentiveHead, EncoderOutput, masked_mean
from beats_jax.models.layers import LayerNorm, Linear, depth_of, gelu, scale_gradient, torch_bias, torch_kernel, xavier_normal
from beats_jax.models.masking import Places
from beats_jax.models.positions import ConvPosition, bias_by_distance, place_position_bias, relative_position_bias


def patches(fbank: Fbank, size: int) -> Float[Array, "batch tokens {size}*{size}"]:
    """Squares of size x size, time-major; the last F mod size frames are dropped.

    Raises:
      ValueError: less than one patch in time or frequency.
    """
    batch, frames, bins = fbank.shape
    steps, rows = frames // size, bins // size
    if steps == 0 or rows == 0:
        raise ValueError(f"fbank has {frames} frames and {bins} mel bins; one patch needs {size} of each")
    cut = fbank[:, : steps * size, : rows * size].reshape(batch, steps, size, rows, size)
    return cut.transpose(0, 1, 3, 2, 4).reshape(batch, steps * rows, size * size)


def activation(name: str, x: Float[Array, "*rows hidden"], dtype: DTypeLike) -> Float[Array, "*rows width"]:
    """The hidden activation; `glu` halves the width: first half times swish of the second."""
    if name == "glu":
        value, gate = jnp.split(x, 2, axis=-1)
        return value * jax.nn.silu(gate)
    if name == "relu":
        return jax.nn.relu(x)
    return gelu(x, dtype) if name == "gelu" else jax.nn.gelu(x, approximate=True)


class TransformerLayer(nn.Module):
    """One block: post-norm with residual factor (2L)^(1/4) under `deep_norm` (arXiv 2203.00555), or pre-norm."""

    config: BEATsConfig
    dtype: DTypeLike
    form: Form

    def setup(self) -> None:
        config = self.config
        plain = nn.initializers.normal(0.02)
        small = xavier_normal((8.0 * config.encoder_layers) ** -0.25) if config.deep_norm else plain
        hidden = config.encoder_ffn_embed_dim * (2 if config.activation_fn == "glu" else 1)
        self.self_attn = SelfAttention(
            config.encoder_embed_dim,
            config.encoder_attention_heads,
            config.attention_dropout,
            self.dtype,
            self.form,
            xavier_normal(1.0) if config.deep_norm else plain,
            small,
            gated=config.gru_rel_pos and config.relative_position_embedding,
        )
        self.self_attn_layer_norm = LayerNorm(self.dtype)
        self.fc1 = Linear(hidden, self.dtype, small)
        self.fc2 = Linear(config.encoder_embed_dim, self.dtype, small)
        self.final_layer_norm = LayerNorm(self.dtype)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def __call__(
        self, x: Tokens, bias: Bias | BiasByDistance | None, token_mask: TokenMask | None, deterministic: bool
    ) -> Tokens:
        def attention(y):
            return self.dropout(self.self_attn(y, token_mask, deterministic, bias), deterministic=deterministic)

        def feed_forward(y):
            hidden = activation(self.config.activation_fn, self.fc1(y), self.dtype)
            return self.dropout(
                self.fc2(self.activation_dropout(hidden, deterministic=deterministic)), deterministic=deterministic
            )

        if self.config.layer_norm_first:
            x = x + attention(self.self_attn_layer_norm(x))
            return x + feed_forward(self.final_layer_norm(x))
        alpha = (2.0 * self.config.encoder_layers) ** 0.25 if self.config.deep_norm else 1.0
        x = self.self_attn_layer_norm(alpha * x + attention(x))
        return self.final_layer_norm(alpha * x + feed_forward(x))


def attention_bias(table: Float[Array, "buckets heads"], tokens: int, reach: int, form: Form) -> Bias | BiasByDistance:
    """The relative bias, whole or by distance, as `attention.attend` wants it in this form."""
    spread = bias_by_distance if saves_memory(form, tokens) else relative_position_bias
    return spread(table, tokens, reach)


class RelativeTable(nn.Module):
    """The bucket table `embedding` [num_buckets, H]: one for all layers."""

    config: BEATsConfig

    @nn.compact
    def __call__(self) -> Float[Array, "buckets heads"]:
        shape = (self.config.num_buckets, self.config.encoder_attention_heads)
        return self.param("embedding", nn.initializers.normal(0.02), shape)


class Encoder(nn.Module):
    """Position convolution and blocks: [B, T, D] → features [B, T, D] and the list of layer states."""

    config: BEATsConfig
    dtype: DTypeLike
    form: Form

    def setup(self) -> None:
        config = self.config
        self.pos_conv = ConvPosition(config, self.dtype, self.form)
        self.layer_norm = LayerNorm(self.dtype)
        if config.relative_position_embedding:
            self.relative_attention_bias = RelativeTable(config)
        layer = block_class(TransformerLayer, self.form, deterministic=4)
        self.layers = [layer(config, self.dtype, self.form) for _ in range(config.encoder_layers)]
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self, x: Tokens, token_mask: TokenMask | None, deterministic: bool, places: Places | None = None
    ) -> tuple[Tokens, list[Tokens]]:
        config = self.config
        if token_mask is not None:
            x = jnp.where(token_mask[:, :, None], x, 0.0)  # before the convolution and for the residual alike, as published
        x = x + (self.pos_conv(x) if places is None else places.gather(self.pos_conv(places.restore(x))))
        if not config.layer_norm_first:
            x = self.layer_norm(x)
        x = self.dropout(x, deterministic=deterministic)
        bias = None
        if config.relative_position_embedding:
            table, reach = self.relative_attention_bias(), config.max_distance
            if places is not None:
                bias = place_position_bias(table, places.positions, places.num_tokens, reach)
            else:
                bias = attention_bias(table, x.shape[1], reach, self.form)
        states = [x]
        for layer in self.layers:
            x = self._step(layer, x, bias, token_mask, deterministic)
            states.append(x)
        return (self.layer_norm(x) if config.layer_norm_first else x), states

    def _step(self, layer, x, bias, token_mask, deterministic):
        """One block with gradient decay and, in training, the draw that skips it for the whole batch (no rescaling)."""
        ratio, drop = self.config.layer_wise_gradient_decay_ratio, self.config.encoder_layerdrop
        x = scale_gradient(x, ratio) if ratio != 1.0 else x
        y = layer(x, bias, token_mask, deterministic)
        if deterministic or drop <= 0:
            return y
        # Both branches are computed: a step has one cost and one program, whatever is drawn.
        return jnp.where(jax.random.uniform(self.make_rng("layerdrop")) > drop, y, x)


class BEATs(nn.Module):
    """BEATs with an optional linear head (`config.predictor_class` > 0).

    Parameters are float32: patch_embedding, layer_norm, post_extract_proj, encoder/{pos_conv, layer_norm,
    relative_attention_bias, layers_0..}, predictor. Products are taken in `dtype` with float32 sums; norms, scores, softmax and
    the residual stream are float32.
    Training (`deterministic=False`) draws from the rng streams `dropout` and `layerdrop`.
    """

    config: BEATsConfig
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        config = self.config
        pixels = config.input_patch_size**2
        self.patch_embedding = Linear(config.embed_dim, self.dtype, torch_kernel(), torch_bias(pixels), use_bias=config.conv_bias)
        self.layer_norm = LayerNorm(self.dtype)
        if config.embed_dim != config.encoder_embed_dim:
            self.post_extract_proj = Linear(config.encoder_embed_dim, self.dtype, torch_kernel(), torch_bias(config.embed_dim))
        self.dropout_input = nn.Dropout(config.dropout_input)
        self.encoder = Encoder(config, self.dtype, self.form)
        if config.predictor_class > 0:
            self.predictor_dropout = nn.Dropout(config.predictor_dropout)
            width = config.encoder_embed_dim
            if config.head == "attentive":
                self.predictor: Any = AttentiveHead(config.predictor_class, config.encoder_attention_heads, self.dtype)
            else:
                self.predictor = Linear(config.predictor_class, self.dtype, torch_kernel(), torch_bias(width))

    def __call__(
        self, fbank: Fbank, token_mask: TokenMask | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Encodes normalised filterbanks.

        Args:
          fbank: F and M at least one patch (16).
          token_mask: True = real; None = all real. What lies under masked tokens, NaN included, reaches neither the
            real tokens nor any gradient. A clip without a real token gives finite values without meaning.
          deterministic: False = training: dropout and layerdrop.
          layers: also return the state before the first and after every block.
        Raises:
          ValueError: fbank smaller than one patch.
        """
        return self.encode_tokens(self.embed_patches(fbank, token_mask), token_mask, deterministic=deterministic, layers=layers)

    def embed_patches(self, fbank: Fbank, token_mask: TokenMask | None = None) -> Tokens:
        """Patch embeddings, width E; masked patches are read as zeros."""
        return self.embed_pixels(patches(fbank, self.config.input_patch_size), token_mask)

    def embed_pixels(self, pixels: Float[Array, "batch tokens pixels"], token_mask: TokenMask | None = None) -> Tokens:
        """`embed_patches` of the squares that `patches` gives, or of some of them."""
        if token_mask is not None:
            pixels = jnp.where(token_mask[:, :, None], pixels, 0.0)
        return self.patch_embedding(pixels)

    def encode_tokens(
        self,
        tokens: Tokens,
        token_mask: TokenMask | None = None,
        *,
        deterministic: bool = True,
        layers: bool = False,
        places: Places | None = None,
    ) -> EncoderOutput:
        """Encodes patch embeddings; arguments as in `__call__`.

        Args:
          places: where in the clip the tokens lie, if they are a part of it; both position rules follow it. None = the tokens
            are the whole clip.
        """
        x = self.layer_norm(tokens)
        if self.config.embed_dim != self.config.encoder_embed_dim:
            x = self.post_extract_proj(x)
        x = self.dropout_input(x, deterministic=deterministic)
        features, states = self.encoder(x, token_mask, deterministic, places)
        real = jnp.ones(tokens.shape[:2], bool) if token_mask is None else token_mask
        logits = None
        if self.config.predictor_class > 0:
            kept = self.predictor_dropout(features, deterministic=deterministic)
            attentive = isinstance(self.predictor, AttentiveHead)
            logits = self.predictor(kept, real) if attentive else masked_mean(self.predictor(kept), real)
        return EncoderOutput(features, real, jnp.stack(states) if layers else None, logits)


def parameter_depth(path: str, config: BEATsConfig) -> int:
    """`layers.depth_of`; the table of relative positions serves all blocks and counts as 0."""
    final_norm = ("encoder/layer_norm/",) if config.layer_norm_first else ()
    return depth_of(path, "encoder/layers_", config.encoder_layers, "predictor/", *final_norm)
