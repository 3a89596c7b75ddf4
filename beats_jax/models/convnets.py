"""ResNet-18 as torchvision has it (arXiv 1512.03385; torchvision models/resnet.py), for spectrograms read as images.

images [N, H, W, 3] → maps [N, H / 32, W / 32, 8 width] → pooled [N, 8 width] → logits [N, C]. Batch statistics are the collection
`batch_stats`: with `train=True` and that collection mutable, `apply` returns the updated ones. `models.cnn` has the encoders of
filterbanks that are made of it.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from beats_jax.config import ResNetConfig
from beats_jax.config.rules import require
from beats_jax.models.cpu import Form, convolve_2d
from beats_jax.models.layers import larger

BLOCKS = (2, 2, 2, 2)  # residual blocks of each stage: the 18 of ResNet-18 with the first convolution and the classifier
EPSILON = 1e-5
MOMENTUM = 0.1  # share of a batch in the running statistics (torch's convention)

Maps = Float[Array, "images high wide channels"]
AnyMaps = Float[Array, "images _ _ _"]  # beside others of other sizes
Columns = Bool[Array, "images columns"]  # True = sound; `columns` divides the width of every map

kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNetOutput(NamedTuple):
    """What few-shot networks read, float32, N images first."""

    stem: Maps  # [N, H/4, W/4, width], after the first pooling
    stages: tuple[Maps, ...]  # four: [N, H/4, W/4, width] to [N, H/32, W/32, 8 width]
    before_residual: Maps  # like the last stage: its last block before residual and ReLU (torchvision layer4.1.bn2)
    before_norm: Maps  # like the last stage: its first block's second convolution (torchvision layer4.0.conv2)
    pooled: Float[Array, "images channels"]  # [N, 8 width]
    logits: Float[Array, "images classes"] | None  # None without a head


class BatchNorm(nn.Module):
    """Batch normalisation by torch's rule: a batch is normalised by its biased variance, the running one takes the unbiased.

    Parameters `scale`, `bias` [D]; statistics `mean`, `var` [D] and `count` [] (int32, batches seen). A batch of less than two
    real values a channel leaves the statistics unchanged.
    """

    momentum: float = MOMENTUM

    @nn.compact
    def __call__(self, x: Maps, train: bool, real: Columns | None = None) -> Maps:
        """Normalises `x`. Columns that are not `real` do not count and become 0; one of `real` stands for several of `x`."""
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (width,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        var = self.variable("batch_stats", "var", jnp.ones, (width,))
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        used_mean, used_var = mean.value, var.value
        mask = None if real is None else column_mask(real, x)
        if train:
            used_mean, used_var, values = batch_statistics(x, mask)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                share = jnp.where(values > 1, self.momentum, 0.0)
                unbiased = used_var * values / jnp.maximum(values - 1, 1)
                mean.value = (1 - share) * mean.value + share * used_mean
                var.value = (1 - share) * var.value + share * unbiased
                count.value = count.value + (values > 1)
        row = (None, None, None, slice(None))
        y = (x.astype(jnp.float32) - used_mean[row]) * (jax.lax.rsqrt(used_var + EPSILON) * scale)[row] + bias[row]
        return (y if mask is None else jnp.where(mask, y, 0.0)).astype(x.dtype)


def column_mask(real: Columns, maps: Maps) -> Bool[Array, "images 1 wide 1"]:
    """The real columns of `maps`, each of `real` standing for a run of them."""
    return jnp.repeat(real, maps.shape[2] // real.shape[1], axis=1)[:, None, :, None]


def batch_statistics(
    x: Maps, mask: Bool[Array, "images 1 wide 1"] | None = None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"], Float[Array, ""]]:
    """Mean and biased variance of each channel over the values where the mask is True, and how many these are.

    Raises:
      UserError: a single value a channel, which has no unbiased variance.
    """
    x = x.astype(jnp.float32)
    if mask is None:
        values = x.size // x.shape[-1]
        require(values > 1, "batch statistics need more than one value a channel; take larger images or more of them")
        mean = jnp.mean(x, axis=(0, 1, 2))
        centred = x - mean[None, None, None]
        return mean, jnp.mean(centred * centred, axis=(0, 1, 2)), jnp.asarray(values, jnp.float32)
    values = jnp.sum(mask).astype(jnp.float32) * x.shape[1]
    share = 1 / jnp.maximum(values, 1)
    mean = share * jnp.sum(jnp.where(mask, x, 0.0), axis=(0, 1, 2))
    centred = jnp.where(mask, x - mean[None, None, None], 0.0)
    return mean, share * jnp.sum(centred * centred, axis=(0, 1, 2)), values


def conv(features: int, kernel: int, stride: int, dtype: DTypeLike, name: str, form: Form) -> nn.Conv:
    """Without bias, and padded on both sides alike, as torch does (XLA's SAME is not, at stride 2)."""
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        ((kernel // 2, kernel // 2),) * 2,
        use_bias=False,
        kernel_init=kaiming,
        dtype=dtype,
        conv_general_dilated=partial(convolve_2d, form=form),
        name=name,
    )


def max_pool(x: AnyMaps) -> AnyMaps:
    """2 x 2 maximum by reshaping, odd rests dropped; an axis of one stays. On CPUs `nn.max_pool` is 7 times slower backwards."""
    n, height, width, channels = x.shape
    rows, columns = min(2, height), min(2, width)
    x = x[:, : height // rows * rows, : width // columns * columns]
    x = x.reshape(n, height // rows, rows, width // columns, columns, channels)
    return reduce(larger, (x[:, :, row, :, column] for row in range(rows) for column in range(columns)))


def overlapping_max_pool(x: AnyMaps) -> AnyMaps:
    """3 x 3 maximum at stride 2 with one row and column of padding, as torch's `MaxPool2d(3, 2, 1)`, for the same reason."""
    return _pool_columns(_pool_columns(x).swapaxes(1, 2)).swapaxes(1, 2)


def _pool_columns(x: AnyMaps) -> AnyMaps:
    x = jnp.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, 0)), constant_values=-jnp.inf)
    even, odd = x[:, :, 0::2], x[:, :, 1::2]
    before = jnp.pad(odd, ((0, 0), (0, 0), (1, 0), (0, 0)), constant_values=-jnp.inf)[:, :, :-1]
    return larger(larger(before, even), odd)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual: returns the block's output, its state before the residual, and conv2's own."""

    features: int
    stride: int
    dtype: DTypeLike
    form: Form = Form.AUTO

    @nn.compact
    def __call__(self, x: AnyMaps, train: bool, real: Columns | None = None) -> tuple[Maps, Maps, Maps]:
        y = nn.relu(BatchNorm(name="bn1")(conv(self.features, 3, self.stride, self.dtype, "conv1", self.form)(x), train, real))
        before_norm = conv(self.features, 3, 1, self.dtype, "conv2", self.form)(y)
        before_residual = BatchNorm(name="bn2")(before_norm, train, real)
        if self.stride != 1 or x.shape[-1] != self.features:
            narrowed = conv(self.features, 1, self.stride, self.dtype, "downsample_conv", self.form)(x)
            x = BatchNorm(name="downsample_bn")(narrowed, train, real)
        return nn.relu(before_residual + x), before_residual, before_norm


class ResNet18(nn.Module):
    """ResNet-18 with the parameters and statistics of torchvision's, channels last."""

    config: ResNetConfig = ResNetConfig(predictor_class=1000)
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    @nn.compact
    def __call__(self, images: Maps, train: bool = False, real: Columns | None = None) -> ResNetOutput:
        """Encodes images.

        Args:
          images: float32 [N, H, W, channels], normalised as the weights expect (ImageNet: mean and std of each colour).
          train: normalise by the batch instead of the running statistics.
          real: bool [N, W / 32]: the others of 32 columns are padding, which must be 0 in `images`, counts for nothing and is 0
            in all maps.
        """
        x = nn.relu(BatchNorm(name="bn1")(conv(self.config.width, 7, 2, self.dtype, "conv1", self.form)(images), train, real))
        x = overlapping_max_pool(x)
        stem = x = x if real is None else jnp.where(column_mask(real, x), x, 0)  # its windows reach beyond the end of the sound
        stages, blocks = [], {}
        for stage, count in enumerate(BLOCKS, start=1):
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                block = BasicBlock(self.config.width * 2 ** (stage - 1), stride, self.dtype, self.form, name=f"layer{stage}_{i}")
                x, *blocks[stage, i] = block(x, train, real)
            stages.append(x)
        pooled = jnp.mean(x, axis=(1, 2))
        classes = self.config.predictor_class
        logits = nn.Dense(classes, name="predictor")(pooled) if classes else None
        return ResNetOutput(stem, tuple(stages), blocks[4, 1][0], blocks[4, 0][1], pooled, logits)
