"""Multi-head self-attention, [B, T, D] → [B, T, D]; the bias and its gate are BEATs' (unilm/beats/backbone.py).

Scores, bias and softmax are float32. The division and multiplication by 32 of the original only serves float16 and is left out.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

from beats_jax.models import Bias, BiasByDistance, TokenMask, Tokens
from beats_jax.models.blocked import attend_by_blocks, saves_memory
from beats_jax.models.cpu import Form, over_clips, platform
from beats_jax.models.layers import Initializer, Linear, contract
from beats_jax.models.positions import relative_gate


def attend_clip(
    queries: Float[Array, "heads tokens width"],
    keys: Float[Array, "heads tokens width"],
    values: Float[Array, "heads tokens width"],
    token_mask: Bool[Array, " tokens"] | None,
    bias: Float[Array, "heads tokens tokens"] | None,
    gate: Float[Array, "heads tokens"] | None,
    dropout_key: Key[Array, ""] | None,
    *,
    dropout_rate: float,
    dtype: DTypeLike,
) -> Float[Array, "heads tokens width"]:
    """softmax(q kᵀ + gate · bias) v over the real keys of one clip; queries are scaled already, by 1 / sqrt(K)."""
    scores = contract("hqk,hsk->hqs", queries, keys, dtype)
    if bias is not None:
        scores = scores + (bias if gate is None else gate[:, :, None] * bias)
    if token_mask is not None:
        # The least finite number: a clip without any real token attends evenly to all, where the original gives NaN.
        scores = jnp.where(token_mask[None, None, :], scores, jnp.finfo(scores.dtype).min)
    probabilities = jax.nn.softmax(scores, axis=-1)
    if dropout_key is not None:
        kept = jax.random.bernoulli(dropout_key, 1.0 - dropout_rate, probabilities.shape)
        probabilities = jnp.where(kept, probabilities / (1.0 - dropout_rate), 0.0)
    return contract("hqs,hsk->hqk", probabilities, values, dtype)


def attend(
    queries: Float[Array, "batch heads tokens width"],
    keys: Float[Array, "batch heads tokens width"],
    values: Float[Array, "batch heads tokens width"],
    *,
    token_mask: TokenMask | None = None,
    bias: Bias | BiasByDistance | None = None,
    gate: Float[Array, "batch heads tokens"] | None = None,
    dropout_key: Key[Array, ""] | None = None,
    dropout_rate: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    form: Form = Form.PLAIN,
) -> Float[Array, "batch heads tokens width"]:
    """`attend_clip` for every clip of a batch.

    Args:
      token_mask: True = real; None = all real.
      bias: (query, key), the same for all clips or one for each, or by distance. gate: factor of each of its rows; None = 1.
      dropout_key: of the dropout of the probabilities; None = none. Each clip has its own key, so that all forms agree.
      dtype: precision of the two products.
      form: long sounds go block by block in some (`blocked.saves_memory`); a bias by distance asks for it.
    Raises:
      ValueError: dropout in a form that has none.
    """
    queries = queries * queries.shape[-1] ** -0.5  # here, because in the loop over clips it changes the last bits of gradients
    arrays = (queries, keys, values, token_mask, bias, gate)
    by_distance = saves_memory(form, queries.shape[2]) if bias is None else bias.ndim == 2
    if form in (Form.CUDNN, Form.KERNEL):
        if dropout_key is not None and dropout_rate > 0:
            raise ValueError(f"attention in the form {form} has no dropout")
        # Imported here, because Pallas takes a while.
        from beats_jax.models import flash, flash_kernels

        if form is Form.CUDNN:
            return flash.attend_by_cudnn(*arrays, dtype=dtype)
        if by_distance:
            target = flash_kernels.TPU if platform() == "tpu" else flash_kernels.GPU
            return flash.attend_by_kernel(*arrays, dtype=dtype, target=target)
    elif by_distance:
        return attend_by_blocks(*arrays, dropout_key, dropout_rate=dropout_rate, dtype=dtype)
    dropout_keys = jax.random.split(dropout_key, queries.shape[0]) if dropout_key is not None and dropout_rate > 0 else None
    one = partial(attend_clip, dropout_rate=dropout_rate, dtype=dtype)
    shared = bias is not None and bias.ndim == 3

    def attend_one(queries, keys, values, token_mask, own_bias, gate, key):
        return one(queries, keys, values, token_mask, bias if shared else own_bias, gate, key)

    rest = (None if shared else bias, gate, dropout_keys)
    return over_clips(attend_one, (queries, keys, values), token_mask, rest, form, bias is None and dropout_keys is None)


def split_heads(x: Tokens, heads: int) -> Float[Array, "batch {heads} tokens head_width"]:
    """The channels of each head apart."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def join_heads(x: Float[Array, "batch heads tokens head_width"]) -> Tokens:
    """The inverse of `split_heads`."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


class SelfAttention(nn.Module):
    """Projections, gate and attention; parameters `{q,k,v,out}_proj`, and of a gated bias `grep_linear` and `grep_a` [H]."""

    width: int
    heads: int
    dropout_rate: float
    dtype: DTypeLike
    form: Form
    query_key_init: Initializer
    value_init: Initializer
    use_bias: bool = True  # in the projections of queries, keys and values
    gated: bool = False

    def setup(self) -> None:
        self.q_proj = Linear(self.width, self.dtype, self.query_key_init, use_bias=self.use_bias)
        # The bias of the keys adds the same to all scores of a query, which softmax ignores: its gradient is 0 but for
        # rounding, and Adam would turn that rounding into full steps, other ones on every number of devices.
        self.k_proj = Linear(self.width, self.dtype, self.query_key_init, use_bias=self.use_bias, learn_bias=False)
        self.v_proj = Linear(self.width, self.dtype, self.value_init, use_bias=self.use_bias)
        self.out_proj = Linear(self.width, self.dtype, self.value_init)
        if self.gated:
            self.grep_linear = GateProjection(self.width // self.heads)
            self.grep_a = self.param("grep_a", nn.initializers.ones_init(), (self.heads,))

    def __call__(
        self, x: Tokens, token_mask: TokenMask | None, deterministic: bool, bias: Bias | BiasByDistance | None = None
    ) -> Tokens:
        queries, keys, values = (split_heads(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        rate = 0.0 if deterministic else self.dropout_rate
        attended = attend(
            queries,
            keys,
            values,
            token_mask=token_mask,
            bias=bias,
            gate=relative_gate(queries, *self.grep_linear(), self.grep_a) if self.gated else None,
            dropout_key=self.make_rng("dropout") if rate > 0 else None,
            dropout_rate=rate,
            dtype=self.dtype,
            form=self.form,
        )
        return self.out_proj(join_heads(attended))


class GateProjection(nn.Module):
    """Holds `kernel` [K, 8] and `bias` [8] of the gate and returns them."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "width 8"], Float[Array, " 8"]]:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (self.width, 8))
        return kernel, self.param("bias", nn.initializers.zeros_init(), (8,))
