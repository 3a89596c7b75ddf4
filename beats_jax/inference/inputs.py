"""Checks of the waveforms that a caller gives: a wrong scale, layout or rate would silently give wrong features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from beats_jax.errors import UserError

Array = jax.Array | np.ndarray

LOUDEST = 128.0  # times full scale (42 dB above it): integers cast to floats without division, not a recording
MOST_CHANNELS = 8  # "clips" of at most so many samples are channels: soundfile gives [samples, channels]


@dataclass(frozen=True)
class Sound:
    """Checked clips: float [B, S], and int32 [B], samples of sound in each."""

    waveforms: Array
    lengths: np.ndarray

    @property
    def is_full(self) -> bool:
        """Whether every clip is S samples long."""
        return bool((self.lengths == self.waveforms.shape[1]).all())

    def padded(self, samples: int) -> Array:
        """float32 [B, at least `samples`], zeros behind."""
        missing = samples - self.waveforms.shape[1]
        if missing <= 0:
            return self.waveforms.astype(np.float32)
        pad = np.pad if isinstance(self.waveforms, np.ndarray) else jnp.pad
        return pad(self.waveforms.astype(np.float32), ((0, 0), (0, missing)))


def check_waveforms(waveforms: Any, model_rate: int, sample_rate: int | None = None) -> Sound:
    """Clips as an array.

    Args:
      waveforms: float [B, samples], or a list of arrays float [samples], of any lengths.
      sample_rate: of the waveforms in Hz; None = the model's.
    Raises:
      UserError: another shape or type, values that are not finite, or floats far beyond full scale; the remedy is named.
    """
    if isinstance(waveforms, str | bytes) or hasattr(waveforms, "__fspath__"):
        raise UserError(f"waveforms is the name {str(waveforms)!r}; embed_files and predict_files read files")
    clips = _stack(waveforms) if isinstance(waveforms, list | tuple) else Sound(waveforms, _whole(waveforms))
    if isinstance(clips.waveforms, Tracer):  # values are not known yet
        return clips
    _require_values(clips.waveforms)
    if sample_rate is None or sample_rate == model_rate:
        return clips
    if sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate}; it must be at least 1 Hz")
    import soxr

    sounds = [np.asarray(row, np.float32)[:length] for row, length in zip(clips.waveforms, clips.lengths, strict=True)]
    return _stack([soxr.resample(sound, sample_rate, model_rate) for sound in sounds])


def _whole(waveforms: Any) -> np.ndarray:
    """int32 [B], the full length of every clip of an array. Raises `UserError` for another shape or type."""
    if not hasattr(waveforms, "dtype"):
        raise UserError(f"waveforms is a {type(waveforms).__name__}; give an array [clips, samples] or a list of clips")
    shape, kind = np.shape(waveforms), jnp.result_type(waveforms)
    if len(shape) != 2 or not jnp.issubdtype(kind, jnp.floating) or 0 in shape:
        integers = "; divide integers by their full scale (32768 for int16)" if jnp.issubdtype(kind, jnp.integer) else ""
        one = "; for one clip give waveform[None]" if len(shape) == 1 else ""
        raise UserError(
            f"waveforms have shape {shape} and type {kind}; they must be floating point [clips, samples] within +-1, at least "
            f"one of each{integers}{one}"
        )
    if shape[1] <= MOST_CHANNELS and shape[0] > shape[1]:
        raise UserError(
            f"waveforms have shape {shape}: clips of {shape[1]} samples. If this is [samples, channels] as soundfile gives it, "
            "average the channels: waveform.mean(axis=1)[None]"
        )
    return np.full(shape[0], shape[1], np.int32)


def _stack(clips: Any) -> Sound:
    """Clips of any lengths as one array, zeros behind the shorter ones."""
    other = next((clip for clip in clips if not hasattr(clip, "dtype")), None)
    if other is not None:  # plain numbers do not show whether they are the integers of a file or fractions of full scale
        raise UserError(
            f"the list of waveforms holds a {type(other).__name__}; each clip must be an array: np.asarray(clip, np.float32)"
        )
    arrays = [np.asarray(clip) for clip in clips]
    wrong = next((array for array in arrays if array.ndim != 1 or not len(array)), None)
    if not arrays or wrong is not None:
        found = "empty" if wrong is None else f"with a clip of shape {wrong.shape}"
        raise UserError(f"the list of waveforms is {found}; each clip must be floating point [samples]")
    kind = np.result_type(*arrays)
    padded = np.zeros((len(arrays), max(map(len, arrays))), kind if kind.kind in "fiu" else np.float64)
    for row, array in zip(padded, arrays, strict=True):
        if array.dtype.kind not in "fiu":
            raise UserError(f"the list of waveforms holds {array.dtype} values; each clip must be floating point [samples]")
        row[: len(array)] = array
    _whole(padded)
    return Sound(padded, np.array([len(array) for array in arrays], np.int32))


def _require_values(waveforms: Array) -> None:
    peak = float(jnp.max(jnp.abs(waveforms))) if isinstance(waveforms, jax.Array) else float(np.max(np.abs(waveforms)))
    if not np.isfinite(peak):
        finite = np.isfinite(np.asarray(waveforms, np.float32)).all(axis=1)
        raise UserError(f"clip {int(np.argmin(finite))} of the waveforms holds NaN or infinite samples; repair or leave it out")
    if peak > LOUDEST:
        raise UserError(
            f"the waveforms reach {peak:g}, full scale is 1: these look like integers cast to floats; divide them by their full "
            "scale (32768 for int16)"
        )


def check_mask(mask: Array, shape: tuple[int, ...]) -> jax.Array:
    """A padding mask, bool of this shape. Raises `UserError`."""
    if np.shape(mask) != tuple(shape) or jnp.result_type(mask) != jnp.bool_:
        raise UserError(
            f"padding_mask has shape {np.shape(mask)} and type {jnp.result_type(mask)}; it must be bool {list(shape)}"
        )
    return jnp.asarray(mask)


def ends_of(padding_mask: jax.Array) -> jax.Array:
    """int32 [B]: samples up to the last one that is not padding."""
    place = jnp.arange(1, padding_mask.shape[1] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(padding_mask, 0, place[None]), axis=1)


def check_lengths(lengths: Array, sound: Sound) -> np.ndarray:
    """int32 [B], samples of sound in each clip. Raises `UserError`."""
    batch, samples = sound.waveforms.shape
    given = np.asarray(lengths)
    if given.shape != (batch,) or not np.issubdtype(given.dtype, np.integer):
        raise UserError(
            f"lengths have shape {given.shape} and type {given.dtype}; they must be whole numbers [{batch}], in samples"
        )
    if given.min() < 0 or given.max() > samples:
        raise UserError(
            f"lengths run from {given.min()} to {given.max()}; they must lie between 0 and the {samples} samples given"
        )
    return given.astype(np.int32)
