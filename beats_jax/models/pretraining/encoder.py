"""An encoder with what is thrown away after pre-training: parameters `model` (what is kept), and `predictor` or `estimator`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config import BEATsConfig, TokenizerConfig
from beats_jax.models.beats import BEATs, patches
from beats_jax.models.forms import AUTO, Forms
from beats_jax.models.pretraining.predictor import Estimator, Predictor
from beats_jax.models.pretraining.quantizer import quantize
from beats_jax.models.pretraining.tokenizer import Tokenizer
from beats_jax.models.visible import Selection


class MaskedBEATs(nn.Module):
    """BEATs that sees some tokens of a clip, and a predictor of the codes of all."""

    config: BEATsConfig
    predictor_config: BEATsConfig
    codes: int
    learnt_mask: bool = True
    true_positions: bool = True  # False: visible tokens move together, as in ESPnet
    dtype: Any = jnp.float32
    forms: Forms = AUTO

    def setup(self) -> None:
        self.model = BEATs(self.config, self.dtype, self.forms)
        self.predictor = Predictor(self.predictor_config, self.codes, self.learnt_mask, self.dtype, self.forms)

    def __call__(
        self, fbank: jax.Array, token_mask: jax.Array | None, selection: Selection, *, deterministic: bool = True
    ) -> jax.Array:
        """fbank [B, F, M], token_mask bool [B, T] → logits float32 [B, T, codes]; masked tokens are not read."""
        features = self.features(fbank, selection, deterministic=deterministic)
        return self.predictor(features, selection.places, token_mask, deterministic)

    def features(self, fbank: jax.Array, selection: Selection, *, deterministic: bool = True) -> jax.Array:
        """Features of the visible tokens, float32 [B, V, D]."""
        pixels = selection.places.gather(patches(fbank, self.config.input_patch_size))
        tokens = self.model.embed_pixels(pixels, selection.visible)
        places = selection.places if self.true_positions else None
        return self.model.encode_tokens(tokens, selection.visible, deterministic=deterministic, places=places).features


class DistilledTokenizer(nn.Module):
    """A tokenizer, and an estimator that reads its codes. The codebook is given to every call: no gradient learns it."""

    config: TokenizerConfig
    estimator_config: BEATsConfig
    outputs: int
    dtype: Any = jnp.float32
    forms: Forms = AUTO

    def setup(self) -> None:
        self.model = Tokenizer(self.config, self.dtype, self.forms)
        self.estimator = Estimator(self.estimator_config, self.outputs, self.dtype, self.forms)

    def __call__(
        self, fbank: jax.Array, token_mask: jax.Array | None, embedding: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """fbank [B, F, M], embedding [K, Q] → the estimate [B, T, outputs], codes [B, T], and what was quantised [B, T, Q]."""
        projected = self.project(fbank, token_mask, deterministic=deterministic)
        codes, vectors, _ = quantize(projected, embedding, token_mask)
        return self.estimator(vectors, token_mask, deterministic), codes, projected

    def project(self, fbank: jax.Array, token_mask: jax.Array | None, *, deterministic: bool = True) -> jax.Array:
        """What the quantiser reads, float32 [B, T, Q], before its normalisation."""
        tokens = self.model.embed_patches(fbank, token_mask)
        features = self.model.encode_tokens(tokens, token_mask, deterministic=deterministic).features
        return self.model.project(features)
