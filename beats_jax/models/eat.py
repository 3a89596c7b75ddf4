"""The EAT encoder (arXiv 2401.03497; cwx-worst-one/EAT models/images.py, base.py, modules.py, EAT_pretraining.py).

fbank [B, F, M] → CLS and patches [B, T, D], T = 1 + F // P * (M // P), patches time-major (1024 frames: 1 + 64 x 8 = 513) →
features [B, T, D]. The norm comes before the post-norm blocks; there is none after them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from beats_jax.config import EATConfig
from beats_jax.errors import UserError
from beats_jax.models import Fbank, TokenMask, Tokens, masking
from beats_jax.models.attention import attend, join_heads
from beats_jax.models.beats import patches
from beats_jax.models.cpu import Form, block_class
from beats_jax.models.heads import AttentiveHead, EncoderOutput, NormHead, masked_mean
from beats_jax.models.layers import LayerNorm, Linear, depth_of, gelu, linear, torch_bias

CONSTANTS = ("positions",)  # paths of parameters that are never learnt


class BlockOutput(NamedTuple):
    """What one block computes; what is not used is not computed under `jax.jit`."""

    states: Tokens  # output of the block
    attention: Tokens  # attention branch before drop path and residual
    feed_forward: Float[
        Array, "batch tokens width"
    ]  # MLP branch before drop path, residual and norm: what the pre-training teacher averages


def position_table(steps: int, rows: int, width: int) -> Float[Array, "{steps}*{rows} {width}"]:
    """Fixed positions of a grid of patches, time-major.

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

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Tokens) -> Float[Array, "batch tokens 3*width"]:
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(0.02), (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros_init(), (3 * width,))
        queries, keys, values = jnp.split(bias, 3)
        return linear(x, kernel, jnp.concatenate([queries, jax.lax.stop_gradient(keys), values]), self.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with parameters `qkv` and `proj`."""

    config: EATConfig
    dtype: DTypeLike
    form: Form

    @nn.compact
    def __call__(self, x: Tokens, token_mask: TokenMask | None) -> Tokens:
        batch, tokens, width = x.shape
        split = QueryKeyValue(self.dtype, name="qkv")(x).reshape(batch, tokens, 3, self.config.num_heads, -1)
        queries, keys, values = split.transpose(2, 0, 3, 1, 4)
        attended = attend(queries, keys, values, token_mask=token_mask, dtype=self.dtype, form=self.form)
        return Linear(width, self.dtype, name="proj")(join_heads(attended))


class Block(nn.Module):
    """One post-norm block: x = norm1(x + attention(x)), then norm2(x + MLP(x))."""

    config: EATConfig
    dtype: DTypeLike
    form: Form
    drop_rate: float  # share of clips that skip a branch in training

    def setup(self) -> None:
        width, epsilon = self.config.embed_dim, self.config.norm_eps
        self.attention = Attention(self.config, self.dtype, self.form)
        self.norm1 = LayerNorm(self.dtype, epsilon)
        self.fc1 = Linear(round(width * self.config.mlp_ratio), self.dtype)
        self.fc2 = Linear(width, self.dtype)
        self.norm2 = LayerNorm(self.dtype, epsilon)
        self.drop_path = nn.Dropout(self.drop_rate, broadcast_dims=(1, 2))

    def __call__(self, x: Tokens, token_mask: TokenMask | None, deterministic: bool) -> BlockOutput:
        attention = self.attention(x, token_mask)
        x = self.norm1(x + self.drop_path(attention, deterministic=deterministic))
        feed_forward = self.fc2(gelu(self.fc1(x), self.dtype))
        states = self.norm2(x + self.drop_path(feed_forward, deterministic=deterministic))
        return BlockOutput(states, attention, feed_forward)


class EAT(nn.Module):
    """EAT with an optional head (`config.predictor_class` > 0).

    Parameters are float32: patch_embedding, class_token [D], positions [rows, D] (constant), pre_norm, blocks_0.., predictor.
    Products are taken in `dtype` with float32 sums; norms, scores, softmax and the residual stream are float32.
    Training (`deterministic=False`) draws drop path from the rng stream `dropout`.
    """

    config: EATConfig
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        config = self.config
        rows, width = config.mel_bins // config.patch_size, config.embed_dim
        xavier = nn.initializers.xavier_uniform()
        self.patch_embedding = Linear(width, self.dtype, xavier, torch_bias(config.patch_size**2))
        self.positions = self.param("positions", lambda _: position_table(config.max_length, rows, width))
        self.class_token = self.param("class_token", nn.initializers.normal(1.0), (width,))
        self.pre_norm = LayerNorm(self.dtype, config.norm_eps)
        rates = np.linspace(0.0, config.drop_path_rate, config.depth)
        block = block_class(Block, self.form, deterministic=3)
        self.blocks = [block(config, self.dtype, self.form, float(rate)) for rate in rates]
        if config.predictor_class > 0:
            if config.head == "attentive":
                self.predictor: Any = AttentiveHead(config.predictor_class, config.num_heads, self.dtype)
            else:
                self.predictor = NormHead(config.predictor_class, config.fc_norm_eps, self.dtype)

    def __call__(
        self, fbank: Fbank, token_mask: TokenMask | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """Encodes normalised filterbanks.

        Args:
          fbank: F from one patch (16) to `max_length` patches, M = `mel_bins`.
          token_mask: as of `BEATs`, CLS first, which is never hidden; None = all real, as published. A head that averages leaves
            masked patches out.
          deterministic, layers: as of `BEATs`; training draws drop path.
        Raises:
          UserError: more frames than the position table has, or another number of mel bins.
          ValueError: fewer frames than one patch.
        """
        tokens = self.add_positions(self.embed_patches(fbank, token_mask))
        return self.encode_tokens(tokens, token_mask, deterministic=deterministic, layers=layers)

    def embed_patches(self, fbank: Fbank, token_mask: TokenMask | None = None) -> Float[Array, "batch patches width"]:
        """Embeddings of all patches, without CLS; masked patches are read as zeros. Errors as in `__call__`."""
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

    def add_positions(self, tokens: Float[Array, "batch patches width"]) -> Float[Array, "batch patches width"]:
        """Adds the fixed positions to the embeddings of all patches from the first on."""
        return tokens + jax.lax.stop_gradient(self.positions[None, : tokens.shape[1]])

    def encode_tokens(
        self,
        tokens: Float[Array, "batch patches width"],
        token_mask: Bool[Array, "batch patches+1"] | None = None,
        *,
        deterministic: bool = True,
        layers: bool = False,
    ) -> EncoderOutput:
        """Encodes patches with positions, all or some of them; arguments as in `__call__`."""
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
        self,
        tokens: Float[Array, "batch patches width"],
        token_mask: Bool[Array, "batch patches+1"] | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "batch patches+1 width"], list[BlockOutput]]:
        """As `encode_tokens`, but returns the input of the first block and all that each block computes."""
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

    def _read_out(self, features: Tokens, token_mask: TokenMask) -> Float[Array, "batch width"]:
        """The input of the head."""
        if self.config.prediction_mode == "CLS_TOKEN":
            return features[:, 0]
        return masked_mean(features[:, 1:], token_mask[:, 1:])


def parameter_depth(path: str, config: EATConfig) -> int:
    """`layers.depth_of`; the norm before the blocks counts as 0."""
    return depth_of(path, "blocks_", config.depth, "predictor/")


def token_mask(config: EATConfig, frame_mask: Bool[Array, "batch frames"], num_mel_bins: int) -> TokenMask:
    """Real frames to real tokens, CLS True: BEATs' rule for the patches."""
    return _with_class_token(masking.token_mask_from_frames(frame_mask, config.patch_size, num_mel_bins))


def reference_mask(
    config: EATConfig, padding_mask: Bool[Array, "batch entries"], num_frames: int, num_mel_bins: int
) -> TokenMask:
    """A padding mask (True = padding) over frames, or samples in equal runs, to real tokens, CLS True.

    A patch is padding if all of its frames are. EAT's own code never makes a mask; this is how it would read one.
    """
    size = config.patch_size
    steps, rows = num_frames // size, num_mel_bins // size
    frames = masking.reduce_padding_mask(padding_mask, num_frames)[:, : steps * size]
    padding = jnp.all(frames.reshape(frames.shape[0], steps, size), axis=-1)
    return _with_class_token(~jnp.repeat(padding, rows, axis=1))


def _with_class_token(patch_mask: jax.Array) -> jax.Array:
    return jnp.pad(patch_mask, ((0, 0), (1, 0)), constant_values=True)
