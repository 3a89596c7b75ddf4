"""The embedding by which images are compared where no other is given: a convolutional network with fixed random weights.

Networks trained on photographs or speech know nothing of these images, and one trained on them would differ from study to study.
Random weights keep figures comparable between runs and data sets (Naeem et al., arXiv 2002.09797, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.models.generative.layers import convolution, fold

NAME = "random convolutions (seed 0, 3 layers, mean and deviation of 64 maps)"
CHANNELS = (32, 64, 64)
AT_ONCE = 256


class RandomNetwork(nn.Module):
    """Images [N, bands, frames] → float32 [N, 128]."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None]
        for features in CHANNELS:
            x = nn.leaky_relu(convolution(features, scale=2.0)(fold(x)), 0.2)
        return jnp.concatenate([jnp.mean(x, axis=(1, 2)), jnp.std(x, axis=(1, 2))], axis=-1)


@cache
def _network(bands: int, frames: int) -> Callable[[np.ndarray], jax.Array]:
    module = RandomNetwork()
    params = module.init(jax.random.key(0), jnp.zeros((1, bands, frames)))
    return jax.jit(lambda images: module.apply(params, images))


def embed_images(images: np.ndarray) -> np.ndarray:
    """Embeddings of images in the units of the networks (`Scaling.to_network`), float32 [N, 128]."""
    network = _network(*images.shape[1:])
    found = []
    for start in range(0, len(images), AT_ONCE):
        own = images[start : start + AT_ONCE]
        filled = np.concatenate([own, np.zeros((AT_ONCE - len(own), *own.shape[1:]), np.float32)])
        found.append(np.asarray(network(filled))[: len(own)])
    return np.concatenate(found)
