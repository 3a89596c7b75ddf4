"""Per-channel energy normalisation (Wang et al. 2017, arXiv 1607.05666): mel energies over their own slow average, then a root.

It takes away the level of steady noise in each band, and so the distance to the microphone; constants are librosa's, which suit
sound scaled to int16 counts (`filterbank.waveform_scale` 32768) as the default front-end has it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.config.schema import FilterbankConfig

SECONDS = 0.4  # time constant of the average
GAIN, BIAS, POWER, SMALLEST = 0.98, 2.0, 0.5, 1e-6

Energies = Float[Array, "frames bands"]


def pcen(energies: Energies, config: FilterbankConfig) -> Energies:
    """(E / (1e-6 + M)^0.98 + 2)^0.5 - 2^0.5 with M the average of the energies so far, at first those of frame 0."""
    frames = SECONDS * config.sample_rate / config.hop_samples
    share = (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    # M[t] = (1 - share) M[t - 1] + share E[t], as compositions of such steps, which a device computes in parallel
    kept = jnp.full_like(energies, 1 - share).at[0].set(0.0)
    added = (share * energies).at[0].set(energies[0])
    _, average = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (kept, added))
    return (energies * (SMALLEST + average) ** -GAIN + BIAS) ** POWER - BIAS**POWER
