"""Multi-head self-attention with a gated relative bias (unilm/beats/backbone.py `MultiheadAttention`).

Scores, bias and softmax are float32. The division and multiplication by 32 of the original only serves float16 and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config import BEATsConfig
from beats_jax.models.contraction import contract
from beats_jax.models.forms import HEADWISE_FROM_TOKENS, Forms
from beats_jax.models.linear import Initializer, Linear
from beats_jax.models.relative_position import relative_gate


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    bias: jax.Array | None = None,
    gate: jax.Array | None = None,
    token_mask: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    dropout_rate: float = 0.0,
    dtype: Any = jnp.float32,
    form: str = "direct",
) -> jax.Array:
    """softmax(q kᵀ / sqrt(K) + gate · bias) v over real keys.

    Args:
      queries, keys, values: [B, H, T, K].
      bias: [H, T, T] (query, key), the same for all clips, or [B, H, T, T]; None = no bias.
      gate: [B, H, T], factor of each bias row; None = 1.
      token_mask: bool [B, T], True = real. A clip without any real token attends evenly to all its tokens, so that it stays
        finite (the original gives NaN).
      dropout_key, dropout_rate: dropout of the probabilities; no key = none. Each clip has its own key, so that both forms agree.
      dtype: precision of the two products.
      form: `direct` (whole batch at once), `clips` (`lax.map` over clips), `heads` (over the heads of all clips; without bias and
        dropout only) or `portable` (heads or clips on CPUs, direct elsewhere).
    Returns:
      float32 [B, H, T, K].
    Raises:
      ValueError: `heads` with a bias or dropout.
    """
    clip = {"queries": queries * queries.shape[-1] ** -0.5, "keys": keys, "values": values}
    if gate is not None:
        clip["gate"] = gate
    if token_mask is not None:
        clip["token_mask"] = token_mask
    if dropout_key is not None and dropout_rate > 0:
        clip["dropout_key"] = jax.random.split(dropout_key, queries.shape[0])
    if bias is not None and bias.ndim == 4:
        clip["bias"], bias = bias, None
    one = partial(_attend_clip, bias=bias, dropout_rate=dropout_rate, dtype=dtype)
    direct = jax.vmap(one)
    # Scores are computed again for the gradients: kept ones would be copied whole into and out of the loop, on one thread.
    clips = partial(jax.lax.map, jax.checkpoint(one, prevent_cse=False))
    plain = bias is None and not clip.keys() & {"bias", "gate", "dropout_key"}
    if form == "heads" and not plain:
        raise ValueError("attention by heads takes neither a bias nor dropout")
    if form == "portable":
        loop = partial(_by_heads, clips) if plain and queries.shape[2] >= HEADWISE_FROM_TOKENS else clips
        return jax.lax.platform_dependent(clip, cpu=loop, default=direct)
    if form == "heads":
        return _by_heads(clips, clip)
    return clips(clip) if form == "clips" else direct(clip)


def _by_heads(clips: Callable[[dict[str, jax.Array]], jax.Array], clip: dict[str, jax.Array]) -> jax.Array:
    """`clips` over B * H clips of one head each: [B, H, T, K]."""
    batch, heads, tokens, width = clip["queries"].shape
    alone = {name: x.reshape(-1, 1, tokens, width) for name, x in clip.items() if name != "token_mask"}
    if "token_mask" in clip:
        alone["token_mask"] = jnp.repeat(clip["token_mask"], heads, axis=0)
    return clips(alone).reshape(batch, heads, tokens, width)


def _attend_clip(clip: dict[str, jax.Array], *, bias: jax.Array | None, dropout_rate: float, dtype: Any) -> jax.Array:
    scores = contract("hqk,hsk->hqs", clip["queries"], clip["keys"], dtype)
    bias = clip.get("bias", bias)
    if bias is not None:
        scores = scores + (clip["gate"][:, :, None] * bias if "gate" in clip else bias)
    if "token_mask" in clip:
        scores = jnp.where(clip["token_mask"][None, None, :], scores, jnp.finfo(scores.dtype).min)
    probabilities = jax.nn.softmax(scores, axis=-1)
    if "dropout_key" in clip:
        kept = jax.random.bernoulli(clip["dropout_key"], 1.0 - dropout_rate, probabilities.shape)
        probabilities = jnp.where(kept, probabilities / (1.0 - dropout_rate), 0.0)
    return contract("hqs,hsk->hqk", probabilities, clip["values"], dtype)


class SelfAttention(nn.Module):
    """Projections, gate and attention; parameters `{q,k,v,out}_proj`, and of a gated bias `grep_linear` and `grep_a` [H]."""

    config: BEATsConfig
    dtype: Any
    forms: Forms
    query_key_init: Initializer
    value_init: Initializer

    def setup(self) -> None:
        width, heads = self.config.encoder_embed_dim, self.config.encoder_attention_heads
        self.q_proj = Linear(width, self.dtype, self.query_key_init)
        # The bias of the keys adds the same to all scores of a query, which softmax ignores: its gradient is 0 but for
        # rounding, and Adam would turn that rounding into full steps, other ones on every number of devices.
        self.k_proj = Linear(width, self.dtype, self.query_key_init, learn_bias=False)
        self.v_proj = Linear(width, self.dtype, self.value_init)
        self.out_proj = Linear(width, self.dtype, self.value_init)
        if self.config.gru_rel_pos and self.config.relative_position_embedding:
            self.grep_linear = GateProjection(width // heads)
            self.grep_a = self.param("grep_a", nn.initializers.ones_init(), (heads,))

    def __call__(self, x: jax.Array, bias: jax.Array | None, token_mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """`x` [B, T, D], `bias` [H, T, T], [B, H, T, T] or None, `token_mask` bool [B, T] or None → [B, T, D]."""
        queries, keys, values = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        gate = None
        if self.config.gru_rel_pos and self.config.relative_position_embedding:
            gate = relative_gate(queries, *self.grep_linear(), self.grep_a)
        rate = 0.0 if deterministic else self.config.attention_dropout
        attended = attend(
            queries,
            keys,
            values,
            bias=bias,
            gate=gate,
            token_mask=token_mask,
            dropout_key=self.make_rng("dropout") if rate > 0 else None,
            dropout_rate=rate,
            dtype=self.dtype,
            form=self.forms.attention_for(x.shape[0]),
        )
        return self.out_proj(attended.transpose(0, 2, 1, 3).reshape(x.shape))

    def _heads(self, x: jax.Array) -> jax.Array:
        heads = self.config.encoder_attention_heads
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


class GateProjection(nn.Module):
    """Holds `kernel` [K, 8] and `bias` [8] of the gate and returns them."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (self.width, 8))
        return kernel, self.param("bias", nn.initializers.zeros_init(), (8,))
