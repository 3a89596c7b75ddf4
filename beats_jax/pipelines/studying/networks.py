"""The networks of a study, all called as encoders with a head: fbank [B, F, M] → `.logits` [B, C]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from beats_jax.config import BEATsConfig
from beats_jax.models import registry

CNN, MLP, TRANSFORMER = "cnn", "mlp", "transformer"
WIDTHS = (16, 24, 48, 64)


class Logits(NamedTuple):
    """What the networks here return."""

    logits: Any


class SmallCNN(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, fbank: Any, token_mask: None = None, *, deterministic: bool = True) -> Logits:
        x = nn.Conv(WIDTHS[0], (5, 5), (2, 2), use_bias=False)(fbank[..., None])
        x = nn.relu(nn.BatchNorm(deterministic, momentum=0.9)(x))
        for width in WIDTHS[1:]:
            batch, height, time, channels = x.shape
            x = x.reshape(batch, height // 2, 2, time // 2, 2, channels).max((2, 4))
            x = nn.Conv(width, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(deterministic, momentum=0.9)(x))
        x = nn.Dropout(0.3)(jnp.mean(x, axis=(1, 2)), deterministic=deterministic)
        return Logits(nn.Dense(self.classes)(x))


class MLP_(nn.Module):
    """Without convolutions: every cell has its own weights."""

    classes: int

    @nn.compact
    def __call__(self, fbank: Any, token_mask: None = None, *, deterministic: bool = True) -> Logits:
        x = fbank.reshape(len(fbank), -1)
        for width in (256, 64):
            x = nn.relu(nn.LayerNorm()(nn.Dense(width)(x)))
            x = nn.Dropout(0.5)(x, deterministic=deterministic)
        return Logits(nn.Dense(self.classes)(x))


def network(kind: str, classes: int) -> nn.Module:
    """The module of a kind with a head for so many classes."""
    if kind == CNN:
        return SmallCNN(classes)
    if kind == MLP:
        return MLP_(classes)
    config = BEATsConfig(
        predictor_class=classes,
        input_patch_size=8,
        embed_dim=64,
        encoder_embed_dim=64,
        encoder_ffn_embed_dim=256,
        encoder_layers=3,
        encoder_attention_heads=4,
        conv_pos=16,
        conv_pos_groups=4,
        dropout=0.1,
    )
    return registry.build(config)
