"""What turns sound into embeddings for probes: a model's layers, the same model before any training, the filterbank alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AudioConfig, to_mapping
from beats_jax.models import registry
from beats_jax.models.heads import masked_mean, pool
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.model import Model
from beats_jax.weights.tree import flatten

FBANK = "mean and std"


class Encoder(Protocol):
    """A way from waveforms to one vector a clip for each layer and pooling."""

    audio: AudioConfig

    @property
    def layers(self) -> tuple[str, ...]:
        """L names."""
        ...

    @property
    def poolings(self) -> tuple[str, ...]:
        """P names."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that the embeddings depend on, fit for JSON: equal identities give equal embeddings."""
        ...

    def embed(self, waveforms: np.ndarray, lengths: np.ndarray) -> jax.Array:
        """float32 [L, P, B, D] from float32 [B, samples] and int32 [B]."""
        ...


class ModelEncoder:
    """Every layer of a model: "0" is the input of the first block, "1" the output of the first, and so on."""

    def __init__(self, model: Model, poolings: tuple[str, ...]) -> None:
        self.model = model
        self.audio = model.audio
        self.layers = tuple(str(layer) for layer in range(model.num_layers + 1))
        self.poolings = poolings

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for path, leaf in flatten(self.model.params).items():
            digest.update(path.encode())
            digest.update(np.asarray(leaf).tobytes())
        settings = to_mapping(replace(self.model.config, checkpoint=""))
        return {"model": settings, "params_sha256": digest.hexdigest(), "poolings": self.poolings}

    def embed(self, waveforms: np.ndarray, lengths: np.ndarray) -> jax.Array:
        return self.model.embed_layers(waveforms, lengths, self.poolings)


class FilterbankEncoder:
    """Mean and standard deviation of each mel band over the frames with sound: what needs no model. One layer, D = 2 M."""

    layers = ("filterbank",)
    poolings = (FBANK,)

    def __init__(self, audio: AudioConfig) -> None:
        self.audio = audio
        self._embed = jax.jit(partial(_band_statistics, audio=audio))

    def identity(self) -> dict[str, Any]:
        return {"model": FBANK}

    def embed(self, waveforms: np.ndarray, lengths: np.ndarray) -> jax.Array:
        return self._embed(waveforms, lengths)


def _band_statistics(waveforms: jax.Array, lengths: jax.Array, audio: AudioConfig) -> jax.Array:
    fbank, frame_mask = filterbank(waveforms, lengths, audio.filterbank)
    both = jnp.concatenate([masked_mean(fbank, frame_mask), pool(fbank, frame_mask, "std")], axis=1)
    return both[None, None]


def untrained(model: Model, seed: int = 0) -> Model:
    """The same architecture and front-end with the random weights that training would start from, without a head."""
    config = replace(model.config, predictor_class=0)
    frames = registry.fixed_frames(config) or registry.min_frames(config)
    fbank = jnp.zeros((1, frames, model.audio.filterbank.num_mel_bins))
    params = jax.jit(registry.build(config).init)(jax.random.key(seed), fbank)["params"]
    return Model(Bundle(jax.tree.map(np.asarray, params), config, model.audio, (), False, f"random weights, seed {seed}"))
