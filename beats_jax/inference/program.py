"""Programs: what is computed from a batch of windows. Pure functions with an identity, compiled once a kind.

A program gives counts, means and summed squares over tokens, so that the answer for a recording (`reduce`) does not depend on how
it was cut into windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AudioConfig, ModelConfig, to_mapping
from beats_jax.models import registry
from beats_jax.models.cpu import Form
from beats_jax.models.heads import EncoderOutput, masked_mean, pool
from beats_jax.parallel.mesh import shard_batch, shard_map_rows

Batch = Mapping[str, jax.Array]  # waveforms float32 [B, S], lengths, rows, positions int32 [B], example_mask bool [B]


class Program(Protocol):
    """A computation over windows: called with its params, it gives a dict of arrays [B, ...], or of (sum, count) over the batch.

    Attributes:
      audio: how recordings become the waveforms that it reads. min_samples: the shortest S of a batch. params: pytree of arrays.
      identity: all that its results depend on, fit for JSON; equal ones give equal results. The key of caches and resumption.
    """

    @property
    def audio(self) -> AudioConfig: ...
    @property
    def min_samples(self) -> int: ...
    @property
    def params(self) -> Any: ...
    def identity(self) -> dict[str, Any]: ...
    def __call__(self, params: Any, batch: Batch) -> Any: ...


@dataclass(frozen=True)
class Architecture:
    """All that decides how a forward pass is compiled, besides shapes; `dtype` (float32 | bfloat16) is of the computation.

    `own_statistics`: batch normalisation, where the family has it, by the values of each row alone instead of the running
    statistics. This is how darksound extracts features: in training mode, one recording at a time.
    """

    config: ModelConfig
    audio: AudioConfig
    dtype: str = "float32"
    form: Form = Form.AUTO
    own_statistics: bool = False

    @property
    def min_samples(self) -> int:
        """Samples that give one token."""
        settings = self.audio.filterbank
        return settings.frame_samples + (registry.family(self.config).min_frames - 1) * settings.hop_samples


def forward(architecture: Architecture, params: Any, inputs: Mapping[str, jax.Array], layers: bool = False) -> EncoderOutput:
    """The model as a pure function, neither checked nor compiled.

    Args:
      inputs: `waveforms` float32 [B, S] and, where not all of it is sound, `lengths` int32 [B] or `padding_mask` bool [B, S];
        or `fbank` float32 [B, F, M] and perhaps `padding_mask` bool [B, F]. A padding mask is reduced as the published code does.
      layers: with the state before the first and after every block.
    """
    config, settings, family = architecture.config, architecture.audio.filterbank, registry.family(architecture.config)
    real = None  # tokens that count in pooling; None = all
    if "fbank" in inputs:
        fbank = inputs["fbank"]
    else:
        waveforms, lengths = inputs["waveforms"], inputs.get("lengths")
        if lengths is None:
            fbank, frame_mask = shard_map_rows(lambda sound: filterbank(sound, None, settings))(waveforms)
        else:
            sound = _at_least_one_frame(waveforms, lengths, architecture.audio)
            fbank, frame_mask = shard_batch(shard_map_rows(partial(filterbank, config=settings))(*shard_batch(sound)))
        if lengths is not None or settings.target_frames:
            real = family.token_mask(frame_mask, settings.num_mel_bins)
    attended = family.attention_mask(real)
    if "padding_mask" in inputs:
        real = family.reference_token_mask(inputs["padding_mask"], fbank.shape[1], settings.num_mel_bins)
        attended = real
    module = registry.build(config, architecture.dtype, architecture.form)
    out: Any
    if architecture.own_statistics:
        out = _by_own_statistics(module, params, fbank, attended, layers)
    else:
        out = module.apply({"params": params}, fbank, attended, layers=layers)
    return out if real is None else out._replace(token_mask=real)


def _by_own_statistics(module: Any, params: Any, fbank: jax.Array, attended: jax.Array | None, layers: bool) -> Any:
    """The output for a batch [B, ...], each row of which is a batch of its own."""

    def one(own: jax.Array, mask: jax.Array | None) -> Any:
        batch = own[None], None if mask is None else mask[None]
        out = module.apply({"params": params}, *batch, layers=layers, batch_statistics=True)
        rows = jax.tree.map(lambda x: x[0], out._replace(layers=None))
        return rows if out.layers is None else rows._replace(layers=out.layers[:, 0])

    out = jax.vmap(one)(fbank, attended)
    return out if out.layers is None else out._replace(layers=jnp.swapaxes(out.layers, 0, 1))


compiled_forward = jax.jit(forward, static_argnums=0, static_argnames="layers")


@dataclass(frozen=True)
class Outputs:
    """What a model computes for every window.

    Attributes:
      poolings: names of `models.heads.POOLINGS`. layers: of which states: -1 = the features, else an index into the states
        before the first and after every block. logits: of the head. tokens: those of the first of `layers`.
    """

    poolings: tuple[str, ...] = ()
    layers: tuple[int, ...] = (-1,)
    logits: bool = False
    tokens: bool = False


@partial(jax.jit, static_argnums=(0, 1))
def _compute(architecture: Architecture, outputs: Outputs, params: Any, waveforms: jax.Array, lengths: jax.Array) -> Any:
    """Compiled as a whole, so that XLA frees each layer as soon as its poolings are computed."""
    deep = outputs.layers != (-1,)
    out = forward(architecture, params, {"waveforms": waveforms, "lengths": lengths}, layers=deep)
    special = registry.family(architecture.config).num_special
    states: Any = out.layers  # None unless `deep`
    features = [out.features if layer == -1 else states[layer] for layer in outputs.layers]
    results: dict[str, jax.Array] = {}
    if outputs.poolings:
        results = token_statistics(features, out.token_mask, outputs.poolings, special)
    if outputs.tokens:
        results |= {"tokens": features[0][:, special:], "token_mask": out.token_mask[:, special:]}
    if outputs.logits:
        assert out.logits is not None
        results["logits"] = out.logits.astype(jnp.float32)
    return results


def token_statistics(
    features: list[jax.Array], token_mask: jax.Array, poolings: tuple[str, ...], num_special: int = 0
) -> dict[str, jax.Array]:
    """Statistics of L states [B, T, D] over the real tokens of bool [B, T], which `reduce.Pooled` combines over windows.

    Returns:
      `count` float32 [B], real tokens, and what the poolings need of `mean` [B, L, D], `m2` (sum of squared deviations from the
      mean), `max`, `first`, `last`, `cls` (mean of the special tokens).
    """
    real = token_mask[:, num_special:]
    results = {"count": jnp.sum(real, axis=1).astype(jnp.float32)}
    wanted = set(poolings) - {"std"} | ({"mean"} if "std" in poolings else set())
    for name in sorted(wanted):
        results[name] = jnp.stack([pool(layer, token_mask, name, num_special) for layer in features], axis=1)
    if "std" in poolings:
        sums = [_squared_deviations(layer[:, num_special:], real) for layer in features]
        results["m2"] = jnp.stack(sums, axis=1)
    return results


def pooled_vector(values: Mapping[str, jax.Array], pooling: str) -> jax.Array:
    """One pooling of the first layer, float32 [B, D], from `token_statistics`."""
    if pooling == "std":
        return jnp.sqrt(values["m2"][:, 0] / jnp.maximum(values["count"], 1)[:, None])
    return values[pooling][:, 0]


def _squared_deviations(features: jax.Array, token_mask: jax.Array) -> jax.Array:
    """[B, T, D], bool [B, T] → [B, D]. Plain sums of squares lose all digits where a feature's mean is large."""
    centred = features - masked_mean(features, token_mask)[:, None]
    return jnp.sum(jnp.where(token_mask[:, :, None], jnp.square(centred), 0.0), axis=1)


@dataclass(frozen=True, eq=False)
class ModelProgram:
    """A model and its outputs; programs of equal architecture and outputs share one compiled function."""

    architecture: Architecture
    params: Any
    outputs: Outputs

    @property
    def audio(self) -> AudioConfig:
        return self.architecture.audio

    @property
    def min_samples(self) -> int:
        return self.architecture.min_samples

    def identity(self) -> dict[str, Any]:
        own: dict[str, Any] = {"own_statistics": True} if self.architecture.own_statistics else {}
        if self.architecture.form is Form.CUDNN:  # its bias is rounded as that of no other form
            own["attention"] = "cudnn"
        return {**self._weights, "dtype": self.architecture.dtype, **to_mapping(self.outputs), **own}

    @cached_property
    def _weights(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for path, leaf in sorted(flatten_dict(self.params, sep="/").items()):
            digest.update(path.encode())
            digest.update(np.asarray(leaf).tobytes())
        settings = to_mapping(replace(self.architecture.config, checkpoint=""))
        return {"model": settings, "params_sha256": digest.hexdigest(), "audio": to_mapping(self.audio)}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        return _compute(self.architecture, self.outputs, params, batch["waveforms"], batch["lengths"])


@dataclass(frozen=True, eq=False)
class FilterbankProgram:
    """Statistics of mel bands over the frames with sound, without a model. One layer, D = M mel bins.

    Attributes:
      centre: subtracted from every value, so that squares of raw log energies lose no digits.
    """

    audio: AudioConfig
    centre: float = 0.0
    params: None = None

    @property
    def min_samples(self) -> int:
        return self.audio.filterbank.frame_samples

    def identity(self) -> dict[str, Any]:
        return {"model": "filterbank", "audio": to_mapping(self.audio), "centre": self.centre}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`count`, `mean` and `m2` of `token_statistics`, frames in place of tokens."""
        return _band_statistics(self.audio, self.centre, batch["waveforms"], batch["lengths"])


@partial(jax.jit, static_argnums=(0, 1))
def _band_statistics(audio: AudioConfig, centre: float, waveforms: jax.Array, lengths: jax.Array) -> dict[str, jax.Array]:
    sound = _at_least_one_frame(waveforms, lengths, audio)
    fbank, frame_mask = shard_batch(shard_map_rows(partial(filterbank, config=audio.filterbank))(*shard_batch(sound)))
    return token_statistics([fbank - centre], frame_mask, ("mean", "std"))


@dataclass(frozen=True, eq=False)
class FeatureProgram:
    """A function of the mel bands, without a model. One layer of D values; their mean over blocks and windows.

    Attributes:
      name: by which kept embeddings know it. compute: (fbank [B, F, M], frame mask) -> (float32 [B, T, D], bool [B, T]).
      width: D.
    """

    audio: AudioConfig
    name: str
    compute: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    width: int
    params: None = None

    @property
    def min_samples(self) -> int:
        return self.audio.filterbank.frame_samples

    def identity(self) -> dict[str, Any]:
        return {"model": self.name, "audio": to_mapping(self.audio)}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`count` and `mean` of `token_statistics`, blocks in place of tokens."""
        return _feature_statistics(self.audio, self.compute, batch["waveforms"], batch["lengths"])


@partial(jax.jit, static_argnums=(0, 1))
def _feature_statistics(audio: AudioConfig, compute: Any, waveforms: jax.Array, lengths: jax.Array) -> dict[str, jax.Array]:
    sound = _at_least_one_frame(waveforms, lengths, audio)
    fbank, frame_mask = shard_batch(shard_map_rows(partial(filterbank, config=audio.filterbank))(*shard_batch(sound)))
    features, block_mask = compute(fbank, frame_mask)
    return token_statistics([features], block_mask, ("mean",))


@dataclass(frozen=True, eq=False)
class ObjectiveProgram:
    """An objective's `predict` or `evaluate` on its weights, for evaluations during training.

    Attributes:
      compute: (weights, batch) → dict; compiled by its owner, so that all evaluations of a run share one compiled function.
    """

    compute: Callable[[Any, Batch], Any]
    params: Any
    audio: AudioConfig
    min_samples: int = 1

    def identity(self) -> dict[str, Any]:
        raise TypeError("the weights of a run in progress have no identity: they change, and nothing may be cached under them")

    def __call__(self, params: Any, batch: Batch) -> Any:
        return self.compute(params, batch)


def _at_least_one_frame(waveforms: jax.Array, lengths: jax.Array, audio: AudioConfig) -> tuple[jax.Array, jax.Array]:
    """Zeros behind the sound, and sound shorter than a frame counted as one frame; a length of 0 stays 0."""
    frame = audio.filterbank.frame_samples
    inside = jnp.arange(waveforms.shape[1])[None, :] < lengths[:, None]
    return jnp.where(inside, waveforms, 0.0), jnp.where(lengths > 0, jnp.maximum(lengths, frame), 0)
