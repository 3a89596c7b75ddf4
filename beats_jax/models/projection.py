"""What stands between pooled features and a contrastive loss during training only (SimCLR, Chen et al. 2020 §4.2)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.models.elementwise import gelu
from beats_jax.models.linear import Linear, torch_kernel


class Projection(nn.Module):
    """Linear, GELU, Linear: float [B, D] → float32 [B, outputs]; the hidden width is D."""

    outputs: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = gelu(Linear(x.shape[-1], self.dtype, torch_kernel(), name="fc1")(x), self.dtype)
        return Linear(self.outputs, self.dtype, torch_kernel(), name="fc2")(x)
