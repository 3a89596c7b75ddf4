"""The relation module (Sung et al. 2018) as darksound and easyfsl have it, on maps of any size.

Letters: see `models.fewshot`.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.convnets import BatchNorm
from beats_jax.models.fewshot import Scores
from beats_jax.models.layers import larger, torch_bias, torch_kernel

GRID = 5  # cells on a side after the first block
HIDDEN = 8

Maps = Float[Array, "_ height width channels"]
SupportMaps = Float[Array, "ways shots height width channels"]


def map_prototypes(support: SupportMaps) -> Maps:
    """The mean map of each class (the paper takes the sum)."""
    return jnp.mean(support, axis=1)


def adaptive_max_pool(maps: Maps, size: int) -> Float[Array, "_ _ _ channels"]:
    """torch's: cell i is the maximum over rows floor(i h / size) to ceil((i + 1) h / size), columns alike; cells may overlap."""
    for axis in (1, 2):
        length = maps.shape[axis]
        cells = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        maps = jnp.stack([maximum_along(jax.lax.slice_in_dim(maps, *cell, axis=axis), axis) for cell in cells], axis)
    return maps


def maximum_along(x: jax.Array, axis: int) -> jax.Array:
    """The maximum along a short axis, which is dropped."""
    return reduce(larger, (jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])))


class RelationModule(nn.Module):
    """How well each query goes with each class, in 0 to 1: trained by mean squared error to one-hot answers.

    Batch statistics are in the collection `batch_stats`; with `train` and that collection mutable the last batch replaces them
    (torch's momentum 1). A batch is all query-class pairs of an episode.
    """

    channels: int

    @nn.compact
    def __call__(self, support: SupportMaps, query: Maps, train: bool = False) -> Scores:
        queries, ways, channels = query.shape[0], support.shape[0], self.channels
        x = self._pairs(map_prototypes(support), query)
        x = adaptive_max_pool(nn.relu(BatchNorm(1.0, name="bn1")(x, train)), GRID)
        kernel, bias = torch_kernel(), torch_bias(9 * channels)
        x = nn.Conv(channels, (3, 3), padding="VALID", kernel_init=kernel, bias_init=bias, name="conv2")(x)
        x = maximum_along(maximum_along(nn.relu(BatchNorm(1.0, name="bn2")(x, train)), 2), 1)
        x = nn.relu(nn.Dense(HIDDEN, kernel_init=kernel, bias_init=torch_bias(channels), name="hidden")(x))
        x = nn.Dense(1, kernel_init=kernel, bias_init=torch_bias(HIDDEN), name="score")(x)
        return jax.nn.sigmoid(x).reshape(queries, ways)

    def _pairs(self, prototypes: Maps, query: Maps) -> Maps:
        """The first convolution of every pair (prototype, query), query by query: [Q W, H, W', C].

        A convolution of joined channels is the sum of two convolutions, so that W + Q maps are convolved, not W Q pairs.
        """
        joined, channels = 2 * self.channels, self.channels
        kernel = self.param("conv1_kernel", torch_kernel(), (3, 3, joined, channels))
        bias = self.param("conv1_bias", torch_bias(9 * joined), (channels,))

        def convolve(maps: Maps, weights: Any) -> Any:
            return jax.lax.conv_general_dilated(maps, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

        own = convolve(prototypes, kernel[:, :, :channels])
        other = convolve(query, kernel[:, :, channels:])
        pairs = other[:, None] + own[None] + bias[None, None, None, None]
        return pairs.reshape(-1, *pairs.shape[2:])
