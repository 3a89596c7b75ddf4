"""What every encoder returns."""

from __future__ import annotations

from typing import NamedTuple

import jax


class EncoderOutput(NamedTuple):
    """Features of a batch, special tokens first; values at tokens whose mask is False are finite and without meaning."""

    features: jax.Array  # float32 [B, T, D]
    token_mask: jax.Array  # bool [B, T], True = real
    layers: jax.Array | None = None  # float32 [L+1, B, T, D]: input of layer 1, then each layer's output, before any final norm
    logits: jax.Array | None = None  # float32 [B, C] where the model has a head
    codes: jax.Array | None = None  # int32 [B, T] where the model is a tokenizer
