"""Encoders that a probe compares: a model's layers, the same model before any training, the filterbank alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import AudioConfig
from beats_jax.inference.model import Model
from beats_jax.inference.program import FilterbankProgram, ModelProgram, Outputs, Program
from beats_jax.models import registry
from beats_jax.weights.bundle import Bundle

FBANK = "mean and std"
FEATURES = "features"


@dataclass(frozen=True)
class Encoder:
    """A program that gives one vector a recording for each layer and pooling."""

    program: Program
    layers: tuple[str, ...]  # of a model "0" is the input of the first block, "1" the output of the first, and so on
    poolings: tuple[str, ...]
    pooled: tuple[str, ...]  # poolings of `inference.reduce.Pooled`; several for one name stand side by side


def model_encoder(model: Model, poolings: tuple[str, ...], features: bool = False) -> Encoder:
    """Every layer of a model, or its features alone: what `Model.embed` gives, after a final norm where there is one."""
    if features:
        return Encoder(model.program(Outputs(poolings)), (FEATURES,), poolings, poolings)
    layers = tuple(range(model.num_layers + 1))
    return Encoder(model.program(Outputs(poolings, layers)), tuple(map(str, layers)), poolings, poolings)


def own_statistics_encoder(encoder: Encoder) -> Encoder:
    """A model's encoder whose batch normalisation reads each window's own values (`program.Architecture.own_statistics`)."""
    program = cast(ModelProgram, encoder.program)
    return replace(encoder, program=replace(program, architecture=replace(program.architecture, own_statistics=True)))


def filterbank_encoder(audio: AudioConfig) -> Encoder:
    """Mean and standard deviation of each mel band over the frames with sound, without any model. One layer, D = 2 M."""
    return Encoder(FilterbankProgram(audio), ("filterbank",), (FBANK,), ("mean", "std"))


def randomise(model: Model, seed: int = 0) -> Model:
    """The same architecture and front-end with the random weights from which training would start, without a head."""
    config = replace(model.config, predictor_class=0)
    family = registry.family(config)
    fbank = jnp.zeros((1, family.fixed_frames or family.min_frames, model.audio.filterbank.num_mel_bins))
    params = jax.jit(registry.build(config).init)(jax.random.key(seed), fbank)["params"]
    return Model(Bundle(jax.tree.map(np.asarray, params), config, model.audio, (), False, f"random weights, seed {seed}"))
