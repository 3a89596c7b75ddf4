"""The random-projection tokenizer, from which a first BEATs is pre-trained (arXiv 2212.09058 §3.2; arXiv 2202.01855).

fbank [B, F, M] → patches [B, T, P * P] → embedded [B, T, E] → projected [G, B, T, Q] → codes [B, T, G].

The realisation is ESPnet's (espnet2/beats, the only public one): a frozen random patch embedding and a frozen random projection,
each followed by a LayerNorm without parameters, then the nearest of frozen random codes. Several codebooks, each with a
projection of its own, see one patch in several ways at once (the multi-softmax of USM, arXiv 2303.01037). Codes depend on the
draw, so whoever trains with it keeps the tensors in the state that is saved.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from beats_jax.models import Fbank, TokenMask
from beats_jax.models.beats import patches
from beats_jax.models.layers import EPSILON, standardise
from beats_jax.models.pretraining.quantizer import PRECISION, nearest

LEAST_VARIANCE = 0.01  # of a direction, in units of the mean variance: weaker ones are not made as strong as the others


class RandomProjection(NamedTuple):
    """The tokenizer's tensors, all float32; none is ever learnt."""

    patch_kernel: Float[Array, "pixels embed_dim"]
    projection: Float[Array, "books embed_dim code_width"]
    codebook: Float[Array, "books codes code_width"]
    centre: Float[Array, " pixels"]  # subtracted from a patch first; zeros as published


def init(
    key: Key[Array, ""], *, codes: int = 1024, width: int = 256, embed_dim: int = 512, patch_size: int = 16, books: int = 1
) -> RandomProjection:
    """Draws the tensors: both kernels from Xavier's normal distribution (the patch kernel's as of a convolution), codes N(0, 1).

    Args:
      codes, width: K and Q. embed_dim: E. patch_size: P. books: G.
    """
    kernel_key, projection_key, codebook_key = jax.random.split(key, 3)
    pixels = patch_size**2
    kernel_scale = (2.0 / (pixels + embed_dim * pixels)) ** 0.5
    projection_scale = (2.0 / (embed_dim + width)) ** 0.5
    return RandomProjection(
        kernel_scale * jax.random.normal(kernel_key, (pixels, embed_dim)),
        projection_scale * jax.random.normal(projection_key, (books, embed_dim, width)),
        jax.random.normal(codebook_key, (books, codes, width)),
        jnp.zeros(pixels),
    )


def fit_projection(tensors: RandomProjection, mean: np.ndarray, covariance: np.ndarray, components: int) -> RandomProjection:
    """Tensors that read a patch through its leading principal components, all of them equally strong.

    The pixels of a patch rise and fall together: as published, a code mostly encodes loudness, and a few codes take nearly all
    patches. If all directions were equally strong, codes would encode what no neighbour predicts. Between the two lie the few
    directions in which patches of real recordings differ most. The map becomes part of `patch_kernel`: codes cost no more.

    Args:
      mean: [P * P] and covariance [P * P, P * P] of the pixels of real patches.
      components: how many directions are kept; at most P * P.
    """
    variances, directions = np.linalg.eigh(covariance.astype(np.float64))
    kept, leading = directions[:, -components:], variances[-components:]
    scale = np.maximum(leading, LEAST_VARIANCE * variances.sum() / len(variances) + np.finfo(np.float64).tiny) ** -0.5
    kernel = (kept * scale) @ (kept.T @ np.asarray(tensors.patch_kernel, np.float64))
    return tensors._replace(patch_kernel=kernel.astype(np.float32), centre=mean.astype(np.float32))


def codes(tensors: RandomProjection, fbank: Fbank, token_mask: TokenMask | None = None) -> Int[Array, "batch tokens books"]:
    """One code of every codebook for each patch.

    Args:
      fbank: normalised; F and M at least one patch. Codes come in the order of BEATs' tokens.
      token_mask: True = real; None = all real. What lies under masked tokens, NaN included, is not read, and their codes have no
        meaning.
    Raises:
      ValueError: fbank smaller than one patch.
    """
    pixels = patches(fbank, round(tensors.patch_kernel.shape[0] ** 0.5))
    if token_mask is not None:
        pixels = jnp.where(token_mask[:, :, None], pixels, 0.0)
    pixels = pixels - tensors.centre[None, None]
    embedded = jnp.einsum("btp,pe->bte", pixels, tensors.patch_kernel, precision=PRECISION)
    embedded = standardise(embedded, jnp.float32, EPSILON)
    projected = jnp.einsum("bte,geq->gbtq", embedded, tensors.projection, precision=PRECISION)
    projected = standardise(projected, jnp.float32, EPSILON)
    return jnp.moveaxis(jax.vmap(nearest)(projected, tensors.codebook), 0, -1)
