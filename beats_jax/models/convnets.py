"""ResNet-18 as torchvision has it (arXiv 1512.03385; torchvision models/resnet.py), for few-shot learning on spectrogram images.

images [N, H, W, 3] → maps [N, H / 32, W / 32, 8 width] → pooled [N, 8 width] → logits [N, C]. Batch statistics are the collection
`batch_stats`: with `train=True` and that collection mutable, `apply` returns the updated ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.config.rules import require

BLOCKS = (2, 2, 2, 2)  # residual blocks of each stage: the 18 of ResNet-18 with the first convolution and the classifier
EPSILON = 1e-5
MOMENTUM = 0.1  # share of a batch in the running statistics (torch's convention)

Maps = Float[Array, "images height width channels"]

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a ResNet-18; those of ImageNet by default."""

    width: int = 64  # channels of the first stage, doubled by each that follows
    num_classes: int = 1000  # of the head; 0 = no head

    def __post_init__(self) -> None:
        require(self.width >= 1, f"width is {self.width}; it must be positive")
        require(self.num_classes >= 0, f"num_classes is {self.num_classes}; it must not be negative")


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

    Parameters `scale`, `bias` [D]; statistics `mean`, `var` [D] and `count` [] (int32, batches seen).
    """

    momentum: float = MOMENTUM

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (width,))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        var = self.variable("batch_stats", "var", jnp.ones, (width,))
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        used_mean, used_var = mean.value, var.value
        if train:
            used_mean, used_var, unbiased = batch_statistics(x)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                mean.value = (1 - self.momentum) * mean.value + self.momentum * used_mean
                var.value = (1 - self.momentum) * var.value + self.momentum * unbiased
                count.value = count.value + 1
        row = (None, None, None, slice(None))
        return (x - used_mean[row]) * (jax.lax.rsqrt(used_var + EPSILON) * scale)[row] + bias[row]


def batch_statistics(x: Maps) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, biased and unbiased variance of each channel of [N, H, W, D].

    Raises:
      UserError: a single value a channel, which has no unbiased variance.
    """
    mean = jnp.mean(x, axis=(0, 1, 2))
    centred = x - mean[None, None, None]
    biased = jnp.mean(centred * centred, axis=(0, 1, 2))
    values = x.size // x.shape[-1]
    require(values > 1, "batch statistics need more than one value a channel; take larger images or more of them")
    return mean, biased, biased * values / (values - 1)


def _conv(features: int, kernel: int, stride: int, name: str | None = None) -> nn.Conv:
    """Without bias, and padded on both sides alike, as torch does (XLA's SAME is not, at stride 2)."""
    padding = kernel // 2
    return nn.Conv(
        features, (kernel, kernel), (stride, stride), ((padding, padding),) * 2, use_bias=False, kernel_init=_kaiming, name=name
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual: returns the block's output, its state before the residual, and conv2's own."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "images _ _ _"], train: bool) -> tuple[Maps, Maps, Maps]:
        y = nn.relu(BatchNorm(name="bn1")(_conv(self.features, 3, self.stride, "conv1")(x), train))
        before_norm = _conv(self.features, 3, 1, "conv2")(y)
        before_residual = BatchNorm(name="bn2")(before_norm, train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = BatchNorm(name="downsample_bn")(_conv(self.features, 1, self.stride, "downsample_conv")(x), train)
        return nn.relu(before_residual + x), before_residual, before_norm


class ResNet18(nn.Module):
    """ResNet-18 with the parameters and statistics of torchvision's, channels last."""

    config: ResNetConfig = ResNetConfig()

    @nn.compact
    def __call__(self, images: Maps, train: bool = False) -> ResNetOutput:
        """Encodes images.

        Args:
          images: float32 [N, H, W, channels], normalised as the weights expect (ImageNet: mean and std of each colour).
          train: normalise by the batch instead of the running statistics.
        """
        x = nn.relu(BatchNorm(name="bn1")(_conv(self.config.width, 7, 2, "conv1")(images), train))
        stem = x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # type: ignore[arg-type]  # pads by -inf
        stages, blocks = [], {}
        for stage, count in enumerate(BLOCKS, start=1):
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                block = BasicBlock(self.config.width * 2 ** (stage - 1), stride, name=f"layer{stage}_{i}")
                x, *blocks[stage, i] = block(x, train)
            stages.append(x)
        pooled = jnp.mean(x, axis=(1, 2))
        logits = nn.Dense(self.config.num_classes, name="fc")(pooled) if self.config.num_classes else None
        return ResNetOutput(stem, tuple(stages), blocks[4, 1][0], blocks[4, 0][1], pooled, logits)
