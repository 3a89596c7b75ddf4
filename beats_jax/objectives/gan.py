"""A class-conditional GAN: the critic's turn, then the generator's, in every step.

critic: hinge mean(max(0, 1 - D(x)) + max(0, 1 + D(G(z)))), or logistic; generator: -mean(D(G(z))), or its logistic counterpart
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import Experiment, GANConfig
from beats_jax.models.generative import gan
from beats_jax.objectives.images import GeneratorState, ImageBatch, ImageObjective, build_arguments, mean_of, take_turn
from beats_jax.objectives.metrics import Metrics, once
from beats_jax.objectives.state.state import Params


@dataclass(frozen=True, eq=False, kw_only=True)
class GANTraining(ImageObjective):
    """The parameters are `generator` and `critic`; with spectral normalisation `norms` holds the critic's vectors."""

    config: GANConfig

    @property
    def generator(self) -> gan.Generator:
        """Codes, classes and noise → images, before tanh."""
        return gan.Generator(self.config.width, self.classes, *self.size)

    @property
    def critic(self) -> gan.Critic:
        """Images and classes → how real they look."""
        return gan.Critic(self.config.width, self.classes)

    def init(self, key: jax.Array, batch: ImageBatch) -> GeneratorState:
        """See `Learner`."""
        generator_key, critic_key, norm_key, run_key = jax.random.split(key, 4)
        codes = jnp.zeros((batch["labels"].shape[0], self.config.latent))
        params = {
            "generator": self.generator.init(generator_key, codes, batch["labels"], batch["images"])["params"],
            "critic": self.critic.init(critic_key, batch["images"], batch["labels"])["params"],
        }
        norms = gan.start_vectors(params["critic"], norm_key) if self.config.spectral_norm else {}
        turns = {name: {name: part} for name, part in params.items()}
        return self.start(params, run_key, turns, norms)

    def update(self, state: GeneratorState, batch: ImageBatch) -> tuple[GeneratorState, Metrics]:
        """See `Learner`."""
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), 2)
        norms = state.norms
        if self.config.spectral_norm:
            norms = gan.normalise(state.params["critic"], norms)[1]
        critic_loss = lambda params: self._critic_loss(params, norms, batch, keys[0])  # noqa: E731
        state, metrics = take_turn(state, "critic", ("critic",), critic_loss, self.optimizer, self.config.critic_rate)
        generator_loss = lambda params: self._generator_loss(params, norms, batch, keys[1])  # noqa: E731
        state, found = take_turn(state, "generator", ("generator",), generator_loss, self.optimizer)
        metrics = metrics | found
        metrics["gradient_norm"] = metrics.pop("generator_gradient_norm")
        return self.end_step(state.replace(norms=norms)), metrics

    def draw(self, weights: Params, key: jax.Array, labels: jax.Array) -> jax.Array:
        """See `ImageObjective`."""
        code_key, noise_key = jax.random.split(key)
        return self._paint(weights, jax.random.normal(code_key, (len(labels), self.config.latent)), labels, noise_key)

    def decode(self, weights: Params, codes: jax.Array, labels: jax.Array) -> jax.Array:
        """The images of codes [N, Z], always with the same noise."""
        return self._paint(weights, codes, labels, jax.random.key(0))

    def _paint(self, params: Params, codes: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, (len(labels), *self.size))
        images: Any = self.generator.apply({"params": params["generator"]}, codes, labels, noise)
        return jnp.tanh(images)

    def _shown(self, images: jax.Array, key: jax.Array) -> jax.Array:
        return gan.disturb(images, key) if self.config.disturb else images

    def _judge(self, params: Params, norms: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        critic = gan.normalise(params["critic"], norms)[0] if self.config.spectral_norm else params["critic"]
        return self.critic.apply({"params": critic}, images, labels)  # type: ignore[return-value]

    def _critic_loss(self, params: Params, norms: Any, batch: ImageBatch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        draw_key, disturb_key = jax.random.split(key)
        made = jax.lax.stop_gradient(self.draw(params, draw_key, batch["labels"]))
        both = self._shown(jnp.concatenate([batch["images"], made]), disturb_key)
        real, fake = jnp.split(self._judge(params, norms, both, jnp.tile(batch["labels"], 2)), 2)
        if self.config.loss == "hinge":
            losses = jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
        else:
            losses = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        gap, spread = jnp.mean(real) - jnp.mean(fake), jnp.mean(jnp.std(made, axis=0))
        return jnp.mean(losses), {"loss": mean_of(losses), "critic_gap": once(gap), "drawn_spread": once(spread)}

    def _generator_loss(self, params: Params, norms: Any, batch: ImageBatch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        draw_key, disturb_key = jax.random.split(key)
        made = self._shown(self.draw(params, draw_key, batch["labels"]), disturb_key)
        fake = self._judge(params, norms, made, batch["labels"])
        losses = -fake if self.config.loss == "hinge" else jax.nn.softplus(-fake)
        return jnp.mean(losses), {"generator_loss": mean_of(losses)}


def build(experiment: Experiment, optimizer: optax.GradientTransformation, vocabulary: Any, **_: Any) -> GANTraining:
    """The objective of an experiment. Raises `UserError` as `images.build_arguments` does."""
    config = experiment.objective
    assert isinstance(config, GANConfig)
    return GANTraining(config=config, **build_arguments(experiment, vocabulary, optimizer))
