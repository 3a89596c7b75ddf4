"""What a run starts from: random weights or a trained encoder. A start that cannot succeed is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from beats_jax.config import AudioConfig, Experiment, ModelConfig, ResNetConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.weights.architecture import front_end_changes, param_shapes, require_same_front_end
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.pretrained import read_checkpoint

HEAD = "predictor"
# Larger encoders are trained from scratch on days of sound; a folder of labelled clips leaves them near chance. Base models have
# 90 million parameters, those of the recipes for a user's own folder 1 million.
MOST_RANDOM_PARAMETERS = 20_000_000
RESIZABLE = ("target_frames", "num_mel_bins", "mean", "std")  # of the front-end: may differ for a family that can be resized


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


def require_start(experiment: Experiment) -> None:
    """Raises `UserError` for a start that is probably an oversight, before anything is read.

    These are random weights for more than `MOST_RANDOM_PARAMETERS` without `model.checkpoint` "none", and random weights in a
    training mode that freezes the encoder.
    """
    model, mode = experiment.model, experiment.training.mode
    if not model.starts_at_random:
        return
    if mode != "full":
        raise UserError(
            f"config.training.mode is {mode!r}, which leaves the encoder frozen, and there is no checkpoint: name one with "
            f"{_example(model)}, or set config.training.mode=full"
        )
    if model.checkpoint:
        return
    number = num_parameters(model)
    if number > MOST_RANDOM_PARAMETERS:
        raise UserError(
            f"{number / 1e6:.0f} million parameters would start from random weights: name a checkpoint, such as "
            f"{_example(model)}, or say that it is meant with --config.model.checkpoint=none"
        )


def num_parameters(model: ModelConfig) -> int:
    """Parameters of the encoder that `model` describes, and of its head where `predictor_class` is set. Computes nothing."""
    return sum(math.prod(shape) for shape in param_shapes(model).values())


def _example(model: ModelConfig) -> str:
    names = {
        "ast": "ast-finetuned-audioset-10-10-0.4593",
        "eat": "EAT-base_epoch30_pretrain",
        "beats_tokenizer": "Tokenizer_iter3",
    }
    return f"--config.model.checkpoint={names.get(model.family, 'BEATs_iter3_plus_AS2M')}"


def starting_point(model: ModelConfig, audio: AudioConfig, labels: tuple[str, ...]) -> StartingPoint:
    """Reads `model.checkpoint` if there is one.

    The architecture is the checkpoint's, the dropouts and the kind of head are the experiment's. The head is kept when the
    checkpoint has one of that kind for the same labels in the same order, else it starts at random. A family that can be
    resized (AST) takes length, mel bins and statistics of the experiment's front-end, as its published recipes do, and strides
    that the experiment sets; all others demand the front-end they were trained on. The note names what changed.

    Raises:
      UserError: the checkpoint cannot be read, or it was trained on another front-end than `audio` describes.
    """
    if model.starts_at_random:
        _require_its_length(model, audio)
        return StartingPoint(replace(model, predictor_class=len(labels)), None, "starting from random weights")
    loaded = read_checkpoint(model.checkpoint)
    if loaded.model.family != model.family:
        raise UserError(
            f"{model.checkpoint} is of the family {loaded.model.family!r} and config.model.family is {model.family!r}; "
            "set config.model.family to the first, or name another config.model.checkpoint"
        )
    of_images = isinstance(loaded.model, ResNetConfig) and loaded.model.trained_on == "images"  # it has learnt on no front-end
    changed = {} if of_images else front_end_changes(loaded.audio, audio)
    architecture, tensors, resized = loaded.model, loaded.params, _describe_ignored(loaded.model, model)
    if registry.family(architecture).resize:
        changed = {name: values for name, values in changed.items() if name not in RESIZABLE}
        architecture, tensors, resized = _resize(loaded, model, audio)
    require_same_front_end(changed, model.checkpoint)
    training = {name: getattr(model, name) for name in ("head", *model.TRAINING_FIELDS)}
    config = replace(architecture, **training, predictor_class=len(labels))
    same_head = tuple(loaded.labels) == labels and loaded.model.head == model.head
    params = {name: value for name, value in tensors.items() if name != HEAD or same_head}
    head = "with its head" if same_head else "with a new head"
    read = loaded.source.removeprefix(Path(model.checkpoint).name)  # " (...)": what was left out of a file or decided by rule
    notes = read if read.startswith(" (") else ""
    return StartingPoint(config, params, f"starting from {model.checkpoint}{notes} {head}{resized}", loaded.licence)


def _describe_ignored(loaded: ModelConfig, wanted: ModelConfig) -> str:
    """Sizes that the experiment sets and the checkpoint decides, as the end of a sentence; empty where they agree."""
    ours = ("checkpoint", "predictor_class", "head", *wanted.TRAINING_FIELDS)
    names = [field.name for field in fields(wanted) if field.name not in ours and getattr(wanted, field.name) != field.default]
    pairs = {name: (getattr(loaded, name), getattr(wanted, name)) for name in names}
    said = [f"{name} {theirs!r} instead of {given!r}" for name, (theirs, given) in pairs.items() if theirs != given]
    return f"; the checkpoint decides: {', '.join(said)}" if said else ""


def _require_its_length(model: ModelConfig, audio: AudioConfig) -> None:
    """Raises `UserError` where random weights would read another number of frames than the filterbank gives."""
    reads, given = registry.family(model).fixed_frames, audio.filterbank.target_frames
    if reads and reads != given:
        raise UserError(
            f"a model of the family {model.family!r} reads one number of frames: config.model.max_length is {reads} and "
            f"config.audio.filterbank.target_frames {given}; set both to the same"
        )


def _resize(loaded: Bundle, model: ModelConfig, audio: AudioConfig) -> tuple[ModelConfig, dict[str, Any], str]:
    """The loaded model for the experiment's front-end, and the changes as the end of a sentence."""
    trained, wanted = loaded.audio.filterbank, audio.filterbank
    if not wanted.target_frames:
        raise UserError(
            f"a model of the family {model.family!r} reads one number of frames: set config.audio.filterbank.target_frames "
            f"(the checkpoint's: {trained.target_frames})"
        )
    resize = registry.family(loaded.model).resize
    assert resize is not None
    config, params = resize(loaded.params, wanted.target_frames, wanted.num_mel_bins, model)
    changes = {name: pair for name, pair in front_end_changes(loaded.audio, audio).items() if name in RESIZABLE}
    names = [field.name for field in fields(config) if field.name not in ("max_length", "num_mel_bins")]  # the front-end's
    changes |= {name: (getattr(loaded.model, name), getattr(config, name)) for name in names}
    said = [f"; {name} {after!r} instead of {before!r}" for name, (before, after) in changes.items() if before != after]
    return config, params, "".join(said)
