"""The heads of episodic training under one face: parameters, scores of many episodes at once, and their loss.

Beside those of `models.fewshot`, E is the number of episodes: support [E, W, K, ...], queries [E, Q, ...], scores [E, Q, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.config import ASTConfig, ModelConfig
from beats_jax.models import TokenMask, Tokens, registry
from beats_jax.models.fewshot.matching import FullContextEmbeddings
from beats_jax.models.fewshot.nearest import prototypical_scores, simpleshot_scores
from beats_jax.models.fewshot.relation import RelationModule
from beats_jax.models.statistics import COLLECTION, WithStatistics

WITHOUT_PARAMETERS = {"prototypical": prototypical_scores, "simpleshot": simpleshot_scores}
Scores = Float[Array, "episodes queries ways"]


@dataclass(frozen=True)
class FewShotHead:
    """How queries are compared with the support. `method`: prototypical, simpleshot, matching or relation."""

    method: str

    @property
    def reads_maps(self) -> bool:
        """Whether items are maps [H, W, C] instead of vectors [D]."""
        return self.method == "relation"

    def module(self, width: int) -> Any:
        """The Linen module for items of this width; None where there are no parameters."""
        if self.method == "matching":
            return FullContextEmbeddings(width)
        return WithStatistics(RelationModule(width)) if self.method == "relation" else None

    def init(self, key: jax.Array, item: Sequence[int]) -> Any:
        """Random parameters for items of this shape, batch statistics among them; None where there are none."""
        module, shape = self.module(item[-1]), tuple(item)
        return (
            None if module is None else module.init({"params": key}, jnp.zeros((2, 1, *shape)), jnp.zeros((2, *shape)))["params"]
        )

    def scores(self, params: Any, support: jax.Array, query: jax.Array) -> Scores:
        """Scores as they are measured: the largest is the class that is named."""
        module = self.module(query.shape[-1])
        if module is None:
            return jax.vmap(WITHOUT_PARAMETERS[self.method])(support, query)
        return jax.vmap(lambda own, other: module.apply({"params": params}, own, other))(support, query)

    def scores_in_training(self, params: Any, support: jax.Array, query: jax.Array) -> tuple[Scores, Any]:
        """Scores, and the batch statistics that this step leaves: their mean over its episodes; None where there are none."""
        if not self.reads_maps:
            return self.scores(params, support, query), None
        module = self.module(query.shape[-1])

        def one(own: jax.Array, other: jax.Array) -> tuple[jax.Array, Any]:
            scores, moved = module.apply({"params": params}, own, other, train=True, mutable=[COLLECTION])
            return scores, moved[COLLECTION]

        scores, moved = jax.vmap(one)(support, query)
        return scores, jax.tree.map(lambda x: jnp.mean(x.astype(jnp.float32), axis=0), moved)

    def losses(self, scores: Scores, targets: Scores) -> Float[Array, "episodes queries"]:
        """Cross-entropy with one-hot targets; for relation, whose scores are no logits, the mean square of the differences."""
        if self.reads_maps:
            return jnp.mean(jnp.square(scores - targets), axis=-1)
        return -jnp.sum(targets * jax.nn.log_softmax(scores), axis=-1)


def to_maps(config: ModelConfig, tokens: Tokens, token_mask: TokenMask, frames: int) -> Float[Array, "batch steps rows width"]:
    """Tokens of an encoder, without special ones, as a map of time and frequency; 0 at padding. frames: of the filterbank."""
    kept = jnp.where(token_mask[:, :, None], tokens, 0.0)
    if isinstance(config, ASTConfig):  # its tokens go frequency by frequency
        return jnp.swapaxes(kept.reshape(len(kept), *config.grid, -1), 1, 2)
    return kept.reshape(len(kept), frames // registry.family(config).min_frames, -1, kept.shape[-1])
