"""The EAT encoder (arXiv 2401.03497; cwx-worst-one/EAT models/images.py, base.py, modules.py, EAT_pretraining.py).

fbank [B, F, M] → CLS and patches [B, T, D], T = 1 + F // P * (M // P), patches time-major (1024 frames: 1 + 64 x 8 = 513) →
features [B, T, D]. The norm comes before the post-norm blocks; there is none after them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import EATConfig
from beats_jax.errors import UserError
from beats_jax.models import masks
from beats_jax.models.attention import attend
from beats_jax.models.beats import patches
from beats_jax.models.elementwise import LayerNorm, gelu
from beats_jax.models.forms import Forms
from beats_jax.models.heads import AttentiveHead, masked_mean
from beats_jax.models.linear import Linear, linear, torch_bias
from beats_jax.models.output import EncoderOutput

CONSTANTS = ("positions",)  # paths of parameters that are never learnt


class BlockOutput(NamedTuple):
    """What one block computes, each float32 [B, T, D]; what is not used is not computed under `jax.jit`."""

    states: jax.Array  # output of the block
    attention: jax.Array  # attention branch before drop path and residual
    feed_forward: jax.Array  # MLP branch before drop path, residual and norm: what the pre-training teacher averages


def position_table(steps: int, rows: int, width: int) -> jax.Array:
    """Fixed positions of a grid of patches, float32 [steps * rows, width], time-major.

    The first half of the width encodes frequency, the second half time; each is sines, then cosines, of the position times
    10000^(-k/q), k = 0 .. q - 1, q = width / 4. Source: EAT models/mae.py `get_2d_sincos_pos_embed_flexible`.
    """
    quarter = width // 4
    rates = 10000.0 ** (-np.arange(quarter) / quarter)

    def waves(count: int) -> jax.Array:
        angles = np.outer(np.arange(count), rates)  # float64: they reach hundreds of radians
        return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), jnp.float32)

    shape = (steps, rows, width // 2)
    frequency, time = jnp.broadcast_to(waves(rows)[None], shape), jnp.broadcast_to(waves(steps)[:, None], shape)
    return jnp.concatenate([frequency, time], axis=2).reshape(steps * rows, width)


class QueryKeyValue(nn.Module):
    """One product for queries, keys and values: `kernel` [D, 3 D], `bias` [3 D]; the keys' bias is used and never learnt.

    Softmax ignores that bias, so its gradient is rounding only (see `attention.SelfAttention`).
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(0.02), (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros_init(), (3 * width,))
        queries, keys, values = jnp.split(bias, 3)
        return linear(x, kernel, jnp.concatenate([queries, jax.lax.stop_gradient(keys), values]), self.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with parameters `qkv` and `proj`."""

    config: EATConfig
    dtype: Any
    forms: Forms

    @nn.compact
    def __call__(self, x: jax.Array, token_mask: jax.Array | None) -> jax.Array:
        """`x` [B, T, D], `token_mask` bool [B, T] or None → [B, T, D]."""
        batch, tokens, width = x.shape
        split = QueryKeyValue(self.dtype, name="qkv")(x).reshape(batch, tokens, 3, self.config.num_heads, -1)
        queries, keys, values = split.transpose(2, 0, 3, 1, 4)
        attended = attend(
            queries, keys, values, token_mask=token_mask, dtype=self.dtype, form=self.forms.attention_for(batch, tokens)
        )  # fmt: skip
        return Linear(width, self.dtype, name="proj")(attended.transpose(0, 2, 1, 3).reshape(x.shape))


class Block(nn.Module):
    """One post-norm block: x = norm1(x + attention(x)), then norm2(x + MLP(x))."""

    config: EATConfig
    dtype: Any
    forms: Forms
    drop_rate: float  # share of clips that skip a branch in training

    def setup(self) -> None:
        width, epsilon = self.config.embed_dim, self.config.norm_eps
        self.attention = Attention(self.config, self.dtype, self.forms)
        self.norm1 = LayerNorm(self.dtype, epsilon)
        self.fc1 = Linear(round(width * self.config.mlp_ratio), self.dtype)
        self.fc2 = Linear(width, self.dtype)
        self.norm2 = LayerNorm(self.dtype, epsilon)
        self.drop_path = nn.Dropout(self.drop_rate, broadcast_dims=(1, 2))

    def __call__(self, x: jax.Array, token_mask: jax.Array | None, deterministic: bool) -> BlockOutput:
        """`x` [B, T, D], `token_mask` bool [B, T] or None."""
        attention = self.attention(x, token_mask)
        x = self.norm1(x + self.drop_path(attention, deterministic=deterministic))
        feed_forward = self.fc2(gelu(self.fc1(x), self.dtype))
        return BlockOutput(
            self.norm2(x + self.drop_path(feed_forward, deterministic=deterministic)), attention, feed_forward
        )  # fmt: skip


class Predictor(nn.Module):
    """The head: LayerNorm and Linear, [B, D] → logits [B, C]."""

    config: EATConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = LayerNorm(self.dtype, self.config.fc_norm_eps, name="norm")(x)
        return Linear(self.config.predictor_class, self.dtype, name="linear")(x)


class EAT(nn.Module):
    """EAT with an optional head (`config.predictor_class` > 0).

    Parameters are float32: patch_embedding, class_token [D], positions [rows, D] (constant), pre_norm, blocks_0.., predictor.
    Products are taken in `dtype` with float32 sums; norms, scores, softmax and the residual stream are float32.
    Training (`deterministic=False`) draws drop path from the rng stream `dropout`.
    """

    config: EATConfig
    dtype: Any = jnp.float32
    forms: Forms = Forms()

    def setup(self) -> None:
        config = self.config
        rows, width = config.mel_bins // config.patch_size, config.embed_dim
        xavier = nn.initializers.xavier_uniform()
        self.patch_embedding = Linear(width, self.dtype, xavier, torch_bias(config.patch_size**2))
        self.positions = self.param("positions", lambda _: position_table(config.max_length, rows, width))
        self.class_token = self.param("class_token", nn.initializers.normal(1.0), (width,))
        self.pre_norm = LayerNorm(self.dtype, config.norm_eps)
        rates = np.linspace(0.0, config.drop_path_rate, config.depth)
        self.blocks = [Block(config, self.dtype, self.forms, float(rate)) for rate in rates]
        if config.predictor_class > 0:
            if config.head == "attentive":
                self.predictor: Any = AttentiveHead(config.predictor_class, config.num_heads, self.dtype)
            else:
                self.predictor = Predictor(config, self.dtype)

    def __call__(
        self, fbank: jax.Array, token_mask: jax.Array | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Encodes normalised filterbanks.

        Args:
          fbank: float32 [B, F, M]; F from one patch (16) to `max_length` patches, M = `mel_bins`.
          token_mask: bool [B, T], True = real, CLS first; None = all real, as published. Masked patches are hidden from
            attention and from a head that averages, CLS never is. What lies under them, NaN included, reaches no real token.
          deterministic: False = training: drop path.
          layers: also return the state before the first (CLS and patches after the norm) and after every block.
        Raises:
          UserError: more frames than the position table has, or another number of mel bins.
          ValueError: fewer frames than one patch.
        """
        tokens = self.add_positions(self.embed_patches(fbank, token_mask))
        return self.encode_tokens(tokens, token_mask, deterministic=deterministic, layers=layers)

    def embed_patches(self, fbank: jax.Array, token_mask: jax.Array | None = None) -> jax.Array:
        """fbank [B, F, M] → patch embeddings [B, T - 1, D]; masked patches are read as zeros. Errors as in `__call__`."""
        size, bins = self.config.patch_size, self.config.mel_bins
        if fbank.shape[2] != bins:
            raise UserError(f"fbank has {fbank.shape[2]} mel bins; this EAT reads {bins} (model.mel_bins)")
        if fbank.shape[1] // size > self.config.max_length:
            raise UserError(
                f"fbank has {fbank.shape[1]} frames; the positions of this EAT end at {self.config.max_length * size} "
                "(model.max_length patches): cut the sound, or set audio.filterbank.target_frames"
            )
        pixels = patches(fbank, size)
        if token_mask is not None:
            pixels = jnp.where(token_mask[:, 1:, None], pixels, 0.0)
        return self.patch_embedding(pixels)

    def add_positions(self, tokens: jax.Array) -> jax.Array:
        """Adds the fixed positions to the embeddings of all patches from the first on, [B, T - 1, D]."""
        return tokens + jax.lax.stop_gradient(self.positions[None, : tokens.shape[1]])

    def encode_tokens(
        self, tokens: jax.Array, token_mask: jax.Array | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Patches with positions [B, T - 1, D] (any subset of them) → `EncoderOutput`; arguments as in `__call__`."""
        first, blocks = self.encode_blocks(tokens, token_mask, deterministic=deterministic)
        features = blocks[-1].states
        real = jnp.ones(features.shape[:2], bool) if token_mask is None else token_mask
        logits = None
        if self.config.predictor_class > 0:
            attentive = isinstance(self.predictor, AttentiveHead)
            logits = self.predictor(features, real) if attentive else self.predictor(self._read_out(features, real))
        states = jnp.stack([first, *(block.states for block in blocks)]) if layers else None
        return EncoderOutput(features, real, states, logits)

    def encode_blocks(
        self, tokens: jax.Array, token_mask: jax.Array | None = None, *, deterministic: bool = True
    ) -> tuple[jax.Array, list[BlockOutput]]:
        """As `encode_tokens`, but returns the input of the first block [B, T, D] and all that each block computes."""
        batch, _, width = tokens.shape
        class_token = jnp.broadcast_to(self.class_token[None, None], (batch, 1, width))
        first = x = self.pre_norm(jnp.concatenate([class_token, tokens], axis=1))
        if token_mask is not None:
            token_mask = token_mask.at[:, 0].set(True)
        outputs = []
        for block in self.blocks:
            outputs.append(block(x, token_mask, deterministic))
            x = outputs[-1].states
        return first, outputs

    def _read_out(self, features: jax.Array, token_mask: jax.Array) -> jax.Array:
        """What the head reads, [B, D]."""
        if self.config.prediction_mode == "CLS_TOKEN":
            return features[:, 0]
        return masked_mean(features[:, 1:], token_mask[:, 1:])


def parameter_depth(path: str, config: EATConfig) -> int:
    """Depth of a parameter for layer-wise rates: 0 = embeddings and the norm after them, i + 1 = block i, L + 1 = head.

    Args:
      path: names joined by "/", such as `blocks_3/fc1/kernel`.
    """
    block = re.match(r"blocks_(\d+)/", path)
    if block:
        return int(block[1]) + 1
    return config.depth + 1 if path.startswith("predictor/") else 0


def token_mask(config: EATConfig, frame_mask: jax.Array, num_mel_bins: int) -> jax.Array:
    """Real frames, bool [B, F], to real tokens, bool [B, T], CLS True: BEATs' rule for the patches."""
    return _with_class_token(masks.token_mask_from_frames(frame_mask, config.patch_size, num_mel_bins))


def reference_mask(config: EATConfig, padding_mask: jax.Array, num_frames: int, num_mel_bins: int) -> jax.Array:
    """A padding mask (True = padding) over frames, or samples in equal runs, to real tokens, bool [B, T], CLS True.

    A patch is padding if all of its frames are. EAT's own code never makes a mask; this is how it would read one.
    """
    size = config.patch_size
    steps, rows = num_frames // size, num_mel_bins // size
    frames = masks.reduce_padding_mask(padding_mask, num_frames)[:, : steps * size]
    padding = jnp.all(frames.reshape(frames.shape[0], steps, size), axis=-1)
    return _with_class_token(~jnp.repeat(padding, rows, axis=1))


def _with_class_token(patch_mask: jax.Array) -> jax.Array:
    return jnp.pad(patch_mask, ((0, 0), (1, 0)), constant_values=True)
