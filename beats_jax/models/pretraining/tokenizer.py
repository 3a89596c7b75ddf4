"""The self-distilled tokenizer of BEATs (unilm/beats/Tokenizers.py): encoder, projection, quantiser; one code for each patch."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.config import TokenizerConfig
from beats_jax.models import Fbank, TokenMask, Tokens, beats
from beats_jax.models.beats import BEATs
from beats_jax.models.heads import EncoderOutput
from beats_jax.models.layers import Linear, torch_bias, torch_kernel
from beats_jax.models.pretraining.quantizer import Codebook, quantize

CONSTANTS = ("quantizer/.*",)  # paths of parameters that no optimizer changes: training sets them by `quantizer.update_codebook`


class CodebookTable(nn.Module):
    """The quantiser's state as parameters; empty until `quantizer.start_codebook` fills it from data, as published."""

    config: TokenizerConfig

    @nn.compact
    def __call__(self) -> Codebook:
        size, width, zeros = self.config.quant_n, self.config.quant_dim, nn.initializers.zeros_init()
        shapes = Codebook(embedding=(size, width), usage=(size,), cluster_size=(size,), embed_avg=(size, width), initted=(1,))  # type: ignore[arg-type]
        return Codebook(*(self.param(name, zeros, shape) for name, shape in shapes._asdict().items()))


class Tokenizer(BEATs):
    """A BEATs encoder whose tokens get codes.

    Parameters beside the encoder's: quantize_layer_0, quantize_layer_2 (Linear, tanh between them), quantizer (`Codebook`).
    A call changes nothing: the published code counts usage at inference too, here `quantizer.update_usage` does on demand.
    """

    config: TokenizerConfig  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        width = self.config.encoder_embed_dim
        self.quantize_layer_0 = Linear(width, self.dtype, torch_kernel(), torch_bias(width))
        self.quantize_layer_2 = Linear(self.config.quant_dim, self.dtype, torch_kernel(), torch_bias(width))
        self.quantizer = CodebookTable(self.config)

    def __call__(
        self, fbank: Fbank, token_mask: TokenMask | None = None, *, deterministic: bool = True, layers: bool = False
    ) -> EncoderOutput:
        """As `BEATs`, with `codes`; `features` are the encoder's. Codes of masked tokens have no meaning."""
        out = super().__call__(fbank, token_mask, deterministic=deterministic, layers=layers)
        return out._replace(codes=quantize(self.project(out.features), self.quantizer().embedding).codes)

    def project(self, features: Tokens) -> Float[Array, "batch tokens code_width"]:
        """The input of the quantiser, before its normalisation."""
        return self.quantize_layer_2(jnp.tanh(self.quantize_layer_0(features)))


def parameter_depth(path: str, config: TokenizerConfig) -> int:
    """As `beats.parameter_depth`; projection and quantiser come after the blocks, as a head does."""
    return config.encoder_layers + 1 if path.startswith("quantize") else beats.parameter_depth(path, config)
