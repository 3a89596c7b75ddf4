"""Diffusion: the denoiser of EDM (arXiv 2206.00364) learns images under noise of every level, with the class or without it.

loss = weight(sigma) * mean over pixels of (D(x + n; sigma, class) - x)^2
n ~ N(0, sigma^2), ln(sigma) ~ N(noise_mean, noise_deviation^2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import DiffusionConfig, Experiment
from beats_jax.models.generative import diffusion
from beats_jax.objectives.images import (
    IMAGE_SPREAD,
    GeneratorState,
    ImageBatch,
    ImageObjective,
    build_arguments,
    mean_of,
    take_turn,
)
from beats_jax.objectives.metrics import Metrics
from beats_jax.objectives.state.state import Params

UNIT = IMAGE_SPREAD / diffusion.SPREAD
LEVELS = 8  # noise levels at which every held-out image is measured, evenly spaced quantiles of those of training


@dataclass(frozen=True, eq=False, kw_only=True)
class DiffusionTraining(ImageObjective):
    """The parameters are `network`."""

    config: DiffusionConfig

    @property
    def network(self) -> diffusion.UNet:
        """Noisy images, noise levels and classes → images."""
        return diffusion.UNet(self.config.width, self.config.blocks, self.classes)

    def init(self, key: jax.Array, batch: ImageBatch) -> GeneratorState:
        """See `Learner`."""
        network_key, run_key = jax.random.split(key)
        levels = jnp.zeros(batch["labels"].shape[0])
        params = {"network": self.network.init(network_key, batch["images"], levels, batch["labels"])["params"]}
        return self.start(params, run_key, {"denoising": params})

    def update(self, state: GeneratorState, batch: ImageBatch) -> tuple[GeneratorState, Metrics]:
        """See `Learner`."""
        level_key, noise_key, hide_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        count = batch["labels"].shape[0]
        sigma = jnp.exp(self.config.noise_mean + self.config.noise_deviation * jax.random.normal(level_key, (count,)))
        hidden = jax.random.bernoulli(hide_key, self.config.unlabelled, (count,))
        labels = jnp.where(hidden, self.classes, batch["labels"])
        noise = jax.random.normal(noise_key, batch["images"].shape)
        loss = lambda params: self._loss(params, batch["images"], labels, sigma, noise)  # noqa: E731
        state, metrics = take_turn(state, "denoising", ("network",), loss, self.optimizer)
        metrics["gradient_norm"] = metrics.pop("denoising_gradient_norm")
        return self.end_step(state), metrics

    def evaluate(self, weights: Params, batch: ImageBatch) -> Metrics:
        """`loss`, every image at one of `LEVELS` noise levels, always with the same noise."""
        count = batch["labels"].shape[0]
        quantiles = jax.scipy.stats.norm.ppf((jnp.arange(count) % LEVELS + 0.5) / LEVELS)
        sigma = jnp.exp(self.config.noise_mean + self.config.noise_deviation * quantiles)
        noise = jax.random.normal(jax.random.key(0), batch["images"].shape)
        return self._loss(weights, batch["images"], batch["labels"], sigma, noise)[1]

    def draw(self, weights: Params, key: jax.Array, labels: jax.Array) -> jax.Array:
        """See `ImageObjective`."""
        noise = jax.random.normal(key, (len(labels), *self.size))
        sampler = diffusion.sample_heun if self.config.sampler == "heun" else diffusion.sample_ddim
        hidden = jnp.full_like(labels, self.classes)

        def denoise(images: jax.Array, sigma: jax.Array) -> jax.Array:
            levels = jnp.full(len(labels), sigma)
            found = self._clean(weights, images, levels, labels)
            if self.config.guidance == 1:
                return found
            return diffusion.guided(found, self._clean(weights, images, levels, hidden), self.config.guidance)

        return sampler(denoise, noise, self.config.steps) * UNIT

    def _clean(self, params: Params, noisy: jax.Array, sigma: jax.Array, labels: jax.Array) -> jax.Array:
        network = partial(self.network.apply, {"params": params["network"]})
        return diffusion.preconditioned(lambda images, level: network(images, level, labels), noisy, sigma)  # type: ignore

    def _loss(
        self, params: Params, images: jax.Array, labels: jax.Array, sigma: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        images = images / UNIT
        clean = self._clean(params, images + sigma[:, None, None] * noise, sigma, labels)
        losses = diffusion.loss_weight(sigma) * jnp.mean(jnp.square(clean - images), axis=(1, 2))
        return jnp.mean(losses), {"loss": mean_of(losses)}


def build(experiment: Experiment, optimizer: optax.GradientTransformation, vocabulary: Any, **_: Any) -> DiffusionTraining:
    """The objective of an experiment. Raises `UserError` as `images.build_arguments` does."""
    config = experiment.objective
    assert isinstance(config, DiffusionConfig)
    return DiffusionTraining(config=config, **build_arguments(experiment, vocabulary, optimizer))
