"""What all generators of images share: their batches, the turns of their networks, and what the pipelines ask of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import optax

from beats_jax.config import AugmentConfig, Experiment
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.objectives.metrics import Metrics, global_norm, once
from beats_jax.objectives.objective import Learner
from beats_jax.objectives.state.state import Params, State, average, create, extend_state

IMAGE_SPREAD = 0.25  # standard deviation of the training images: within four of them lie about -1 to 1


class ImageBatch(TypedDict):
    """A batch of images in the units of the networks (about -1 to 1), all of them usable."""

    images: jax.Array  # float32 [B, bands, frames]
    labels: jax.Array  # int32 [B]


class GeneratorState(State):
    """`opt_state` holds one state for each turn, by name; `norms` the vectors of spectral normalisation, or nothing."""

    norms: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageObjective(Learner[GeneratorState]):
    """A generator in training. `classes`: their number; `size`: bands and frames."""

    classes: int
    size: tuple[int, int]

    @abstractmethod
    def draw(self, weights: Params, key: jax.Array, labels: jax.Array) -> jax.Array:
        """One image for each class of `labels` (int32 [N]), float32 [N, bands, frames]; weights of `finish`."""

    def evaluate(self, weights: Params, batch: ImageBatch) -> Metrics:
        """Figures of held-out images; none where a loss says nothing about quality."""
        del weights, batch
        return {}

    def finish(self, weights: Params, batch: ImageBatch) -> Params:
        """The weights with what sampling needs besides, measured on training images; by default nothing."""
        del batch
        return weights

    def start(self, params: Params, key: jax.Array, turns: Mapping[str, Params], norms: Any = None) -> GeneratorState:
        """The first state; `turns`: name → the parameters that the turn moves."""
        state = create(params, key, self.optimizer, average=self.ema_decay > 0)
        state = extend_state(GeneratorState, state, norms={} if norms is None else norms)
        return state.replace(opt_state={name: self.optimizer.init(part) for name, part in turns.items()})

    def end_step(self, state: GeneratorState) -> GeneratorState:
        """After the last turn: the average moves, and the step is counted."""
        ema = None if state.ema is None else average(state.ema, state.params, state.step, self.ema_decay)
        return state.replace(step=state.step + 1, ema=ema)


def take_turn(
    state: GeneratorState,
    turn: str,
    players: tuple[str, ...],
    loss: Callable[[Params], tuple[jax.Array, Metrics]],
    optimizer: optax.GradientTransformation,
    rate: float = 1.0,
) -> tuple[GeneratorState, Metrics]:
    """One optimizer step of some parts of the parameters.

    Args:
      players: names in `state.params` of the parts that move; the others are constants.
      loss: of all parameters → (what is minimised, metrics). rate: multiplies the learning rate.
    Returns:
      the state, and the metrics with `TURN_gradient_norm`.
    """
    moving = {name: state.params[name] for name in players}
    gradients, metrics = jax.grad(lambda part: loss(state.params | part), has_aux=True)(moving)
    updates, opt_state = optimizer.update(gradients, state.opt_state[turn], moving)
    moved: Any = optax.apply_updates(moving, jax.tree.map(lambda update: rate * update, updates))
    state = state.replace(params={**state.params, **moved}, opt_state={**state.opt_state, turn: opt_state})
    return state, metrics | {f"{turn}_gradient_norm": once(global_norm(gradients))}


def build_arguments(
    experiment: Experiment, vocabulary: LabelVocabulary | None, optimizer: optax.GradientTransformation
) -> dict[str, Any]:
    """The fields of `ImageObjective` that an experiment gives.

    Raises:
      UserError: settings that no generator heeds.
    """
    config, training = experiment.objective, experiment.training
    if config.augment != AugmentConfig():
        raise UserError(f"objective.augment has no effect on objective {config.name}: its images are to be like the recordings")
    for name, value, wanted in (
        ("accumulation_steps", training.accumulation_steps, 1),
        ("layer_decay", training.layer_decay, 1),
        ("freeze", training.freeze, ()),
        ("precision", training.precision, "float32"),
        ("attention", training.attention, "auto"),
    ):
        if value != wanted:
            raise UserError(f"training.{name} is {value}, which objective {config.name} does not heed: use {wanted}")
    image = config.image  # type: ignore[attr-defined]  # a GenerativeConfig, by the registry
    return {
        "classes": 1 if vocabulary is None else max(1, len(vocabulary)),
        "size": (image.bands, image.frames),
        "optimizer": optimizer,
        "ema_decay": training.ema_decay,
    }


def mean_of(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A metric from one value an image, [B]."""
    return jnp.sum(values), jnp.asarray(float(values.shape[0]))
