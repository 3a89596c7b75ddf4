"""The Audio Spectrogram Transformer (arXiv 2104.01778; YuanGongND/ast ast_models.py; transformers' model of the same name).

fbank [B, F, M] → CLS, DIST and overlapping patches [B, T, D], T = 2 + f * t, patches frequency-major (1024 frames, stride 10:
2 + 12 x 101 = 1214) → features [B, T, D] after the final norm → logits [B, C]. The learnt positions fix the number of frames;
`resize` changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from beats_jax.config import ASTConfig
from beats_jax.errors import UserError
from beats_jax.models import Fbank, TokenMask, Tokens
from beats_jax.models.attention import SelfAttention
from beats_jax.models.cpu import Form, block_class
from beats_jax.models.heads import AttentiveHead, EncoderOutput, NormHead
from beats_jax.models.layers import LayerNorm, Linear, depth_of, gelu
from beats_jax.models.masking import reduce_padding_mask

SPECIAL = 2  # CLS and DIST lead the tokens

_small = nn.initializers.truncated_normal(0.02)


def patches(fbank: Fbank, config: ASTConfig) -> Float[Array, "batch tokens pixels"]:
    """Overlapping squares, frequency-major; within one, frequency before time."""
    rows, steps = config.grid
    size = config.patch_size
    in_time = config.time_stride * np.arange(steps)[:, None] + np.arange(size)
    in_frequency = config.frequency_stride * np.arange(rows)[:, None] + np.arange(size)
    cut = fbank[:, in_time][:, :, :, in_frequency]  # [B, t, P, f, P]
    return cut.transpose(0, 3, 1, 4, 2).reshape(fbank.shape[0], rows * steps, size * size)


class Block(nn.Module):
    """One pre-norm block: x + attention(norm1(x)), then x + MLP(norm2(x))."""

    config: ASTConfig
    dtype: DTypeLike
    form: Form

    def setup(self) -> None:
        config = self.config
        self.norm1 = LayerNorm(self.dtype, config.layer_norm_eps)
        dropout, heads = config.attention_probs_dropout_prob, config.num_attention_heads
        self.attention = SelfAttention(
            config.hidden_size, heads, dropout, self.dtype, self.form, _small, _small, use_bias=config.qkv_bias
        )
        self.norm2 = LayerNorm(self.dtype, config.layer_norm_eps)
        self.fc1 = Linear(config.intermediate_size, self.dtype, _small)
        self.fc2 = Linear(config.hidden_size, self.dtype, _small)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(self, x: Tokens, token_mask: TokenMask | None, deterministic: bool) -> Tokens:
        attended = self.attention(self.norm1(x), token_mask, deterministic)
        x = x + self.dropout(attended, deterministic=deterministic)
        feed_forward = self.fc2(gelu(self.fc1(self.norm2(x)), self.dtype))
        return x + self.dropout(feed_forward, deterministic=deterministic)


class AST(nn.Module):
    """AST with an optional head (`config.predictor_class` > 0), which reads the mean of CLS and DIST.

    Parameters are float32: patch_embedding, class_token [D], distillation_token [D], positions [T, D], blocks_0.., norm,
    predictor. Products are taken in `dtype` with float32 sums; norms, scores, softmax and the residual stream are float32.
    Training (`deterministic=False`) draws dropout from the rng stream `dropout`.
    """

    config: ASTConfig
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        config = self.config
        width = config.hidden_size
        rows, steps = config.grid
        self.patch_embedding = Linear(width, self.dtype, _small)
        self.class_token = self.param("class_token", _small, (width,))
        self.distillation_token = self.param("distillation_token", _small, (width,))
        self.positions = self.param("positions", _small, (SPECIAL + rows * steps, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        block = block_class(Block, self.form, deterministic=3)
        self.blocks = [block(config, self.dtype, self.form) for _ in range(config.num_hidden_layers)]
        self.norm = LayerNorm(self.dtype, config.layer_norm_eps)
        if config.predictor_class > 0:
            if config.head == "attentive":
                self.predictor: Any = AttentiveHead(config.predictor_class, config.num_attention_heads, self.dtype)
            else:
                self.predictor = NormHead(config.predictor_class, config.head_layer_norm_eps, self.dtype, _small)

    def __call__(
        self, fbank: Fbank, token_mask: TokenMask | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Encodes normalised filterbanks.

        Args:
          fbank: [B, max_length, num_mel_bins].
          token_mask: as of `BEATs`, CLS and DIST first, which are never hidden; None = all real, as published.
          deterministic, layers: as of `BEATs`; `layers` are states before the final norm.
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

    def embed_patches(self, fbank: Fbank, token_mask: TokenMask | None = None) -> Float[Array, "batch patches width"]:
        """Embeddings of the patches, without CLS, DIST and positions; masked patches are read as zeros.

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
    """`layers.depth_of`; the final norm counts with the head."""
    return depth_of(path, "blocks_", config.num_hidden_layers, "predictor/", "norm/")


def token_mask(config: ASTConfig, frame_mask: Bool[Array, "batch frames"], num_mel_bins: int) -> TokenMask:
    """Real frames to real tokens, CLS and DIST True.

    A patch is real if all of its frames are; those of the first time step also where the clip has any real frame. The model's own
    number of mel bins counts, not `num_mel_bins`.
    """
    steps = jnp.all(_frames_of_steps(config, frame_mask), axis=-1)
    steps = steps.at[:, 0].set(jnp.any(frame_mask, axis=1))
    return _with_special_tokens(config, steps)


def reference_mask(
    config: ASTConfig, padding_mask: Bool[Array, "batch entries"], num_frames: int, num_mel_bins: int
) -> TokenMask:
    """A padding mask (True = padding) over frames, or samples in equal runs, to real tokens, CLS and DIST True.

    A patch is padding if all of its frames are. AST's own code never makes a mask; this is how it would read one.
    """
    padding = reduce_padding_mask(padding_mask, num_frames)
    return _with_special_tokens(config, ~jnp.all(_frames_of_steps(config, padding), axis=-1))


def _frames_of_steps(config: ASTConfig, frames: Bool[Array, "batch frames"]) -> Bool[Array, "batch steps patch"]:
    """The frames that the patches of each time step cover."""
    return frames[:, config.time_stride * np.arange(config.grid[1])[:, None] + np.arange(config.patch_size)]


def _with_special_tokens(config: ASTConfig, steps: jax.Array) -> jax.Array:
    return jnp.pad(jnp.tile(steps, (1, config.grid[0])), ((0, 0), (SPECIAL, 0)), constant_values=True)


def resize(
    config: ASTConfig, params: Mapping[str, Any], frames: int, num_mel_bins: int, wanted: ASTConfig
) -> tuple[ASTConfig, dict[str, Any]]:
    """The same model for filterbanks [frames, num_mel_bins]: only its positions change, by `adapt_positions`.

    Args:
      wanted: strides of it that are not the defaults replace the model's.
    """
    asked = {name: getattr(wanted, name) for name in ("frequency_stride", "time_stride")}
    strides = {name: value for name, value in asked.items() if value != getattr(ASTConfig(), name)}
    after = replace(config, max_length=frames, num_mel_bins=num_mel_bins, **strides)
    return after, {**params, "positions": adapt_positions(np.asarray(params["positions"]), config.grid, after.grid)}


def adapt_positions(positions: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """Learnt positions on another grid (YuanGongND/ast src/models/ast_models.py, constructor).

    One rule serves both of its starts, DeiT's 24 x 24 image patches and AudioSet's 12 x 101: an axis that becomes shorter is
    cropped about its centre, one that becomes longer is interpolated; time first, then frequency.

    Args:
      positions: float [2 + f * t, D], CLS and DIST first, then the patches, frequency-major.
      before: (f, t) of the grid they were learnt on.
      after: (f, t) wanted.
    Returns:
      float32 [2 + f' * t', D].
    Raises:
      ValueError: the number of positions is not that of `before`.
    """
    if len(positions) != SPECIAL + before[0] * before[1]:
        raise ValueError(f"{len(positions)} positions are not {SPECIAL} + {before[0]} x {before[1]}")
    table = np.asarray(positions[SPECIAL:], np.float32).reshape(*before, -1)
    table = _resize_axis(_resize_axis(table, 1, after[1]), 0, after[0])
    return np.concatenate([np.asarray(positions[:SPECIAL], np.float32), table.reshape(after[0] * after[1], -1)])


def _resize_axis(table: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Crops an axis about its centre, or interpolates it linearly between the centres of its cells, ends held."""
    have = table.shape[axis]
    if length <= have:
        start = have // 2 - length // 2
        return table.take(range(start, start + length), axis=axis)
    places = np.clip((np.arange(length) + 0.5) * (have / length) - 0.5, 0, have - 1)  # half-pixel centres, as torch
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, have - 1)
    shape = [1] * table.ndim
    shape[axis] = length
    share = (places - low).astype(np.float32).reshape(shape)
    return table.take(low, axis=axis) * (1 - share) + table.take(high, axis=axis) * share
