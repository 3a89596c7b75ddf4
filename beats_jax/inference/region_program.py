"""Mel bands of a region above the background of its recording: what `discover` embeds where no model is given.

    fbank [B, F, M] ─ minus the background of the recording, at least 0 ─ bands outside the region count less ─> mean, deviation

A region shares its time with other sounds: with all bands two calls of two species at one moment have one vector. Its box is not
exact, so that bands outside of it count a little. And with the background the same call has other vectors in wind than at night.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import fft_samples, filterbank, mel_matrix
from beats_jax.config import AudioConfig, FilterbankConfig, to_mapping
from beats_jax.inference.program import Batch, token_statistics

PERCENTILE = 20.0  # of the frames of a recording: what is there when nothing calls
OUTSIDE = 0.3  # weight of bands outside of the region
MARGIN = 1 / 64  # of the rate: 250 Hz at 16 kHz, by which a region's band is made wider, as bambird does


@dataclass(frozen=True, eq=False)
class RegionProgram:
    """Statistics of N regions of R recordings, one layer of D = M mel bins.

    Attributes:
      backgrounds: float32 [R, M], normalised log-mel. recordings: int32 [N], rows of `backgrounds`.
      low_hz, high_hz: float32 [N].
    """

    audio: AudioConfig
    backgrounds: np.ndarray
    recordings: np.ndarray
    low_hz: np.ndarray
    high_hz: np.ndarray

    @property
    def min_samples(self) -> int:
        return self.audio.filterbank.frame_samples

    @cached_property
    def params(self) -> dict[str, jax.Array]:
        """Arrays of the regions; batches name their rows."""
        values = {"recordings": self.recordings.astype(np.int32), "low_hz": self.low_hz, "high_hz": self.high_hz}
        values |= {"backgrounds": self.backgrounds, "centres": band_centres(self.audio.filterbank)}
        return {name: jnp.asarray(value) for name, value in values.items()}

    def identity(self) -> dict[str, Any]:
        above = {"percentile": PERCENTILE, "outside": OUTSIDE, "margin": MARGIN}
        return {"model": "filterbank", "audio": to_mapping(self.audio), "above_background": above}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`count`, `mean` and `m2` of `token_statistics`, frames in place of tokens."""
        return _statistics(self.audio, params, batch["waveforms"], batch["lengths"], batch["rows"])


def band_centres(config: FilterbankConfig) -> np.ndarray:
    """float32 [M], Hz: the middle of each mel band; 0 of one without a bin of the FFT."""
    matrix = np.asarray(mel_matrix(config))
    hz = np.arange(len(matrix)) * config.sample_rate / fft_samples(config)
    return (hz @ matrix / np.maximum(matrix.sum(axis=0), 1e-9)).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def _statistics(audio: AudioConfig, params: Any, waveforms: jax.Array, lengths: jax.Array, rows: jax.Array) -> Any:
    frame = audio.filterbank.frame_samples
    inside = jnp.arange(waveforms.shape[1])[None, :] < lengths[:, None]
    fbank, frame_mask = filterbank(jnp.where(inside, waveforms, 0.0), jnp.maximum(lengths, frame), audio.filterbank)
    margin = MARGIN * audio.sample_rate
    low, high = (params[name][rows][:, None] for name in ("low_hz", "high_hz"))
    centres = params["centres"][None]
    weights = jnp.where((centres >= low - margin) & (centres <= high + margin), 1.0, OUTSIDE)
    background = params["backgrounds"][params["recordings"][rows]]
    above = jnp.maximum(fbank - background[:, None], 0.0) * weights[:, None]
    return token_statistics([above], frame_mask, ("mean", "std"))


@partial(jax.jit, static_argnums=0)
def _fbank(audio: AudioConfig, waveforms: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    return filterbank(waveforms, lengths, audio.filterbank)


def background_of(audio: AudioConfig, excerpts: list[np.ndarray], samples: int) -> np.ndarray:
    """float32 [M]: the quiet level of each band in excerpts of one recording, float32 [n <= samples] each.

    Args:
      samples: to which each is padded, so that one compiled function serves all.
    """
    frames = []
    for sound in excerpts:
        padded = np.pad(sound, (0, samples - len(sound)))[None]
        lengths = np.array([max(len(sound), audio.filterbank.frame_samples)], np.int32)
        fbank, mask = _fbank(audio, padded, lengths)
        frames.append(np.asarray(fbank)[0][np.asarray(mask)[0]])
    return np.percentile(np.concatenate(frames), PERCENTILE, axis=0).astype(np.float32)
