"""The Gaussian of a sound's loud frames as one vector: shapes of its spectrum, how far they vary, and what varies together.

    fbank [B, F, M] ─ minus its largest value ─ cosine transform ─> 16 cepstra ─┐
                                     their change over 3 frames ────────────────┴─> x [B, F, 32]
    mean over the loudest frames of (x, 1)(x, 1)ᵀ ─> S [B, 33, 33] ─> log(S + e I) ─ upper half ─> [B, 561]

S holds mean and covariance of the frames. Such matrices lie on a curved space, where the entries mislead; their logarithms
lie in a flat one, where means and straight lines between classes are meaningful (log-Euclidean metric, Arsigny et al. 2006;
the embedding of a Gaussian in one matrix, Lovrić et al. 2000). Without weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

CEPSTRA = 16  # coefficients of the cosine transform over all bands
LAG = 3  # frames between a frame and the later one that it is compared with
LOUD_SHARE = 0.4  # of the frames, those of the highest mean energy
LEAST_FRAMES = 10  # or so many, where the sound has them
RIDGE = 0.25  # e: variances below are as good as none; in the square of the front-end's units
SIZE = 2 * CEPSTRA + 1  # of S
NUM_COVARIANCES = SIZE * (SIZE + 1) // 2
_ROWS, _COLUMNS = np.triu_indices(SIZE)


def loud_covariance(fbank: jax.Array, frame_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One vector for each sound; it is the same at another level, and whatever the order of its calls.

    Args:
      fbank: float32 [B, F, M], log energies, M at least `CEPSTRA`. frame_mask: bool [B, F], True for frames of real sound, which
        are the first ones.
    Returns:
      float32 [B, 1, NUM_COVARIANCES]: log(S + e I), entries beside the diagonal times sqrt(2), so that distances are those of the
      matrices; bool [B, 1], False for a sound without a frame.
    """
    real = jnp.sum(frame_mask, axis=1)
    peak = jnp.max(jnp.where(frame_mask[:, :, None], fbank, -jnp.inf), axis=(1, 2), initial=-jnp.inf, keepdims=True)
    relative = jnp.where(frame_mask[:, :, None], fbank - peak, 0.0)
    cepstra = relative @ jnp.asarray(_cosines(fbank.shape[2]))
    later = jnp.minimum(np.arange(fbank.shape[1])[None] + LAG, jnp.maximum(real, 1)[:, None] - 1)
    change = jnp.take_along_axis(cepstra, later[:, :, None], axis=1) - cepstra
    points = jnp.concatenate([cepstra, change, jnp.ones_like(cepstra[:, :, :1])], axis=2)
    weights = _loud(jnp.mean(relative, axis=2), frame_mask, real)
    moments = jnp.einsum("bf,bfi,bfj->bij", weights, points, points, precision="highest")
    values, axes = jnp.linalg.eigh(moments + RIDGE * jnp.eye(SIZE)[None])
    logarithm = jnp.einsum("bik,bk,bjk->bij", axes, jnp.log(jnp.maximum(values, RIDGE)), axes, precision="highest")
    scale = np.where(_ROWS == _COLUMNS, 1.0, 2**0.5).astype(np.float32)
    return (logarithm[:, _ROWS, _COLUMNS] * scale[None])[:, None], (real > 0)[:, None]


def _cosines(bands: int) -> np.ndarray:
    """float32 [M, CEPSTRA], orthonormal columns: the cosine transform of type 2."""
    angles = np.pi * (np.arange(bands)[:, None] + 0.5) * np.arange(CEPSTRA) / bands
    return (np.cos(angles) * np.where(np.arange(CEPSTRA) == 0, 1, 2) ** 0.5 / bands**0.5).astype(np.float32)


def _loud(energy: jax.Array, frame_mask: jax.Array, real: jax.Array) -> jax.Array:
    """float32 [B, F]: equal weights of the loudest frames, sum 1; of equally loud ones at the bound all count."""
    wanted = jnp.clip(jnp.floor(LOUD_SHARE * real), LEAST_FRAMES, energy.shape[1]).astype(jnp.int32)
    there = jnp.where(frame_mask, energy, -jnp.inf)
    bound = jnp.take_along_axis(-jnp.sort(-there, axis=1), wanted[:, None] - 1, axis=1)
    chosen = frame_mask & (there >= bound)
    return chosen / jnp.maximum(jnp.sum(chosen, axis=1, keepdims=True), 1)
