"""Autoencoders of spectrograms: images [N, bands, frames], classes [N] ↔ codes [N, Z].

Plain, variational (Kingma & Welling, arXiv 1312.6114) and adversarial ones (Makhzani et al., arXiv 1511.05644) share networks.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.generative.layers import Images, Labels, Painter, Tower

LOG_VARIANCE_RANGE = (-12.0, 6.0)
ACTIVE = 0.01  # variance of a unit's mean over images above which it counts as active (Burda et al., arXiv 1509.00519)


class Posterior(NamedTuple):
    """A normal distribution over codes for each image, float32 [N, Z] both; of a plain autoencoder only the mean counts."""

    mean: jax.Array
    log_variance: jax.Array


class Autoencoder(nn.Module):
    """Encoder and decoder; both read the class.

    Attributes:
      likelihood: the decoder has one learnt standard deviation for each band (arXiv 2006.13202), as a VAE needs.
    """

    width: int
    latent: int
    classes: int
    bands: int
    frames: int
    likelihood: bool

    def setup(self) -> None:
        self.encoder = Tower(self.width, self.classes, normalise=True)
        self.to_posterior = nn.Dense(2 * self.latent if self.likelihood else self.latent)
        self.decoder = Painter(self.width, self.classes, self.bands, self.frames)
        if self.likelihood:
            self.log_deviation = self.param("log_deviation", nn.initializers.constant(-1.0), (self.bands,))

    def encode(self, images: Images, labels: Labels) -> Posterior:
        """The distribution of each image's code."""
        found = self.to_posterior(self.encoder(images, labels))
        mean, log_variance = jnp.split(found, 2, axis=-1) if self.likelihood else (found, jnp.zeros_like(found))
        return Posterior(mean, jnp.clip(log_variance, *LOG_VARIANCE_RANGE))

    def decode(self, codes: Float[Array, "images Z"], labels: Labels) -> Images:
        """The mean image of each code."""
        return self.decoder(codes, labels)

    def __call__(self, images: Images, labels: Labels, noise: Float[Array, "images Z"]) -> tuple[Images, Posterior]:
        """Images decoded from codes drawn with the standard normal `noise`, and the distributions; zeros take the means."""
        posterior = self.encode(images, labels)
        return self.decode(posterior.mean + jnp.exp(posterior.log_variance / 2) * noise, labels), posterior


class CodeCritic(nn.Module):
    """Codes [N, Z] and classes [N] → logits [N] of having been drawn from the prior and not made by the encoder."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, codes: Float[Array, "images Z"], labels: Labels) -> Float[Array, " images"]:
        x = jnp.concatenate([codes, nn.Embed(self.classes, 8)(labels)], axis=-1)
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(self.width)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


def divergence_from_prior(posterior: Posterior) -> Float[Array, "images Z"]:
    """Kullback-Leibler divergence from the standard normal distribution for each unit, in nats (1312.6114, appendix B)."""
    mean, log_variance = posterior
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)


def negative_log_likelihood(images: Images, means: Images, log_deviation: Float[Array, " bands"]) -> Float[Array, " images"]:
    """Of each image under independent normal pixels, in nats, without the constant ln(2 pi) / 2 a pixel."""
    scaled = (images - means) * jnp.exp(-log_deviation)[None, :, None]
    return jnp.sum(0.5 * jnp.square(scaled) + log_deviation[None, :, None], axis=(1, 2))
