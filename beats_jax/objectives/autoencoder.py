"""Autoencoders of spectrograms as generators: plain, variational, adversarial.

vae: loss = -log p(x | z) + beta(step) * KL(q(z | x) || N(0, I)), z drawn from q
aae: three turns a step: reconstruction, the critic of codes (prior against q), the encoder against the critic
ae:  squared error

Codes are drawn from a normal distribution fitted to those of each class (arXiv 1903.12436): the codes of all images together
are not distributed quite like the prior, and images of codes between them are too much alike.
A decoder gives mean images, smoother than any real spectrogram. What is drawn gets a texture like what the decoder leaves out of
training images: the residuals' spectrum over frequency and time, their deviation in each band and their distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import AutoencoderConfig, Experiment
from beats_jax.models.generative.autoencoder import (
    ACTIVE,
    Autoencoder,
    CodeCritic,
    Posterior,
    divergence_from_prior,
    negative_log_likelihood,
)
from beats_jax.objectives.images import GeneratorState, ImageBatch, ImageObjective, build_arguments, mean_of, take_turn
from beats_jax.objectives.metrics import Metrics, once
from beats_jax.objectives.state.state import Params

QUANTILES = 65  # of the residuals' distribution, at normal scores evenly spaced from -WIDEST to WIDEST
WIDEST = 4.0
SHRINKAGE = 0.05  # of a class's covariance of codes towards its diagonal: a class with few images has no full one


@dataclass(frozen=True, eq=False, kw_only=True)
class AutoencoderTraining(ImageObjective):
    """`warmup_steps`: updates over which beta rises. The parameters are `model`, and `critic` (aae)."""

    config: AutoencoderConfig
    warmup_steps: int

    @property
    def model(self) -> Autoencoder:
        """Encoder and decoder."""
        config = self.config
        return Autoencoder(config.width, config.latent, self.classes, *self.size, likelihood=config.kind == "vae")

    @property
    def critic(self) -> CodeCritic:
        """The critic of codes."""
        return CodeCritic(self.config.critic_width, self.classes)

    def init(self, key: jax.Array, batch: ImageBatch) -> GeneratorState:
        """See `Learner`."""
        model_key, critic_key, run_key = jax.random.split(key, 3)
        codes = jnp.zeros((batch["labels"].shape[0], self.config.latent))
        params = {"model": self.model.init(model_key, batch["images"], batch["labels"], codes)["params"]}
        turns = {"reconstruction": {"model": params["model"]}}
        if self.config.kind == "aae":
            params["critic"] = self.critic.init(critic_key, codes, batch["labels"])["params"]
            turns |= {"critic": {"critic": params["critic"]}, "fooling": {"model": params["model"]}}
        return self.start(params, run_key, turns)

    def update(self, state: GeneratorState, batch: ImageBatch) -> tuple[GeneratorState, Metrics]:
        """See `Learner`."""
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), 2)
        shape = batch["labels"].shape[0], self.config.latent
        noise = jax.random.normal(keys[0], shape) if self.config.kind == "vae" else jnp.zeros(shape)
        beta = self.config.beta * jnp.minimum(1.0, (state.step + 1) / max(1, self.warmup_steps))
        loss = lambda params: self._loss(params, batch, noise, beta)  # noqa: E731
        state, metrics = take_turn(state, "reconstruction", ("model",), loss, self.optimizer)
        metrics["gradient_norm"] = metrics.pop("reconstruction_gradient_norm")
        if self.config.kind == "vae":
            metrics["beta"] = once(beta)
        if self.config.kind == "aae":
            prior = jax.random.normal(keys[1], shape)
            critic_loss = lambda params: self._critic_loss(params, batch, prior)  # noqa: E731
            state, critic = take_turn(state, "critic", ("critic",), critic_loss, self.optimizer)
            fooling_loss = lambda params: self._fooling_loss(params, batch)  # noqa: E731
            state, fooling = take_turn(state, "fooling", ("model",), fooling_loss, self.optimizer, self.config.fooling)
            metrics |= critic | fooling
        return self.end_step(state), metrics

    def evaluate(self, weights: Params, batch: ImageBatch) -> Metrics:
        """`loss` with the full beta, its parts, and the active units; codes are the means."""
        noise = jnp.zeros((batch["labels"].shape[0], self.config.latent))
        return self._loss(weights, batch, noise, jnp.asarray(self.config.beta))[1]

    def finish(self, weights: Params, batch: ImageBatch) -> Params:
        """Adds `texture` and `codes`, the distribution of each class's codes, where they are drawn with."""
        posterior = self.encode(weights, batch)
        # Codes of a VAE as it decodes them, drawn: those of the means are fewer, and their images sharper
        noise = jax.random.normal(jax.random.key(0), posterior.mean.shape) if self.config.kind == "vae" else 0.0
        codes = posterior.mean + jnp.exp(posterior.log_variance / 2) * noise
        finished = dict(weights)
        if self.config.texture:
            finished["texture"] = measure_texture(batch["images"] - self.decode(weights, codes, batch["labels"]))
        if self.config.codes == "fitted":
            finished["codes"] = measure_codes(codes, batch["labels"], self.classes)
        return finished

    def draw(self, weights: Params, key: jax.Array, labels: jax.Array) -> jax.Array:
        """See `ImageObjective`."""
        code_key, texture_key = jax.random.split(key)
        codes = jax.random.normal(code_key, (len(labels), self.config.latent))
        if "codes" in weights:
            codes = weights["codes"]["mean"][labels] + jnp.einsum("nz,nyz->ny", codes, weights["codes"]["root"][labels])
        images = self.decode(weights, codes, labels)
        return images + draw_texture(weights["texture"], texture_key, len(labels)) if self.config.texture else images

    def decode(self, weights: Params, codes: jax.Array, labels: jax.Array) -> jax.Array:
        """The mean images of codes [N, Z]."""
        return self.model.apply({"params": weights["model"]}, codes, labels, method="decode")  # type: ignore[return-value]

    def encode(self, weights: Params, batch: ImageBatch) -> Posterior:
        """The distribution of each image's code."""
        found: Any = self.model.apply({"params": weights["model"]}, batch["images"], batch["labels"], method="encode")
        return found

    def _loss(self, params: Params, batch: ImageBatch, noise: jax.Array, beta: jax.Array) -> tuple[jax.Array, Metrics]:
        """Mean over the images of the loss, and `loss`, `error` (mean square a pixel), `divergence` (nats), `active_units`."""
        found: Any = self.model.apply({"params": params["model"]}, batch["images"], batch["labels"], noise)
        means, posterior = found
        errors = jnp.mean(jnp.square(batch["images"] - means), axis=(1, 2))
        metrics = {"error": mean_of(errors), "active_units": once(active_units(posterior.mean))}
        losses = errors
        if self.config.kind == "vae":
            divergences = jnp.sum(divergence_from_prior(posterior), axis=-1)
            likelihood = negative_log_likelihood(batch["images"], means, params["model"]["log_deviation"])
            # A pixel, not an image: learning rates and clipping then do not depend on the image's size
            losses = (likelihood + beta * divergences) / (self.size[0] * self.size[1])
            metrics["divergence"] = mean_of(divergences)
        metrics["loss"] = mean_of(losses)
        return jnp.mean(losses), metrics

    def _critic_loss(self, params: Params, batch: ImageBatch, prior: jax.Array) -> tuple[jax.Array, Metrics]:
        codes = jax.lax.stop_gradient(self.encode(params, batch).mean)
        real = self.critic.apply({"params": params["critic"]}, prior, batch["labels"])
        made = self.critic.apply({"params": params["critic"]}, codes, batch["labels"])
        losses = jax.nn.softplus(-real) + jax.nn.softplus(made)  # type: ignore[operator]
        right = 0.5 * ((real > 0).astype(jnp.float32) + (made < 0))  # type: ignore[operator]
        return jnp.mean(losses), {"critic_loss": mean_of(losses), "critic_accuracy": mean_of(right)}

    def _fooling_loss(self, params: Params, batch: ImageBatch) -> tuple[jax.Array, Metrics]:
        codes = self.encode(params, batch).mean
        losses = jax.nn.softplus(-self.critic.apply({"params": params["critic"]}, codes, batch["labels"]))  # type: ignore[operator]
        return jnp.mean(losses), {"fooling_loss": mean_of(losses)}


def active_units(means: jax.Array) -> jax.Array:
    """Units whose mean varies over the images [N, Z] by more than `ACTIVE` (arXiv 1509.00519); near 0 = a collapsed latent."""
    return jnp.sum(jnp.var(means, axis=0) > ACTIVE).astype(jnp.float32)


def measure_codes(codes: jax.Array, labels: jax.Array, classes: int) -> dict[str, jax.Array]:
    """Mean [C, Z] and root of the covariance [C, Z, Z] of each class's codes [N, Z]; a class without images has those of all."""
    member = jax.nn.one_hot(labels, classes)
    member = jnp.where(jnp.sum(member, axis=0, keepdims=True) > 0, member, 1.0)
    member = member / jnp.sum(member, axis=0, keepdims=True)
    mean = member.T @ codes
    centred = codes[None] - mean[:, None]
    covariance = jnp.einsum("nc,cny,cnz->cyz", member, centred, centred)
    unit = jnp.eye(codes.shape[1])[None]
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance * unit + 1e-6 * unit
    return {"mean": mean, "root": jnp.linalg.cholesky(covariance)}


def measure_texture(residuals: jax.Array) -> dict[str, jax.Array]:
    """What `draw_texture` repeats of residuals [N, F, T]: `mean` and `deviation` [F] of each band, `amplitude` [F, T] of the
    spectrum of the standardised residuals, mean square 1, and `quantiles` of their distribution.
    """
    mean, deviation = jnp.mean(residuals, axis=(0, 2)), jnp.std(residuals, axis=(0, 2)) + 1e-6
    standard = (residuals - mean[None, :, None]) / deviation[None, :, None]
    power = jnp.mean(jnp.square(jnp.abs(jnp.fft.fft2(standard))), axis=0)
    shares = jax.scipy.stats.norm.cdf(jnp.linspace(-WIDEST, WIDEST, QUANTILES))
    quantiles = jnp.quantile(standard.reshape(-1)[:: max(1, standard.size // 2**18)], shares)
    return {
        "mean": mean,
        "deviation": deviation,
        "amplitude": jnp.sqrt(power / (jnp.mean(power) + 1e-12)),
        "quantiles": quantiles,
    }


def draw_texture(texture: dict[str, jax.Array], key: jax.Array, count: int) -> jax.Array:
    """Noise [N, F, T] with the spectrum, the distribution and the deviations of `measure_texture`."""
    white = jax.random.normal(key, (count, *texture["amplitude"].shape))
    coloured = jnp.real(jnp.fft.ifft2(jnp.fft.fft2(white) * texture["amplitude"][None]))
    standard = jnp.interp(coloured, jnp.linspace(-WIDEST, WIDEST, QUANTILES), texture["quantiles"])
    return texture["mean"][None, :, None] + texture["deviation"][None, :, None] * standard


def build(experiment: Experiment, optimizer: optax.GradientTransformation, vocabulary: Any, **_: Any) -> AutoencoderTraining:
    """The objective of an experiment; `training.max_steps`, of which `beta_warmup` is a share, must be set.

    Raises:
      UserError: see `images.build_arguments`.
    """
    config = experiment.objective
    assert isinstance(config, AutoencoderConfig)
    steps = round(config.beta_warmup * experiment.training.max_steps)
    return AutoencoderTraining(config=config, warmup_steps=steps, **build_arguments(experiment, vocabulary, optimizer))
