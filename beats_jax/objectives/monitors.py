"""How a codebook is used, from counts that add up over the parts of a batch and over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from beats_jax.objectives.gradients import Metrics

COUNTS = "_code_counts"  # end of the names under which `code_usage` hands counts to `used_codes`


def code_usage(name: str, codes: jax.Array, among: jax.Array, size: int) -> Metrics:
    """Counts of each code as an entry of the metrics: codes int32 [B, T, G], among bool [B, T] → ([G, K], [])."""
    assigned = jax.nn.one_hot(codes, size, dtype=jnp.float32)
    counts = jnp.sum(jnp.where(among[:, :, None, None], assigned, 0.0), axis=(0, 1))
    return {f"{name}{COUNTS}": (counts, jnp.ones(()))}


def used_codes(metrics: Metrics) -> Metrics:
    """The metrics with counts turned into `NAME_codes` (different codes in the batch) and `NAME_entropy` (bits; log2 K = even).

    Both are means over the G codebooks. A batch in which nothing was counted counts for nothing.
    """
    result = {name: value for name, value in metrics.items() if not name.endswith(COUNTS)}
    for name in metrics.keys() - result.keys():
        counts = metrics[name][0]
        total = jnp.sum(counts[0])
        shares = counts / jnp.maximum(total, 1.0)
        bits = -jnp.where(shares > 0, shares * jnp.log2(jnp.where(shares > 0, shares, 1.0)), 0.0)
        any_ = (total > 0).astype(jnp.float32)
        short = name.removesuffix(COUNTS)
        result[f"{short}_codes"] = (jnp.mean(jnp.sum(counts > 0, axis=1).astype(jnp.float32)), any_)
        result[f"{short}_entropy"] = (jnp.mean(jnp.sum(bits, axis=1)), any_)
    return result
