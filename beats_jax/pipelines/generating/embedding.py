"""The embedding by which images are compared where no other is given.

A convolutional network with fixed random weights (Naeem et al., arXiv 2002.09797, section 4.2) sees textures and levels: networks
trained on photographs or speech know nothing of these images. Principal components of the training images see where in frequency
and time they vary, which the network's means over the image do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.evaluation.embeddings.maps import threads_for
from beats_jax.models.generative.layers import convolution, fold
from beats_jax.pipelines.generating.scaling import Scaling

COMPONENTS = 64
NAME = f"random convolutions (3 layers, mean and deviation of 64 maps) and {COMPONENTS} principal components of training images"
MOST_FITTED = 4000  # images of which the components are found
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


def fit_embedding(images: np.ndarray, scaling: Scaling) -> Callable[[np.ndarray], np.ndarray]:
    """The embedding fitted to training images, of images [N, bands, frames] in the same units: float32 [N, 128 + 64]."""
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).permutation(len(images))[:MOST_FITTED]
    flat = scaling.to_network(images[rows]).reshape(len(rows), -1)
    with threads_for(1):
        components = PCA(min(COMPONENTS, *flat.shape), svd_solver="randomized", random_state=0).fit(flat)

    def embed(own: np.ndarray) -> np.ndarray:
        scaled = scaling.to_network(own)
        return np.hstack([embed_images(scaled), components.transform(scaled.reshape(len(scaled), -1))])

    return embed


def embed_images(images: np.ndarray) -> np.ndarray:
    """The random network's part, of images in the units of the networks (`Scaling.to_network`), float32 [N, 128]."""
    network = _network(*images.shape[1:])
    found = []
    for start in range(0, len(images), AT_ONCE):
        own = images[start : start + AT_ONCE]
        filled = np.concatenate([own, np.zeros((AT_ONCE - len(own), *own.shape[1:]), np.float32)])
        found.append(np.asarray(network(filled))[: len(own)])
    return np.concatenate(found)
