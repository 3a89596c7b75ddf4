"""A loaded model: waveforms or files in; features, embeddings, logits and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config.rules import require_one_of
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid, cap_window
from beats_jax.inference.inputs import Array, check_lengths, check_mask, check_waveforms, ends_of
from beats_jax.inference.program import Architecture, ModelProgram, Outputs, compiled_forward, pooled_vector
from beats_jax.models import registry
from beats_jax.models.cpu import Form
from beats_jax.models.heads import POOLINGS
from beats_jax.parallel.mesh import native_dtype
from beats_jax.weights.audioset import readable_names
from beats_jax.weights.bundle import Bundle, describe, save_bundle
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.raw import release

if TYPE_CHECKING:
    import pandas as pd

WINDOW_SECONDS = 10.0  # of recordings, where the model was not evaluated here: the clips of AudioSet
Waveforms = Array | list[Any]  # float [B, samples], or arrays float [samples] of any lengths
Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


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

    The end of the sound in a clip is given in one of two ways. `lengths` (samples) follows our rule: only frames wholly inside
    the sound count, and a clip gives the same alone and in a batch. `padding_mask` (True = padding) follows the published code,
    edge effects included; a front-end of fixed length (AST, EAT) reads it as lengths. Clips too short for one token (2800 samples
    for BEATs) are padded with zeros and count as one time patch.

    Attributes:
      config: architecture. audio: front-end. params: nested float32 parameters. labels: class names in the order of the logits.
      architecture: what its programs are compiled for. min_samples: samples that give one token.
      multi_label: `predict` uses sigmoid (True) or softmax (False). source: where the weights come from. licence: of the
      weights; empty = not known. reading: windows in which a model that was trained here was evaluated.
    """

    def __init__(self, bundle: Bundle, dtype: str = "float32", form: Form = Form.AUTO) -> None:
        dtype = _known_dtype(dtype)
        self.config, self.audio, self.reading = bundle.model, bundle.audio, bundle.reading
        self.labels, self.multi_label = bundle.labels, bundle.multi_label
        self.source, self.source_sha256, self.licence = bundle.source, bundle.source_sha256, bundle.licence
        self._bundle = replace(bundle, params={})  # all but the tensors
        self.params = _put_params(bundle.params)
        self.architecture = Architecture(replace(self.config, checkpoint=""), self.audio, dtype, form)
        self.min_samples = self.architecture.min_samples

    def __repr__(self) -> str:
        head = f", {len(self.labels)} classes" if self.labels else ""
        size = f"{self.num_layers} layers x {self.num_features}"
        reads = f"{self.sample_rate} Hz, {self.architecture.dtype}"
        return f"<{self.config.family} of {size}{head}, {reads}, from {self.source or 'no named source'}>"

    def __str__(self) -> str:
        return "\n".join(describe(self._bundle))

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms it reads, in Hz."""
        return self.audio.sample_rate

    @property
    def num_features(self) -> int:
        """Width D of features and embeddings."""
        return registry.family(self.config).num_features

    @property
    def num_layers(self) -> int:
        """Number L of blocks; `encode(..., layers=True)` gives L + 1 states."""
        return registry.family(self.config).num_layers

    @property
    def poolings(self) -> tuple[str, ...]:
        """Names that `embed` takes: `cls` only where there are special tokens."""
        return POOLINGS if registry.family(self.config).num_special else tuple(name for name in POOLINGS if name != "cls")

    def encode(self, waveforms: Array, padding_mask: Array | None = None, layers: bool = False) -> Encoding:
        """Token features.

        Args:
          waveforms: floating point [B, samples] at `sample_rate`, full scale +-1.
          padding_mask: bool [B, samples], True = padding, reduced to tokens as the published code does; None = all is sound.
          layers: also return the state before the first and after every block.
        Raises:
          UserError: wrong shape, type or values.
        """
        return self._encode(self._inputs(waveforms, padding_mask, None), layers)

    def encode_fbank(self, fbank: Array, padding_mask: Array | None = None, layers: bool = False) -> Encoding:
        """`encode` from normalised filterbanks, float32 [B, F, M], with a padding mask over frames, bool [B, F]."""
        bins, family = self.audio.filterbank.num_mel_bins, registry.family(self.config)
        least, fixed, shape = family.min_frames, family.fixed_frames, np.shape(fbank)
        if len(shape) != 3 or shape[2] != bins or shape[1] < least or (fixed and shape[1] != fixed):
            frames = f"exactly {fixed}" if fixed else f"at least {least}"
            raise UserError(f"fbank has shape {shape}; it must be [clips, frames, {bins}] with {frames} frames")
        inputs = {"fbank": jnp.asarray(fbank, jnp.float32)}
        if padding_mask is not None:
            inputs["padding_mask"] = check_mask(padding_mask, shape[:2])
        return self._encode(inputs, layers)

    def embed(
        self,
        waveforms: Waveforms,
        lengths: Array | None = None,
        pooling: str = "mean",
        layer: int = -1,
        sample_rate: int | None = None,
    ) -> jax.Array:
        """One vector per clip, float32 [B, D], from its real tokens only.

        Args:
          waveforms: floating point [B, samples], or a list of arrays of any lengths, float [samples] each.
          lengths: int [B], samples of sound in each clip, 0 to S; None = all. A clip of length 0 gives zeros.
          pooling: mean | max | first | last | std of the tokens that are not special; cls: the special ones (AST, EAT).
          layer: -1 = the features; else an index into `encode(..., layers=True).layers`.
          sample_rate: of the waveforms in Hz; another than the model's is resampled. None = the model's.
        Raises:
          UserError: wrong shape, type, values, pooling or layer.
        """
        self.require_pooling(pooling, layer)
        program = self.program(Outputs((pooling,), (layer,)))
        return pooled_vector(program(self.params, self._sound(waveforms, lengths, sample_rate)), pooling)

    def require_pooling(self, pooling: str, layer: int = -1) -> None:
        """Raises `UserError` unless `embed` knows the pooling (the nearest is named) and the layer."""
        require_one_of("pooling", pooling, self.poolings)
        count = self.num_layers + 1
        if not -count <= layer < count:
            raise UserError(f"layer is {layer}; this model has layers 0 to {count - 1}, or -1 for its features")

    def logits(
        self,
        waveforms: Waveforms,
        padding_mask: Array | None = None,
        lengths: Array | None = None,
        sample_rate: int | None = None,
    ) -> jax.Array:
        """Class logits of each clip, float32 [B, C], in the order of `labels`; give `padding_mask` or `lengths` or neither.

        Raises:
          UserError: the model has no head; wrong shape, type or values; a mask and lengths together.
        """
        self.require_head()
        if padding_mask is None:
            program = self.program(Outputs(logits=True))
            return program(program.params, self._sound(waveforms, lengths, sample_rate))["logits"]
        if lengths is not None:
            raise UserError("padding_mask and lengths are both given; give one of them")
        logits = self._encode(self._inputs(waveforms, padding_mask, sample_rate), layers=False).logits
        assert logits is not None
        return logits

    def predict(
        self,
        waveforms: Waveforms,
        padding_mask: Array | None = None,
        lengths: Array | None = None,
        sample_rate: int | None = None,
    ) -> jax.Array:
        """Class probabilities, float32 [B, C]: sigmoid where `multi_label`, else softmax; arguments and errors as `logits`."""
        logits = self.logits(waveforms, padding_mask, lengths, sample_rate)
        return jax.nn.sigmoid(logits) if self.multi_label else jax.nn.softmax(logits, axis=-1)

    def embed_files(
        self,
        files: Files,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        pooling: str = "mean",
        layer: int = -1,
        batch_size: int | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Embeddings of recordings as a table; see `inference.tables.embed_files`."""
        from beats_jax.inference.tables import embed_files

        return embed_files(self, files, window_seconds, hop_seconds, pooling, layer, batch_size, output)

    def predict_files(
        self, files: Files, window_seconds: float | None = None, hop_seconds: float | None = None, batch_size: int | None = None
    ) -> pd.DataFrame:
        """Class probabilities of recordings as a table; see `inference.tables.predict_files`."""
        from beats_jax.inference.tables import predict_files

        return predict_files(self, files, window_seconds, hop_seconds, batch_size)

    def top(self, file: str | os.PathLike[str], count: int = 5) -> list[tuple[str, float]]:
        """The likeliest labels of a recording with their probabilities; names in place of AudioSet's identifiers."""
        from beats_jax.inference.files import file_scores

        self.require_head()
        scores = file_scores(self, [file], on_error="raise")[0].value
        best = np.argsort(-scores)[:count]
        return [(name, float(scores[k])) for k, name in zip(best, readable_names(self.labels[k] for k in best), strict=True)]

    def require_head(self) -> None:
        """Raises `UserError` where there are no classes to predict."""
        if not self.labels:
            raise UserError(f"the model {self.source or self.config.family} has no classification head; use embed or encode")

    def program(self, outputs: Outputs) -> ModelProgram:
        """What `inference.run` computes with this model; see `inference.program.Outputs`."""
        return ModelProgram(self.architecture, self.params, outputs)

    def grid(self, window_seconds: float | None = None, hop_seconds: float | None = None) -> Grid:
        """The windows of recordings: as given, else as the model was evaluated, else 10 s; never longer than what it can read."""
        window = window_seconds or self.reading.window_seconds or WINDOW_SECONDS
        hop = hop_seconds if hop_seconds is not None else (0.0 if window_seconds else self.reading.hop_seconds)
        return cap_window(Grid(window, hop), self.audio)

    def save(self, path: str | Path) -> Path:
        """Writes the folder that `beats_jax.load` reads."""
        return save_bundle(path, replace(self._bundle, params=self.params))

    def _encode(self, inputs: dict[str, jax.Array], layers: bool) -> Encoding:
        out = compiled_forward(self.architecture, self.params, inputs, layers=layers)
        return Encoding(out.features, out.token_mask, out.layers, registry.family(self.config).num_special, out.logits, out.codes)

    def _sound(self, waveforms: Waveforms, lengths: Array | None, sample_rate: int | None) -> dict[str, jax.Array]:
        """Checked waveforms, padded to at least one token, and the end of each clip."""
        sound = check_waveforms(waveforms, self.sample_rate, sample_rate)
        ends = sound.lengths if lengths is None else check_lengths(lengths, sound)
        return {"waveforms": jnp.asarray(sound.padded(self.min_samples)), "lengths": jnp.asarray(ends)}

    def _inputs(self, waveforms: Waveforms, padding_mask: Array | None, sample_rate: int | None) -> dict[str, jax.Array]:
        """As `_sound`, with a mask in place of lengths; neither where all is sound, so that nothing is masked in vain."""
        sound = check_waveforms(waveforms, self.sample_rate, sample_rate)
        missing = max(0, self.min_samples - sound.waveforms.shape[1])
        inputs: dict[str, jax.Array] = {"waveforms": jnp.asarray(sound.padded(self.min_samples))}
        if padding_mask is None:
            return {**inputs, "lengths": jnp.asarray(sound.lengths)} if missing or not sound.is_full else inputs
        mask = check_mask(padding_mask, sound.waveforms.shape)
        if self.audio.filterbank.target_frames:  # the published rule needs frames that are equal parts of the samples: a second
            return {**inputs, "lengths": ends_of(mask)}  # of sound in 1024 frames was all real by it (1214 tokens for 110)
        return {**inputs, "padding_mask": jnp.pad(mask, ((0, 0), (0, missing)), constant_values=True)}


def _put_params(params: Any) -> Any:
    """The parameters on the default device. Two threads: most leaves are transposed on the way, half of the time of loading."""
    default: Any = jax.config.jax_default_device  # type: ignore[attr-defined]  # new threads begin without the caller's

    def put(leaf: Array) -> jax.Array:
        with jax.default_device(default):
            copied = jax.device_put(leaf, may_alias=False)  # an alias would be a view of a file that may be replaced
        if isinstance(leaf, np.ndarray):
            copied.block_until_ready()
            release(leaf)
        return copied

    leaves, structure = jax.tree.flatten(params)
    with ThreadPoolExecutor(2) as threads:
        return jax.tree.unflatten(structure, list(threads.map(put, leaves)))


def load(source: str | Path, dtype: str = "float32", attention: str = "auto") -> Model:
    """Loads a model.

    Args:
      source: a name of `list_available_models`, downloaded where absent; a published file; a model folder (ours, or of the
        Hugging Face hub) or the `model.safetensors` in it; or the folder of a run. An existing path goes before a name.
      dtype: of the computation: float32, bfloat16, or auto (bfloat16 where the machine computes it natively); parameters and
        results are float32.
      attention: how it is computed: auto (by the length), whole (all scores at once), blocked, or on accelerators cudnn, kernel.
    Raises:
      UserError: nothing is there, or it is damaged, of another kind, or does not fit its own configuration.
    Warns:
      LicenceWarning: the weights are for non-commercial use only; once in a process for each licence.
    """
    bundle, dtype = read_checkpoint(source), _known_dtype(dtype)
    return Model(bundle, dtype, registry.form_for(bundle.model, attention, dtype))


def _known_dtype(dtype: str) -> str:
    require_one_of("dtype", dtype, ("float32", "bfloat16", "auto"))
    return native_dtype() if dtype == "auto" else dtype
