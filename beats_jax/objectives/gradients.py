"""Gradients of sums over a batch, worked through in one or several parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from beats_jax.parallel.layout import shard_batch

BLOCK = re.compile(r"(?:^|/)(?:layers|blocks)_(\d+)/")
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, count), so that averages are right whatever the parts
LossFunction = Callable[[Any, Any, jax.Array], tuple[jax.Array, Metrics]]


def mean_gradients(loss: LossFunction, params: Any, batch: Any, key: jax.Array, parts: int) -> tuple[Any, Metrics]:
    """Gradient of (sum of the loss over the batch) / (its count), with the batch worked through in `parts` parts.

    Sums are added over the parts and divided once, so the result is that of the whole batch however unevenly valid rows
    fall into the parts.

    Args:
      loss: (params, part, key) -> (sum of the losses, metrics); `metrics["loss"]` is (the same sum, its count).
      batch: pytree of arrays [B, ...]; B is a multiple of `parts`. Part i is rows i, i + parts, i + 2 * parts ...: each
        device keeps its own rows.
      key: part i receives fold_in(key, i) for randomness inside the model.
    Returns:
      gradients like `params`, and the metrics' sums over the whole batch. A batch with a count of 0 has zero gradients.
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def sums(part: Any, index: Any) -> tuple[Any, Metrics]:
        (_, metrics), gradients = value_and_grad(params, shard_batch(part), jax.random.fold_in(key, index))
        return gradients, metrics

    if parts == 1:
        gradients, metrics = sums(batch, 0)
    else:
        split = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), batch)
        shapes = jax.eval_shape(sums, jax.tree.map(lambda x: x[0], split), 0)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def add(total: Any, item: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, sums(*item)), None

        (gradients, metrics), _ = jax.lax.scan(add, zeros, (split, jnp.arange(parts)))
    count = metrics["loss"][1]
    scale = jnp.where(count > 0, 1 / jnp.where(count > 0, count, 1), 0)
    return jax.tree.map(lambda g: g * scale, gradients), metrics


def global_norm(tree: Any) -> jax.Array:
    """Root of the sum of all squares, float32 []."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)), jnp.zeros(())))


def gradient_norms(gradients: Any) -> Metrics:
    """`gradient_norm` of all parameters, and `block_NN_gradient_norm` of each block of the encoder (group `model`)."""
    norms = {"gradient_norm": global_norm(gradients)}
    blocks: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradients["model"])[0]:
        found = BLOCK.search(jax.tree_util.keystr(path, simple=True, separator="/"))
        if found:
            blocks.setdefault(f"block_{int(found[1]):02d}_gradient_norm", []).append(leaf)
    norms |= {name: global_norm(leaves) for name, leaves in sorted(blocks.items())}
    return {name: (norm, jnp.ones(())) for name, norm in norms.items()}
