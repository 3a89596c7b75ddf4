"""What a run starts from: random weights, or an encoder that somebody has trained."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from beats_jax.config import AudioConfig, ModelConfig
from beats_jax.errors import UserError
from beats_jax.weights.pretrained import read_checkpoint

HEAD = "predictor"


@dataclass(frozen=True)
class StartingPoint:
    """The model to train.

    Attributes:
      model: architecture and dropouts, with a head for the run's classes.
      params: nested numpy arrays to start from, perhaps without a head; None = random.
      note: one line for the log.
      licence: of the weights it starts from; empty = not known, or none.
    """

    model: ModelConfig
    params: dict[str, Any] | None
    note: str
    licence: str = ""


def starting_point(model: ModelConfig, audio: AudioConfig, labels: tuple[str, ...]) -> StartingPoint:
    """Reads `model.checkpoint` if there is one.

    The architecture is the checkpoint's, the dropouts are the experiment's. The head is kept when the checkpoint has one for
    the same labels in the same order, else it starts at random.

    Raises:
      UserError: the checkpoint cannot be read, or it was trained on another front-end than `audio` describes.
    """
    if not model.checkpoint:
        return StartingPoint(replace(model, predictor_class=len(labels)), None, "starting from random weights")
    loaded = read_checkpoint(model.checkpoint)
    if loaded.model.family != model.family:
        raise UserError(f"{model.checkpoint} is of the family {loaded.model.family!r}; set config.model.family to it")
    _require_same_front_end(loaded.audio, audio, model.checkpoint)
    training = {name: getattr(model, name) for name in model.TRAINING_FIELDS}
    config = replace(loaded.model, **training, predictor_class=len(labels))
    same_head = tuple(loaded.labels) == labels
    params = {name: value for name, value in loaded.params.items() if name != HEAD or same_head}
    head = "with its head" if same_head else "with a new head"
    return StartingPoint(config, params, f"starting from {model.checkpoint} {head}", loaded.licence)


def _require_same_front_end(trained: AudioConfig, wanted: AudioConfig, checkpoint: str) -> None:
    differing = [
        f"{field.name} {getattr(trained.filterbank, field.name)!r} (the experiment: {getattr(wanted.filterbank, field.name)!r})"
        for field in fields(trained.filterbank)
        if getattr(trained.filterbank, field.name) != getattr(wanted.filterbank, field.name)
    ]
    if differing:
        raise UserError(
            f"{checkpoint} was trained on another filterbank: {', '.join(differing)}; "
            "set config.audio.filterbank to the checkpoint's"
        )
