"""A BEATs of two blocks and 32 units, and random tensors of it under the published keys."""

import numpy as np
from flax.traverse_util import unflatten_dict

from beats_jax.config import BEATsConfig
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.families.beats import to_torch

TINY_BEATS = BEATsConfig(
    embed_dim=16, encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_attention_heads=4, conv_pos=15,
    conv_pos_groups=4, num_buckets=32, max_distance=64,
)  # fmt: skip


def random_state_dict():
    """Seeded numbers in the shapes of `TINY_BEATS`."""
    draw = np.random.default_rng(0)
    flat = {path: draw.standard_normal(shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
    return to_torch(unflatten_dict(flat, sep="/"), TINY_BEATS)
