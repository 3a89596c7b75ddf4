"""The Audio Spectrogram Transformer (arXiv 2104.01778; YuanGongND/ast ast_models.py; transformers' model of the same name).

fbank [B, F, M] → CLS, DIST and overlapping patches [B, T, D], T = 2 + f * t, patches frequency-major (1024 frames, stride 10:
2 + 12 x 101 = 1214) → features [B, T, D] after the final norm. The learnt positions fix the number of frames; `ast_positions`
changes it.
"""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import ASTConfig
from beats_jax.errors import UserError
from beats_jax.models import masks
from beats_jax.models.attention import attend
from beats_jax.models.elementwise import LayerNorm, gelu
from beats_jax.models.forms import Forms
from beats_jax.models.heads import AttentiveHead
from beats_jax.models.linear import Linear
from beats_jax.models.output import EncoderOutput

SPECIAL = 2  # CLS and DIST lead the tokens

_small = nn.initializers.truncated_normal(0.02)


def patches(fbank: jax.Array, config: ASTConfig) -> jax.Array:
    """[B, F, M] → [B, f * t, P * P]: overlapping squares, frequency-major; within one, frequency before time."""
    rows, steps = config.grid
    size = config.patch_size
    in_time = config.time_stride * np.arange(steps)[:, None] + np.arange(size)
    in_frequency = config.frequency_stride * np.arange(rows)[:, None] + np.arange(size)
    cut = fbank[:, in_time][:, :, :, in_frequency]  # [B, t, P, f, P]
    return cut.transpose(0, 3, 1, 4, 2).reshape(fbank.shape[0], rows * steps, size * size)


class Attention(nn.Module):
    """Multi-head self-attention with parameters `{q,k,v,out}_proj`; the keys' bias is never learnt (softmax ignores it)."""

    config: ASTConfig
    dtype: Any
    forms: Forms

    def setup(self) -> None:
        width, biased = self.config.hidden_size, self.config.qkv_bias
        self.q_proj = Linear(width, self.dtype, _small, use_bias=biased)
        self.k_proj = Linear(width, self.dtype, _small, use_bias=biased, learn_bias=False)
        self.v_proj = Linear(width, self.dtype, _small, use_bias=biased)
        self.out_proj = Linear(width, self.dtype, _small)

    def __call__(self, x: jax.Array, token_mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """`x` [B, T, D], `token_mask` bool [B, T] or None → [B, T, D]."""
        batch, tokens, _ = x.shape
        rate = 0.0 if deterministic else self.config.attention_probs_dropout_prob

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(batch, tokens, self.config.num_attention_heads, -1).transpose(0, 2, 1, 3)

        attended = attend(
            heads(self.q_proj(x)),
            heads(self.k_proj(x)),
            heads(self.v_proj(x)),
            token_mask=token_mask,
            dropout_key=self.make_rng("dropout") if rate > 0 else None,
            dropout_rate=rate,
            dtype=self.dtype,
            form=self.forms.attention_for(batch, 0 if rate > 0 else tokens),
        )
        return self.out_proj(attended.transpose(0, 2, 1, 3).reshape(x.shape))


class Block(nn.Module):
    """One pre-norm block: x + attention(norm1(x)), then x + MLP(norm2(x))."""

    config: ASTConfig
    dtype: Any
    forms: Forms

    def setup(self) -> None:
        config = self.config
        self.norm1 = LayerNorm(self.dtype, config.layer_norm_eps)
        self.attention = Attention(config, self.dtype, self.forms)
        self.norm2 = LayerNorm(self.dtype, config.layer_norm_eps)
        self.fc1 = Linear(config.intermediate_size, self.dtype, _small)
        self.fc2 = Linear(config.hidden_size, self.dtype, _small)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(self, x: jax.Array, token_mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """`x` [B, T, D], `token_mask` bool [B, T] or None → [B, T, D]."""
        attended = self.attention(self.norm1(x), token_mask, deterministic)
        x = x + self.dropout(attended, deterministic=deterministic)
        feed_forward = self.fc2(gelu(self.fc1(self.norm2(x)), self.dtype))
        return x + self.dropout(feed_forward, deterministic=deterministic)


class Predictor(nn.Module):
    """The head: LayerNorm and Linear, [B, D] → logits [B, C]."""

    config: ASTConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = LayerNorm(self.dtype, self.config.head_layer_norm_eps, name="norm")(x)
        return Linear(self.config.predictor_class, self.dtype, _small, name="linear")(x)


class AST(nn.Module):
    """AST with an optional head (`config.predictor_class` > 0), which reads the mean of CLS and DIST.

    Parameters are float32: patch_embedding, class_token [D], distillation_token [D], positions [T, D], blocks_0.., norm,
    predictor. Products are taken in `dtype` with float32 sums; norms, scores, softmax and the residual stream are float32.
    Training (`deterministic=False`) draws dropout from the rng stream `dropout`.
    """

    config: ASTConfig
    dtype: Any = jnp.float32
    forms: Forms = Forms()

    def setup(self) -> None:
        config = self.config
        width = config.hidden_size
        rows, steps = config.grid
        self.patch_embedding = Linear(width, self.dtype, _small)
        self.class_token = self.param("class_token", _small, (width,))
        self.distillation_token = self.param("distillation_token", _small, (width,))
        self.positions = self.param("positions", _small, (SPECIAL + rows * steps, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.blocks = [Block(config, self.dtype, self.forms) for _ in range(config.num_hidden_layers)]
        self.norm = LayerNorm(self.dtype, config.layer_norm_eps)
        if config.predictor_class > 0:
            if config.head == "attentive":
                self.predictor: Any = AttentiveHead(config.predictor_class, config.num_attention_heads, self.dtype)
            else:
                self.predictor = Predictor(config, self.dtype)

    def __call__(
        self, fbank: jax.Array, token_mask: jax.Array | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Encodes normalised filterbanks.

        Args:
          fbank: float32 [B, max_length, num_mel_bins].
          token_mask: bool [B, T], True = real, CLS and DIST first; None = all real, as published. Masked patches are hidden from
            attention, CLS and DIST never are. What lies under them, NaN included, reaches no real token.
          deterministic: False = training: dropout.
          layers: also return the state before the first and after every block, all before the final norm.
        Raises:
          UserError: another number of frames or of mel bins.
        """
        x = self.embed_patches(fbank, token_mask)
        special = jnp.stack([self.class_token, self.distillation_token])
        special = jnp.broadcast_to(special[None], (x.shape[0], *special.shape))
        x = self.dropout(jnp.concatenate([special, x], axis=1) + self.positions[None], deterministic=deterministic)
        if token_mask is not None:
            token_mask = token_mask.at[:, :SPECIAL].set(True)
        states = [x]
        for block in self.blocks:
            x = block(x, token_mask, deterministic)
            states.append(x)
        features = self.norm(x)
        real = jnp.ones(features.shape[:2], bool) if token_mask is None else token_mask
        logits = None
        if self.config.predictor_class > 0:
            attentive = isinstance(self.predictor, AttentiveHead)
            logits = self.predictor(features, real) if attentive else self.predictor(jnp.mean(features[:, :SPECIAL], axis=1))
        return EncoderOutput(features, real, jnp.stack(states) if layers else None, logits)

    def embed_patches(self, fbank: jax.Array, token_mask: jax.Array | None = None) -> jax.Array:
        """fbank [B, F, M] → patch embeddings [B, T - 2, D], without positions; masked patches are read as zeros.

        Raises:
          UserError: as `__call__`.
        """
        frames, bins = self.config.max_length, self.config.num_mel_bins
        if fbank.shape[1:] != (frames, bins):
            raise UserError(
                f"fbank has {fbank.shape[1]} frames of {fbank.shape[2]} mel bins; this AST reads exactly {frames} of {bins} "
                "(model.max_length, model.num_mel_bins): set audio.filterbank.target_frames and num_mel_bins to them"
            )
        pixels = patches(fbank, self.config)
        if token_mask is not None:
            pixels = jnp.where(token_mask[:, SPECIAL:, None], pixels, 0.0)
        return self.patch_embedding(pixels)


def parameter_depth(path: str, config: ASTConfig) -> int:
    """Depth of a parameter for layer-wise rates: 0 = embeddings, i + 1 = block i, L + 1 = final norm and head.

    Args:
      path: names joined by "/", such as `blocks_3/fc1/kernel`.
    """
    block = re.match(r"blocks_(\d+)/", path)
    if block:
        return int(block[1]) + 1
    return config.num_hidden_layers + 1 if path.startswith(("predictor/", "norm/")) else 0


def token_mask(config: ASTConfig, frame_mask: jax.Array, num_mel_bins: int) -> jax.Array:
    """Real frames, bool [B, F], to real tokens, bool [B, T], CLS and DIST True.

    A patch is real if all of its frames are; those of the first time step also where the clip has any real frame. The model's own
    number of mel bins counts, not `num_mel_bins`.
    """
    steps = jnp.all(_frames_of_steps(config, frame_mask), axis=-1)
    steps = steps.at[:, 0].set(jnp.any(frame_mask, axis=1))
    return _with_special_tokens(config, steps)


def reference_mask(config: ASTConfig, padding_mask: jax.Array, num_frames: int, num_mel_bins: int) -> jax.Array:
    """A padding mask (True = padding) over frames, or samples in equal runs, to real tokens, bool [B, T], CLS and DIST True.

    A patch is padding if all of its frames are. AST's own code never makes a mask; this is how it would read one.
    """
    padding = masks.reduce_padding_mask(padding_mask, num_frames)
    return _with_special_tokens(config, ~jnp.all(_frames_of_steps(config, padding), axis=-1))


def _frames_of_steps(config: ASTConfig, frames: jax.Array) -> jax.Array:
    """bool [B, F] → [B, t, P]: the frames that the patches of each time step see."""
    return frames[:, config.time_stride * np.arange(config.grid[1])[:, None] + np.arange(config.patch_size)]


def _with_special_tokens(config: ASTConfig, steps: jax.Array) -> jax.Array:
    return jnp.pad(jnp.tile(steps, (1, config.grid[0])), ((0, 0), (SPECIAL, 0)), constant_values=True)
