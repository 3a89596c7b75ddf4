"""An encoder (parameters `model`, kept after pre-training) with a `predictor` or an `estimator`, which is not kept."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from beats_jax.config import BEATsConfig, TokenizerConfig
from beats_jax.models import Fbank, TokenMask
from beats_jax.models.beats import BEATs, patches
from beats_jax.models.cpu import Form
from beats_jax.models.masking import Selection
from beats_jax.models.pretraining.predictor import Estimator, Predictor
from beats_jax.models.pretraining.quantizer import quantize
from beats_jax.models.pretraining.tokenizer import Tokenizer


class MaskedBEATs(nn.Module):
    """BEATs over some tokens of a clip, and a predictor of the codes of all: [B, F, M] → logits [B, T, codes]."""

    config: BEATsConfig
    predictor_config: BEATsConfig
    codes: int
    learnt_mask: bool = True
    true_positions: bool = True  # False: visible tokens move together, as in ESPnet
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        self.model = BEATs(self.config, self.dtype, self.form)
        self.predictor = Predictor(self.predictor_config, self.codes, self.learnt_mask, self.dtype, self.form)

    def __call__(
        self, fbank: Fbank, token_mask: TokenMask | None, selection: Selection, *, deterministic: bool = True
    ) -> Float[Array, "batch tokens codes"]:
        """Logits; masked tokens are not read."""
        features = self.features(fbank, selection, deterministic=deterministic)
        return self.predictor(features, selection.places, token_mask, deterministic)

    def features(self, fbank: Fbank, selection: Selection, *, deterministic: bool = True) -> Float[Array, "batch visible width"]:
        """Features of the visible tokens."""
        pixels = selection.places.gather(patches(fbank, self.config.input_patch_size))
        tokens = self.model.embed_pixels(pixels, selection.visible)
        places = selection.places if self.true_positions else None
        return self.model.encode_tokens(tokens, selection.visible, deterministic=deterministic, places=places).features


class DistilledTokenizer(nn.Module):
    """A tokenizer, and an estimator that reads its codes. The codebook is an argument: no gradient reaches it."""

    config: TokenizerConfig
    estimator_config: BEATsConfig
    outputs: int
    dtype: DTypeLike = jnp.float32
    form: Form = Form.AUTO

    def setup(self) -> None:
        self.model = Tokenizer(self.config, self.dtype, self.form)
        self.estimator = Estimator(self.estimator_config, self.outputs, self.dtype, self.form)

    def __call__(
        self,
        fbank: Fbank,
        token_mask: TokenMask | None,
        embedding: Float[Array, "size code_width"],
        *,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "batch tokens outputs"], Int[Array, "batch tokens"], Float[Array, "batch tokens code_width"]]:
        """The estimate, the codes, and the vectors that were quantised."""
        projected = self.project(fbank, token_mask, deterministic=deterministic)
        codes, vectors, _ = quantize(projected, embedding, token_mask)
        return self.estimator(vectors, token_mask, deterministic), codes, projected

    def project(
        self, fbank: Fbank, token_mask: TokenMask | None, *, deterministic: bool = True
    ) -> Float[Array, "batch tokens code_width"]:
        """The input of the quantiser, before its normalisation."""
        tokens = self.model.embed_patches(fbank, token_mask)
        features = self.model.encode_tokens(tokens, token_mask, deterministic=deterministic).features
        return self.model.project(features)
