"""Convolutional networks as encoders: fbank [B, F, M] → image [B, M, F, C], low frequencies first → maps [B, H, W, D] → tokens.

features [B, T, D] with T = W * H: the positions of the last map, all frequencies of a time step together, as in the transformers;
logits of the mean over the real ones. A time step stands for `patch_of` frames (a last one that is not whole is dropped) and is
real when all of them are. Behind the last real step every map is 0, as at the end of a clip alone, and no batch statistics count
it: a clip gives the same alone and in a padded batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from beats_jax.config import CNNConfig, ResNetConfig
from beats_jax.config.models import ATTENTIVE_HEADS, ConvolutionalConfig
from beats_jax.models import Fbank, TokenMask, Tokens
from beats_jax.models.convnets import AnyMaps, BatchNorm, Columns, Maps, ResNet18, conv, max_pool
from beats_jax.models.cpu import Form
from beats_jax.models.heads import AttentiveHead, EncoderOutput, masked_mean
from beats_jax.models.layers import Linear, depth_of, torch_bias, torch_kernel
from beats_jax.models.masking import reduce_padding_mask, token_mask_from_frames
from beats_jax.models.statistics import WithStatistics

RESNET_PATCH = 32
RESNET_STAGES = 4


class ConvolutionalEncoder(nn.Module):
    """What the families share: masks, tokens, time shifts and the head. A family gives `maps`."""

    config: Any  # a ConvolutionalConfig
    dtype: DTypeLike
    form: Form

    def maps(self, image: Maps, train: bool, real: Columns | None) -> Sequence[AnyMaps]:
        """The maps before the first and after every block, the last as the features."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        fbank: Fbank,
        token_mask: TokenMask | None = None,
        *,
        deterministic: bool = True,
        layers: bool = False,
        batch_statistics: bool | None = None,
    ) -> EncoderOutput:
        """Encodes filterbanks.

        Args:
          layers: with the maps before the first and after every block, averaged over the cells of the tokens, their missing
            channels 0.
          batch_statistics: normalise by this batch (True) or by the running statistics (False); None = by the batch in training.
        """
        config, steps, patch = self.config, fbank.shape[1] // patch_of(self.config), patch_of(self.config)
        train = not deterministic if batch_statistics is None else batch_statistics
        real = None if token_mask is None else jnp.any(token_mask.reshape(len(token_mask), steps, -1), axis=2)
        fbank = fbank[:, : steps * patch]
        if real is not None:
            fbank = jnp.where(jnp.repeat(real, patch, axis=1)[:, :, None], fbank, 0.0)
        shifts = 1 if train else config.time_shifts
        if shifts > 1:
            fbank, real = _shifted(fbank, real, shifts, patch)
        states = self.maps(jnp.swapaxes(fbank, 1, 2)[..., None].astype(self.dtype), train, real)
        features = _tokens(states[-1]).astype(jnp.float32)
        rows = states[-1].shape[1]
        mask = jnp.ones(features.shape[:2], bool) if real is None else jnp.repeat(real, rows, axis=1)
        logits = None
        if config.predictor_class:
            kept = nn.Dropout(config.dropout, broadcast_dims=(1,))(features, deterministic=deterministic)
            if config.head == "attentive":
                logits = AttentiveHead(config.predictor_class, ATTENTIVE_HEADS, self.dtype, name="predictor")(kept, mask)
            else:
                width = features.shape[-1]
                head = Linear(config.predictor_class, self.dtype, torch_kernel(), torch_bias(width), name="predictor")
                logits = head(masked_mean(kept, mask))
            logits = jnp.mean(logits.reshape(shifts, -1, config.predictor_class), axis=0)
        clips = len(features) // shifts
        shown = jnp.stack([_on_tokens(one[:clips], states[-1][:clips]) for one in states]) if layers else None
        return EncoderOutput(features[:clips], mask[:clips], shown, logits)


class CNN(ConvolutionalEncoder):
    """A convolution of stride 2 with norm and ReLU, then blocks of 2 x 2 maximum, convolution, norm and ReLU."""

    def maps(self, image: Maps, train: bool, real: Columns | None) -> Sequence[AnyMaps]:
        stem, *widths = self.config.widths
        x = conv(stem, self.config.stem_kernel, 2, self.dtype, "stem", self.form)(image)
        states = [nn.relu(BatchNorm(name="stem_norm")(x, train, real))]
        for i, width in enumerate(widths):
            states.append(_Block(width, self.config.kernel, self.dtype, self.form, name=f"blocks_{i}")(states[-1], train, real))
        return states


class _Block(nn.Module):
    width: int
    kernel: int
    dtype: DTypeLike
    form: Form

    @nn.compact
    def __call__(self, x: AnyMaps, train: bool, real: Columns | None) -> Maps:
        x = conv(self.width, self.kernel, 1, self.dtype, "conv", self.form)(max_pool(x))
        return nn.relu(BatchNorm(name="norm")(x, train, real))


class ResNet(ConvolutionalEncoder):
    """ResNet-18; the fbank is each of its three colours, at unit variance as those of ImageNet, or holds them side by side."""

    def maps(self, image: Maps, train: bool, real: Columns | None) -> Sequence[AnyMaps]:
        network = ResNet18(replace(self.config, predictor_class=0), self.dtype, self.form)
        nn.share_scope(self, network)
        image = 2 * image  # a normalised fbank has a standard deviation of 1/2
        if self.config.colours == 3:  # [B, 3 M, F, 1]: the rows of one image under those of the other
            image = jnp.moveaxis(image.reshape(len(image), 3, -1, image.shape[2]), 1, 3)
        else:
            image = jnp.repeat(image, 3, axis=3)
        out = network(image, train, real)
        return (out.stem, *out.stages)


def build(config: ConvolutionalConfig, dtype: DTypeLike, form: Form) -> Any:
    """The encoder of a configuration, its batch statistics among the parameters."""
    module = ResNet if isinstance(config, ResNetConfig) else CNN
    return WithStatistics(module(config, dtype, form))


def patch_of(config: ConvolutionalConfig) -> int:
    """Frames of a time step."""
    return 2 ** len(config.widths) if isinstance(config, CNNConfig) else RESNET_PATCH


def rows_of(config: ConvolutionalConfig, num_mel_bins: int) -> int:
    """Frequencies of the last map."""
    if not isinstance(config, CNNConfig):
        return -(-num_mel_bins // RESNET_PATCH)
    rows = -(-num_mel_bins // 2)
    for _ in config.widths[1:]:
        rows = max(1, rows // 2)
    return rows


def blocks_of(config: ConvolutionalConfig) -> int:
    """Blocks of a CNN, stages of a ResNet."""
    return len(config.widths) - 1 if isinstance(config, CNNConfig) else RESNET_STAGES


def width_of(config: ConvolutionalConfig) -> int:
    """Channels of the last map."""
    if isinstance(config, CNNConfig):
        return config.widths[-1]
    assert isinstance(config, ResNetConfig)
    return 8 * config.width


def token_mask(config: ConvolutionalConfig, frame_mask: Bool[Array, "batch frames"], num_mel_bins: int) -> TokenMask:
    """Real frames to real tokens: the rule of BEATs (`masking.token_mask_from_frames`)."""
    patch = patch_of(config)
    return token_mask_from_frames(frame_mask, patch, patch * rows_of(config, num_mel_bins))


def reference_mask(
    config: ConvolutionalConfig, padding_mask: Bool[Array, "batch entries"], num_frames: int, num_mel_bins: int
) -> TokenMask:
    """There is no published rule: that of BEATs, all frequencies of a time step together."""
    padding = reduce_padding_mask(reduce_padding_mask(padding_mask, num_frames), num_frames // patch_of(config))
    return jnp.repeat(~padding, rows_of(config, num_mel_bins), axis=1)


def parameter_depth(path: str, config: ConvolutionalConfig) -> int:
    """`layers.depth_of`: by blocks of a CNN, by stages of a ResNet."""
    if isinstance(config, CNNConfig):
        return depth_of(path, "blocks_", blocks_of(config), "predictor")
    return depth_of(re.sub(r"^layer(\d)_", lambda found: f"{int(found[1]) - 1}/", path), "", RESNET_STAGES, "predictor")


def _shifted(
    fbank: Fbank, real: Columns | None, shifts: int, patch: int
) -> tuple[Float[Array, "turned frames bins"], Bool[Array, "turned _"] | None]:
    """The real frames of every clip turned in a circle by k / `shifts` of their number: the batches of all k, joined."""
    batch, frames, _ = fbank.shape
    length = jnp.full(batch, frames) if real is None else patch * jnp.sum(real, axis=1)
    place = jnp.arange(frames)[None, :]
    parts = []
    for k in range(shifts):
        turned = (place - (length * k // shifts)[:, None]) % jnp.maximum(length, 1)[:, None]
        source = jnp.where(place < length[:, None], turned, place)
        parts.append(jnp.take_along_axis(fbank, source[:, :, None], axis=1))
    return jnp.concatenate(parts), None if real is None else jnp.tile(real, (shifts, 1))


def _tokens(maps: Maps) -> Tokens:
    batch, rows, steps, width = maps.shape
    return jnp.swapaxes(maps, 1, 2).reshape(batch, steps * rows, width)


def _on_tokens(maps: Maps, last: AnyMaps) -> Tokens:
    """Maps of an earlier block, averaged over the cells of the last map, with zeros for the channels that they lack."""
    batch, rows, steps, width = last.shape
    high, wide, channels = maps.shape[1] // rows, maps.shape[2] // steps, maps.shape[3]
    cells = maps[:, : rows * high, : steps * wide].reshape(batch, rows, high, steps, wide, channels)
    cells = jnp.mean(cells.astype(jnp.float32), axis=(2, 4))
    return _tokens(jnp.pad(cells, ((0, 0), (0, 0), (0, 0), (0, width - channels))))
