"""What is computed of each window for a table of embeddings: a model's layers and poolings, or the filterbank alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from beats_jax.audio.band import ULTRASOUND_RATE
from beats_jax.audio.covariance import NUM_COVARIANCES, loud_covariance
from beats_jax.audio.modulation import NUM_MODULATIONS, modulation_blocks
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import WINDOW_SECONDS, Model, load
from beats_jax.inference.program import FeatureProgram, FilterbankProgram, Outputs, Program
from beats_jax.inference.reduce import pool_window

FILTERBANK = "filterbank"  # the name of a model that needs no weights
MODULATION, COVARIANCE = "modulation", "covariance"  # others
LOW_RATE = 8000  # Hz: at 8 kHz a quarter of the bands at 16 kHz are empty, below it more
HIGHEST_RATE = 48_000  # Hz, of audible sound
ULTRASOUND_LOW_HZ = 10_000.0  # as in configs/ultrasound.py


@dataclass(frozen=True)
class VectorSource:
    """A program and how its results become vectors.

    Attributes:
      columns: name → its layer (place among those of the program) and its poolings, which stand side by side.
      widths: name → length of its vector. labels: of `logits`, where they are kept.
    """

    program: Program
    poolings: tuple[str, ...]
    columns: Mapping[str, tuple[int, tuple[int, ...]]]
    widths: Mapping[str, int]
    labels: tuple[str, ...] = ()

    def vectors(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The vectors of a window, float32 [width] by name."""
        found = self.arrange(pool_window(values, self.poolings))
        return found | ({"logits": values["logits"]} if self.labels else {})

    def arrange(self, pooled: np.ndarray) -> dict[str, np.ndarray]:
        """The vectors of pooled layers, float32 [L, P, D] by `poolings`."""
        return {name: pooled[layer, list(places)].reshape(-1) for name, (layer, places) in self.columns.items()}


def audio_for_rate(sample_rate: int) -> AudioConfig:
    """A front-end of mel bands for recordings of a rate: that of BEATs up to half of their rate, at most `HIGHEST_RATE`.

    For whales and bats it is on their scale: above `audio.band.ULTRASOUND_RATE` and at `LOW_RATE` or less frames have the samples
    of those at 16 kHz, as if the recording were played slower or faster.
    """
    usual = AudioConfig().filterbank
    if LOW_RATE < sample_rate <= ULTRASOUND_RATE:
        return AudioConfig(filterbank=replace(usual, sample_rate=min(sample_rate, HIGHEST_RATE)))
    factor = usual.sample_rate / sample_rate
    lowest = ULTRASOUND_LOW_HZ if sample_rate > ULTRASOUND_RATE else usual.low_hz / factor
    scaled = replace(
        usual,
        sample_rate=sample_rate,
        frame_length_ms=usual.frame_length_ms * factor,
        frame_shift_ms=usual.frame_shift_ms * factor,
        low_hz=lowest,
    )
    return AudioConfig(filterbank=scaled)


def filterbank_source(audio: AudioConfig) -> VectorSource:
    """Mean and standard deviation of each mel band, D = 2 M: the baseline of every comparison."""
    width = 2 * audio.filterbank.num_mel_bins
    return VectorSource(FilterbankProgram(audio), ("mean", "std"), {"embedding": (0, (0, 1))}, {"embedding": width})


def modulation_program(audio: AudioConfig) -> FeatureProgram:
    """Modulation spectra beside statistics of the mel bands: kinds of calls come apart that `filterbank` mixes up."""
    return FeatureProgram(audio, MODULATION, modulation_blocks, NUM_MODULATIONS + 2 * audio.filterbank.num_mel_bins)


def covariance_program(audio: AudioConfig) -> FeatureProgram:
    """Mean and covariance of loud frames (`audio.covariance`): of the vectors without weights it separates species best."""
    return FeatureProgram(audio, COVARIANCE, loud_covariance, NUM_COVARIANCES)


FEATURES = {MODULATION: modulation_program, COVARIANCE: covariance_program}


def feature_source(audio: AudioConfig, name: str) -> VectorSource:
    """The vector of one of `FEATURES`."""
    program = FEATURES[name](audio)
    return VectorSource(program, ("mean",), {"embedding": (0, (0,))}, {"embedding": program.width})


def model_source(model: Model, layers: tuple[int, ...], poolings: tuple[str, ...], logits: bool = False) -> VectorSource:
    """Layers and poolings of a model: `embedding`, or `embedding_LAYER_POOLING` where there are several.

    Raises:
      UserError: an unknown layer or pooling, one named twice, or logits of a model without a head.
    """
    for layer in layers:
        for pooling in poolings:
            model.require_pooling(pooling, layer)
    for name, given in (("layer", layers), ("pooling", poolings)):
        if len(set(given)) != len(given):
            raise UserError(f"{name} {', '.join(map(str, given))} names one twice")
    if logits:
        model.require_head()
    program = model.program(Outputs(poolings, layers, logits=logits))
    pairs = [(layer, place) for layer in range(len(layers)) for place in range(len(poolings))]
    names = ["embedding"] if len(pairs) == 1 else [f"embedding_{layers[layer]}_{poolings[place]}" for layer, place in pairs]
    columns = {name: (layer, (place,)) for name, (layer, place) in zip(names, pairs, strict=True)}
    widths: dict[str, int] = dict.fromkeys(names, model.num_features)
    if logits:
        widths["logits"] = len(model.labels)
    return VectorSource(program, poolings, columns, widths, model.labels if logits else ())


WITHOUT_WEIGHTS = {FILTERBANK: filterbank_source, **{name: partial(feature_source, name=name) for name in FEATURES}}


def open_source(
    name: str,
    layers: tuple[int, ...],
    poolings: tuple[str, ...],
    *,
    logits: bool,
    dtype: str,
    window: float | None,
    hop: float | None,
    attention: str = "auto",
) -> tuple[VectorSource, Grid, dict[str, Any]]:
    """The source of a name, its windows, and where it is from (`source`, `licence`).

    Raises:
      UserError: an unknown name; layers, poolings or logits of a name without weights, which has one vector; see `model_source`.
    """
    if name in WITHOUT_WEIGHTS:
        if layers != (-1,) or poolings != ("mean",) or logits or attention != "auto":
            raise UserError(
                f"{name} has one vector, of statistics of the mel bands; leave out layer, pooling, logits and attention"
            )
        source = WITHOUT_WEIGHTS[name](AudioConfig())
        return source, Grid(window or WINDOW_SECONDS, hop or 0.0), {"source": name, "licence": ""}
    model = load(name, dtype=dtype, attention=attention)
    source = model_source(model, layers, poolings, logits)
    return source, model.grid(window, hop), {"source": model.source, "licence": model.licence}
