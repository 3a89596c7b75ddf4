"""A loaded model: waveforms in, features, embeddings, logits and probabilities out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AudioConfig, ModelConfig
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.forms import AUTO, Forms
from beats_jax.models.heads import POOLINGS, pool
from beats_jax.models.output import EncoderOutput
from beats_jax.weights.bundle import Bundle, save_bundle
from beats_jax.weights.mapped import release

Array = jax.Array | np.ndarray


class Encoding(NamedTuple):
    """Features of a batch; values at tokens whose mask is False are finite and without meaning."""

    features: jax.Array  # float32 [B, T, D]
    token_mask: jax.Array  # bool [B, T], True = real
    layers: jax.Array | None  # float32 [L+1, B, T, D]: input of layer 1, then each layer's output, before any final norm
    num_special: int  # special tokens that lead the features: BEATs 0, EAT 1 (CLS), AST 2 (CLS, DIST)
    logits: jax.Array | None  # float32 [B, C] where the model has a head, else None
    codes: jax.Array | None = None  # int32 [B, T] where the model is a tokenizer, else None


class Model:
    """An encoder with its front-end, and its head where it has one. Made by `beats_jax.load`.

    Two ways to say where the sound ends. `lengths` (samples) follows our rule: only frames wholly inside the sound count, and a
    clip in a batch gives what it gives alone. `padding_mask` (True = padding) follows the published code, edge effects included;
    a front-end of fixed length (AST, EAT) has no such code, there a mask over samples says where each clip ends, as `lengths` do.
    Clips too short for one token (2800 samples for BEATs) are padded with zeros and count as one time patch.

    Attributes:
      config: architecture. audio: front-end. params: nested float32 parameters. labels: class names in the order of the logits.
      min_samples: samples that give one token.
      multi_label: `predict` uses sigmoid (True) or softmax (False). source: where the weights came from. licence: of the
      weights; empty = not known.
    """

    def __init__(self, bundle: Bundle, dtype: str = "float32", forms: Forms = AUTO) -> None:
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"dtype is {dtype!r}; allowed: float32, bfloat16")
        self.config: ModelConfig = bundle.model
        self.audio: AudioConfig = bundle.audio
        self.labels: tuple[str, ...] = bundle.labels
        self.multi_label: bool = bundle.multi_label
        self.source: str = bundle.source
        self.source_sha256: str = bundle.source_sha256
        self.licence: str = bundle.licence
        self._bundle = replace(bundle, params={})  # all but the tensors
        self.params = _on_devices(bundle.params)
        self._module = registry.build(self.config, dtype, forms)
        self.min_samples = _samples_of(registry.min_frames(self.config), self.audio)
        self._apply = jax.jit(self._forward, static_argnames="layers")
        self._layer = jax.jit(self._one_layer, static_argnames="layer")
        self._all_layers = jax.jit(self._pooled_layers, static_argnames="poolings")
        self._pool = jax.jit(partial(pool, num_special=registry.num_special(self.config)), static_argnames="pooling")

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms it reads, in Hz."""
        return self.audio.sample_rate

    @property
    def num_features(self) -> int:
        """Width D of features and embeddings."""
        return registry.num_features(self.config)

    @property
    def num_layers(self) -> int:
        """Number L of blocks; `encode(..., layers=True)` gives L + 1 states."""
        return registry.num_layers(self.config)

    @property
    def poolings(self) -> tuple[str, ...]:
        """Names that `embed` takes: `cls` only where there are special tokens."""
        return POOLINGS if registry.num_special(self.config) else tuple(name for name in POOLINGS if name != "cls")

    def encode(self, waveforms: Array, padding_mask: Array | None = None, layers: bool = False) -> Encoding:
        """Token features.

        Args:
          waveforms: floating point [B, samples] at `sample_rate`, full scale +-1.
          padding_mask: bool [B, samples], True = padding, reduced to tokens as the published code does; None = all is sound.
          layers: also return the state before the first and after every block.
        Raises:
          UserError: wrong shape or type.
        """
        out = self._apply(self.params, self._inputs(waveforms, padding_mask, None), layers=layers)
        return Encoding(out.features, out.token_mask, out.layers, registry.num_special(self.config), out.logits, out.codes)

    def encode_fbank(self, fbank: Array, padding_mask: Array | None = None, layers: bool = False) -> Encoding:
        """`encode` from normalised filterbanks, float32 [B, F, M], with a padding mask over frames, bool [B, F]."""
        out = self._apply(self.params, self._fbank_inputs(fbank, padding_mask), layers=layers)
        return Encoding(out.features, out.token_mask, out.layers, registry.num_special(self.config), out.logits, out.codes)

    def embed(self, waveforms: Array, lengths: Array | None = None, pooling: str = "mean", layer: int = -1) -> jax.Array:
        """One vector per clip, float32 [B, D], from its real tokens only.

        Args:
          waveforms: floating point [B, samples].
          lengths: int [B], samples of sound in each clip, 0 to S; None = all. A clip of length 0 gives zeros.
          pooling: mean | max | first | last | std of the tokens that are not special; cls: the special ones (AST, EAT).
          layer: -1 = the features; else an index into `encode(..., layers=True).layers`.
        Raises:
          UserError: wrong shape, type, pooling or layer.
        """
        self.require_pooling(pooling, layer)
        inputs = self._inputs(waveforms, None, lengths)
        if layer == -1:
            out = self._apply(self.params, inputs, layers=False)  # the program that encode and logits have compiled already
            return self._pool(out.features, out.token_mask, pooling=pooling)
        return self._pool(*self._layer(self.params, inputs, layer=layer), pooling=pooling)

    def require_pooling(self, pooling: str, layer: int = -1) -> None:
        """Raises `UserError` unless `embed` knows the pooling (the nearest is named) and the layer."""
        if pooling not in self.poolings:
            close = nearest(pooling, list(self.poolings))
            raise UserError(f"pooling is {pooling!r}; allowed: {', '.join(self.poolings)}; {close}")
        count = self.num_layers + 1
        if not -count <= layer < count:
            raise UserError(f"layer is {layer}; this model has layers 0 to {count - 1}, or -1 for its features")

    def embed_layers(self, waveforms: Array, lengths: Array | None = None, poolings: tuple[str, ...] = ("mean",)) -> jax.Array:
        """`embed` for every layer and several poolings from one pass: float32 [L + 1, P, B, D], layers as in `encode`.

        Arguments and errors as `embed`.
        """
        for name in poolings:
            self.require_pooling(name)
        return self._all_layers(self.params, self._inputs(waveforms, None, lengths), poolings=tuple(poolings))

    def tokens(self, waveforms: Array, lengths: Array | None = None, layer: int = -1) -> tuple[jax.Array, jax.Array]:
        """The tokens that `embed` pools, special ones left out: float32 [B, T, D], and which are real, bool [B, T].

        Arguments and errors as `embed`.
        """
        self.require_pooling("mean", layer)
        inputs, special = self._inputs(waveforms, None, lengths), registry.num_special(self.config)
        if layer == -1:
            out = self._apply(self.params, inputs, layers=False)
            return out.features[:, special:], out.token_mask[:, special:]
        features, token_mask = self._layer(self.params, inputs, layer=layer)
        return features[:, special:], token_mask[:, special:]

    def logits(self, waveforms: Array, padding_mask: Array | None = None, lengths: Array | None = None) -> jax.Array:
        """Class logits of each clip, float32 [B, C], in the order of `labels`; give `padding_mask` or `lengths` or neither.

        Raises:
          UserError: the model has no head; wrong shape or type; both a mask and lengths.
        """
        if not self.labels:
            raise UserError(f"the model {self.source or self.config.family} has no classification head; use embed or encode")
        return self._apply(self.params, self._inputs(waveforms, padding_mask, lengths), layers=False).logits

    def predict(self, waveforms: Array, padding_mask: Array | None = None, lengths: Array | None = None) -> jax.Array:
        """Class probabilities by the model's own rule, float32 [B, C]: sigmoid where `multi_label`, else softmax.

        Arguments and errors as `logits`.
        """
        logits = self.logits(waveforms, padding_mask, lengths)
        return jax.nn.sigmoid(logits) if self.multi_label else jax.nn.softmax(logits, axis=-1)

    def save(self, path: str | Path) -> Path:
        """Writes the model folder that `beats_jax.load` reads; see `weights.bundle.save_bundle`."""
        return save_bundle(path, replace(self._bundle, params=self.params))

    def trace(self, params: Any, waveforms: jax.Array, lengths: jax.Array) -> EncoderOutput:
        """The pure function behind `embed` and `logits`, unchecked and not compiled; `weights.export` uses it.

        Args:
          params: as `self.params`. waveforms: float32 [B, samples], samples at least `min_samples`. lengths: int32 [B].
        """
        return self._forward(params, {"waveforms": waveforms, "lengths": lengths}, layers=False)

    def _forward(self, params: Any, inputs: dict[str, jax.Array], layers: bool) -> EncoderOutput:
        settings = self.audio.filterbank
        real = None  # tokens that count when features are pooled; None = all
        if "fbank" in inputs:
            fbank = inputs["fbank"]
        else:
            waveforms, lengths = inputs["waveforms"], inputs.get("lengths")
            if lengths is not None:
                waveforms, lengths = _at_least_one_frame(waveforms, lengths, self.audio)
            fbank, frame_mask = filterbank(waveforms, lengths, settings)
            if lengths is not None or settings.target_frames:
                real = registry.token_mask(self.config, frame_mask, settings.num_mel_bins)
        attended = registry.attention_mask(self.config, real)
        if "padding_mask" in inputs:
            real = registry.reference_token_mask(self.config, inputs["padding_mask"], fbank.shape[1], settings.num_mel_bins)
            attended = real
        out: Any = self._module.apply({"params": params}, fbank, attended, layers=layers)
        return out if real is None else out._replace(token_mask=real)

    def _one_layer(self, params: Any, inputs: dict[str, jax.Array], layer: int) -> tuple[jax.Array, jax.Array]:
        """Compiled as a whole, so that the layers which are not asked for are never stored."""
        out = self._forward(params, inputs, layers=True)
        assert out.layers is not None
        return out.layers[layer], out.token_mask

    def _pooled_layers(self, params: Any, inputs: dict[str, jax.Array], poolings: tuple[str, ...]) -> jax.Array:
        """Compiled as a whole, so that no layer is stored longer than its poolings take."""
        out = self._forward(params, inputs, layers=True)
        assert out.layers is not None
        special = registry.num_special(self.config)
        pooled = [[pool(layer, out.token_mask, name, special) for name in poolings] for layer in out.layers]
        return jnp.stack([jnp.stack(row) for row in pooled])

    def _inputs(self, waveforms: Array, padding_mask: Array | None, lengths: Array | None) -> dict[str, jax.Array]:
        """Checked and padded to one token at least; without mask or lengths a clip that short is told apart from its zeros."""
        if np.ndim(waveforms) != 2 or not jnp.issubdtype(jnp.result_type(waveforms), jnp.floating) or 0 in np.shape(waveforms):
            raise UserError(
                f"waveforms have shape {np.shape(waveforms)} and type {jnp.result_type(waveforms)}; "
                "they must be floating point [clips, samples] within +-1, at least one of each"
            )
        if padding_mask is not None and lengths is not None:
            raise UserError("padding_mask and lengths are both given; give one of them")
        batch, samples = np.shape(waveforms)
        missing = max(0, self.min_samples - samples)
        if missing and padding_mask is None and lengths is None:
            lengths = np.full(batch, samples)
        inputs = {"waveforms": jnp.pad(jnp.asarray(waveforms, jnp.float32), ((0, 0), (0, missing)))}
        if padding_mask is not None:
            mask = _checked_mask(padding_mask, (batch, samples))
            if self.audio.filterbank.target_frames:  # its frames are no equal runs of the samples, as the published rule has it
                return {**inputs, "lengths": _ends(mask)}
            inputs["padding_mask"] = jnp.pad(mask, ((0, 0), (0, missing)), constant_values=True)
        if lengths is not None:
            inputs["lengths"] = _checked_lengths(lengths, batch, samples)
        return inputs

    def _fbank_inputs(self, fbank: Array, padding_mask: Array | None) -> dict[str, jax.Array]:
        bins, least = self.audio.filterbank.num_mel_bins, registry.min_frames(self.config)
        fixed = registry.fixed_frames(self.config)
        shape = np.shape(fbank)
        if len(shape) != 3 or shape[2] != bins or shape[1] < least or (fixed and shape[1] != fixed):
            frames = f"exactly {fixed}" if fixed else f"at least {least}"
            raise UserError(f"fbank has shape {shape}; it must be [clips, frames, {bins}] with {frames} frames")
        inputs = {"fbank": jnp.asarray(fbank, jnp.float32)}
        if padding_mask is not None:
            inputs["padding_mask"] = _checked_mask(padding_mask, shape[:2])
        return inputs


def _on_devices(params: Any) -> Any:
    """`_on_device` of every leaf, in two threads: most are transposed on the way, which takes half of the time of loading."""
    # Of this thread: new ones begin without the caller's.
    default: Any = jax.config.jax_default_device  # type: ignore[attr-defined]

    def move(leaf: Array) -> jax.Array:
        with jax.default_device(default):
            return _on_device(leaf)

    leaves, structure = jax.tree.flatten(params)
    with ThreadPoolExecutor(2) as threads:
        return jax.tree.unflatten(structure, list(threads.map(move, leaves)))


def _on_device(leaf: Array) -> jax.Array:
    """A copy even where a view would do: views are of a file that may be replaced. What is copied leaves the memory."""
    copied = jax.device_put(leaf, may_alias=False)
    if isinstance(leaf, np.ndarray):
        copied.block_until_ready()
        release(leaf)
    return copied


def _samples_of(frames: int, audio: AudioConfig) -> int:
    return audio.filterbank.frame_samples + (frames - 1) * audio.filterbank.hop_samples


def _at_least_one_frame(waveforms: jax.Array, lengths: jax.Array, audio: AudioConfig) -> tuple[jax.Array, jax.Array]:
    """Sound shorter than a frame counts as one frame that ends in zeros; no sound stays none."""
    frame = audio.filterbank.frame_samples
    inside = jnp.arange(waveforms.shape[1])[None, :] < lengths[:, None]
    return jnp.where(inside, waveforms, 0.0), jnp.where(lengths > 0, jnp.maximum(lengths, frame), 0)


def _checked_mask(mask: Array, shape: tuple[int, ...]) -> jax.Array:
    if np.shape(mask) != tuple(shape) or jnp.result_type(mask) != jnp.bool_:
        raise UserError(
            f"padding_mask has shape {np.shape(mask)} and type {jnp.result_type(mask)}; it must be bool {list(shape)}"
        )
    return jnp.asarray(mask)


def _ends(padding_mask: jax.Array) -> jax.Array:
    """int32 [B]: samples up to the last one that is not padding."""
    place = jnp.arange(1, padding_mask.shape[1] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(padding_mask, 0, place[None]), axis=1)


def _checked_lengths(lengths: Array, batch: int, samples: int) -> jax.Array:
    given = np.asarray(lengths)
    if given.shape != (batch,) or not np.issubdtype(given.dtype, np.integer):
        raise UserError(
            f"lengths have shape {given.shape} and type {given.dtype}; they must be whole numbers [{batch}], in samples"
        )
    if given.min() < 0 or given.max() > samples:
        raise UserError(
            f"lengths run from {given.min()} to {given.max()}; they must lie between 0 and the {samples} samples given"
        )
    return jnp.asarray(given, jnp.int32)
