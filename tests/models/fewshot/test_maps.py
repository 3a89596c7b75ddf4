"""Tokens as maps of time and frequency, whatever order a family has."""

import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import ASTConfig, BEATsConfig, CNNConfig, EATConfig, ModelConfig
from beats_jax.models.fewshot.heads import to_maps

STEPS, ROWS = 3, 2


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (BEATsConfig(input_patch_size=8), 25),
        (EATConfig(patch_size=16), 48),
        (CNNConfig(), 50),
        (ASTConfig(patch_size=16, time_stride=10, frequency_stride=10, max_length=36, num_mel_bins=26), 36),
    ],
    ids=lambda value: getattr(value, "family", str(value)),
)
def test_a_token_is_at_its_time_and_frequency(config: ModelConfig, frames: int) -> None:
    time, frequency = np.meshgrid(np.arange(STEPS), np.arange(ROWS), indexing="ij")
    order = (1, 0) if config.family == "ast" else (0, 1)  # its tokens go frequency by frequency
    tokens = np.stack([time.transpose(order).reshape(-1), frequency.transpose(order).reshape(-1)], axis=-1).astype(np.float32)
    real = tokens[:, 0] < 2
    maps = to_maps(config, jnp.asarray(tokens)[None] + 1, jnp.asarray(real)[None], frames)
    np.testing.assert_array_equal(maps[0, :2], np.stack([time, frequency], axis=-1)[:2] + 1)
    assert not np.asarray(maps[0, 2]).any()
