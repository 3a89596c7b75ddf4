"""Figures of a step as {name: (sum, count)}, so that averages are right over the parts of a batch, devices and steps."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Metric = tuple[Any, jax.Array]  # the sum may be a tree of arrays, in entries that an objective takes out again
Metrics = dict[str, Metric]

BLOCK = re.compile(r"(?:^|/)(?:layers|blocks)_(\d+)/")
COUNTS = "_code_counts"  # end of the names under which `code_usage` hands counts to `used_codes`


def masked_sum(values: Array, mask: Bool[Array, ...]) -> Metric:
    """Sum of the values where the mask is True, and their number."""
    return jnp.sum(jnp.where(mask, values, 0)).astype(jnp.float32), jnp.sum(mask).astype(jnp.float32)


def once(value: jax.Array) -> Metric:
    """A value that counts once a step."""
    return value, jnp.ones(())


def global_norm(tree: Any) -> Float[Array, ""]:
    """Root of the sum of all squares."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)), jnp.zeros(())))


def gradient_norms(gradients: Any) -> Metrics:
    """`gradient_norm` of all parameters, and `block_NN_gradient_norm` of each block of an encoder under the name `model`."""
    norms = {"gradient_norm": global_norm(gradients)}
    blocks: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradients.get("model", {}))[0]:
        found = BLOCK.search(jax.tree_util.keystr(path, simple=True, separator="/"))
        if found:
            blocks.setdefault(f"block_{int(found[1]):02d}_gradient_norm", []).append(leaf)
    norms |= {name: global_norm(leaves) for name, leaves in sorted(blocks.items())}
    return {name: once(norm) for name, norm in norms.items()}


def code_usage(name: str, codes: Int[Array, "B T G"], among: Bool[Array, "B T"], size: int) -> Metrics:
    """How often each of `size` codes occurs in each of the G codebooks, float32 [G, K], as an entry of the metrics."""
    assigned = jax.nn.one_hot(codes, size, dtype=jnp.float32)
    counts = jnp.sum(jnp.where(among[:, :, None, None], assigned, 0.0), axis=(0, 1))
    return {f"{name}{COUNTS}": once(counts)}


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


def embedding_spread(embeddings: Float[Array, "N P"], valid: Bool[Array, " N"]) -> Metric:
    """Mean standard deviation of the valid rows times sqrt(P): 0 = all alike, 1 = even."""
    covariance, any_ = _covariance(embeddings, valid)
    return any_ * jnp.mean(jnp.sqrt(jnp.diagonal(covariance))) * embeddings.shape[-1] ** 0.5, any_


def embedding_rank(embeddings: Float[Array, "N P"], valid: Bool[Array, " N"]) -> Metric:
    """Number of directions in which the valid rows differ: trace(C)^2 / trace(C^2) of their covariance, at most min(N - 1, P).

    1 = all lie on a line. The spread does not show that: channels can be even and still all carry the same signal.
    """
    covariance, any_ = _covariance(embeddings, valid)
    squares = jnp.sum(jnp.square(covariance))
    return any_ * jnp.square(jnp.trace(covariance)) / jnp.where(squares > 0, squares, 1.0), any_


def _covariance(embeddings: Float[Array, "N P"], valid: Bool[Array, " N"]) -> tuple[Float[Array, "P P"], Float[Array, ""]]:
    """Covariance of the valid rows; and 1, or 0 where there is none."""
    count = jnp.sum(valid)
    mean = jnp.sum(jnp.where(valid[:, None], embeddings, 0.0), axis=0) / jnp.maximum(count, 1)
    centred = jnp.where(valid[:, None], embeddings - mean[None], 0.0)
    products = jnp.einsum("na,nb->ab", centred, centred, precision=jax.lax.Precision.HIGHEST)
    return products / jnp.maximum(count, 1), (count > 0).astype(jnp.float32)
