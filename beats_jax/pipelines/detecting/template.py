"""Mel templates: how well the sound of a window agrees with the mean spectrogram of a few examples, at its best place.

The score is Pearson's correlation of template and sound over time and mel bands (normalised cross-correlation, Lewis 1995), after
each band is measured in units of its own background: level and spread of the recordings, so that a loud band counts no more than
a quiet one. Only the bands that hold most of the examples' energy are compared: the others would add the same noise to every
sound. Fisher's z (artanh) of the correlation is close to normal in the background.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AudioConfig, to_mapping
from beats_jax.inference.program import Batch
from beats_jax.parallel.mesh import shard_batch, shard_map_rows

MOST = 0.999  # correlation: beyond it a score could not rise in float32
EXACT = jax.lax.Precision.HIGHEST  # accelerators would round the factors, and a correlation is a small difference of large sums


@dataclass(frozen=True, eq=False)
class TemplateProgram:
    """Logits of C templates: `slope` times (Fisher's z of the largest correlation in the window minus `offset`).

    Attributes:
      params: `level`, `spread` float32 [M], of the background; `cells` float32 [C, T, M], 1 where the template looks (its own
        frames stand in the middle of T), else 0; `templates` float32 [C, T, M], of zero mean and unit norm over the cells, 0
        elsewhere; `slope`, `offset` float32 [C].
      shifts: places in frames at which a template may begin, from the start of the window. A window of T + shifts - 1 frames
        every `shifts` frames looks at each place once.
    """

    audio: AudioConfig
    params: Any
    shifts: int

    @property
    def min_samples(self) -> int:
        return self.audio.filterbank.frame_samples

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for name in sorted(self.params):
            digest.update(np.asarray(self.params[name]).tobytes())
        facts = {"model": "template", "audio": to_mapping(self.audio), "shifts": self.shifts}
        return {**facts, "params_sha256": digest.hexdigest()}

    def __call__(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """`logits`, float32 [B, C]."""
        return _template_logits(self.audio, self.shifts, params, batch["waveforms"], batch["lengths"])


@partial(jax.jit, static_argnums=(0, 1))
def _template_logits(
    audio: AudioConfig, shifts: int, params: Any, waveforms: jax.Array, lengths: jax.Array
) -> dict[str, jax.Array]:
    one_frame = audio.filterbank.frame_samples
    lengths = jnp.where(lengths > 0, jnp.maximum(lengths, one_frame), 0)
    fbank, mask = shard_batch(shard_map_rows(partial(filterbank, config=audio.filterbank))(*shard_batch((waveforms, lengths))))
    missing = params["templates"].shape[1] + shifts - 1 - fbank.shape[1]
    fbank, mask = (jnp.pad(x, ((0, 0), (0, max(0, missing))) + ((0, 0),) * (x.ndim - 2)) for x in (fbank, mask))
    values = band_units(fbank, mask, params["level"], params["spread"])
    found = correlations(values, params["templates"], params["cells"])[:, :shifts]
    # A place where the template reaches over the end of the sound counts only where there is no other, as in a short recording
    count = jnp.sum(mask, axis=1)[:, None, None]
    place = jnp.arange(found.shape[1])[None, :, None]
    inside = (place + params["templates"].shape[1] <= count) | (place == 0)
    best = jnp.max(jnp.where(inside, found, -1.0), axis=1)
    return {"logits": (fisher_z(best) - params["offset"][None]) * params["slope"][None]}


def band_units(fbank: jax.Array, mask: jax.Array, level: jax.Array, spread: jax.Array) -> jax.Array:
    """Each band's distance from its background in units of its spread, [B, F, M]; 0 where there is no sound."""
    return jnp.where(mask[:, :, None], (fbank - level[None, None]) / spread[None, None], 0.0)


def fisher_z(correlation: jax.Array) -> jax.Array:
    """artanh, finite for a correlation of 1."""
    return jnp.arctanh(jnp.clip(correlation, -MOST, MOST))


@jax.jit
def correlations(values: jax.Array, templates: jax.Array, cells: jax.Array) -> jax.Array:
    """Pearson's correlation with every template at every place, float32 [B, F - T + 1, C].

    Args:
      values: float32 [B, F, M], F >= T. templates, cells: as in `TemplateProgram.params`.
    """
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=EXACT,
    )
    shared, sums = jnp.split(convolve(values, jnp.concatenate([templates, cells]).transpose(1, 2, 0)), 2, axis=2)
    squares = convolve(jnp.square(values), cells.transpose(1, 2, 0))
    energy = squares - jnp.square(sums) / jnp.sum(cells, axis=(1, 2))[None, None]
    return jnp.where(energy > 1e-6 * squares + 1e-12, shared * jax.lax.rsqrt(jnp.maximum(energy, 1e-12)), 0.0)
