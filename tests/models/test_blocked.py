"""Attention by blocks of queries: the plain formula's values and gradients, and memory that grows with the tokens."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import BEATsConfig
from beats_jax.models import attention, beats
from beats_jax.models.blocked import attend_by_blocks, bias_rows
from beats_jax.models.cpu import Form
from beats_jax.models.positions import bias_by_distance, relative_position_bias

BATCH, HEADS, TOKENS, WIDTH = 2, 3, 45, 8


def inputs():
    draw = np.random.default_rng(7)
    arrays = [draw.standard_normal((BATCH, HEADS, TOKENS, WIDTH)).astype(np.float32) for _ in range(3)]
    table = draw.standard_normal((16, HEADS)).astype(np.float32)
    gate = draw.uniform(1, 3, (BATCH, HEADS, TOKENS)).astype(np.float32)
    mask = np.arange(TOKENS)[None] < np.array([[TOKENS], [20]])
    return tuple(map(jnp.asarray, (*arrays, table, gate))), jnp.asarray(mask)


@pytest.mark.parametrize("block", [8, 45, 64])
def test_values_and_gradients_are_those_of_the_plain_formula(block):
    arrays, mask = inputs()
    weights = np.random.default_rng(1).standard_normal((BATCH, HEADS, TOKENS, WIDTH)).astype(np.float32)

    def plain(queries, keys, values, table, gate):
        bias = relative_position_bias(table, TOKENS, 30)
        found = attention.attend(queries, keys, values, token_mask=mask, bias=bias, gate=gate, form=Form.PLAIN)
        return jnp.sum(found * weights), found

    def blocked(queries, keys, values, table, gate):
        bias, options = bias_by_distance(table, TOKENS, 30), {"dropout_rate": 0.0, "dtype": jnp.float32, "block": block}
        found = attend_by_blocks(queries * WIDTH**-0.5, keys, values, mask, bias, gate, None, **options)
        return jnp.sum(found * weights), found

    differentiate = [jax.jit(jax.value_and_grad(one, argnums=range(5), has_aux=True)) for one in (plain, blocked)]
    ((_, expected), gradients), ((_, found), other) = (one(*arrays) for one in differentiate)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for left, right in zip(other, gradients, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * float(jnp.abs(right).max()))


def test_rows_of_the_bias_are_cut_from_the_values_by_distance():
    bias = np.random.default_rng(0).standard_normal((HEADS, 2 * TOKENS - 1)).astype(np.float32)
    whole = bias[:, np.arange(TOKENS)[None, :] - np.arange(TOKENS)[:, None] + TOKENS - 1]
    for first in (0, 5, TOKENS - 4):
        rows = bias_rows(jnp.asarray(bias), TOKENS - first - 4, 4, TOKENS)
        np.testing.assert_array_equal(rows, whole[:, first : first + 4])


@pytest.mark.slow
def test_dropout_has_the_expectation_of_none():
    arrays, _ = inputs()
    queries, keys, values = (array[:1] for array in arrays[:3])
    plain = attend_by_blocks(queries, keys, values, None, None, None, None, dropout_rate=0.0, dtype=jnp.float32, block=16)
    drop = jax.jit(
        jax.vmap(
            lambda key: attend_by_blocks(
                queries, keys, values, None, None, None, key, dropout_rate=0.25, dtype=jnp.float32, block=16
            )
        )
    )
    many = drop(jax.random.split(jax.random.key(0), 2000))
    assert float(jnp.std(many[:, 0, 0, 0, 0])) > 0.01
    np.testing.assert_allclose(jnp.mean(many, axis=0), plain, atol=0.1)


@pytest.mark.slow
def test_memory_of_a_long_sound_grows_with_its_tokens():
    config = BEATsConfig(
        embed_dim=16, encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=4,
        conv_pos_groups=2,
    )  # fmt: skip
    model = beats.BEATs(config)
    params = jax.eval_shape(partial(model.init, jax.random.key(0)), jnp.zeros((1, 32, 128)))["params"]

    def work(frames):
        def loss(params, fbank):
            output: Any = model.apply({"params": params}, fbank)
            return jnp.sum(output.features)

        fbank = jax.ShapeDtypeStruct((1, frames, 128), jnp.float32)
        memory = jax.jit(jax.grad(loss)).lower(params, fbank).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    short, long = work(6 * 1024), work(12 * 1024)  # 3072 and 6144 tokens; whole scores of the longer take 300 MB
    assert long < 2.2 * short
    assert long < 100e6


@pytest.mark.slow
def test_ten_minutes_in_one_piece():
    """All keys of 29,760 tokens for 64 of the queries, by the plain formula in float64."""
    tokens, width, some = 29_760, 8, np.sort(np.random.default_rng(0).choice(29_760, 64, replace=False))
    draw = np.random.default_rng(3)
    arrays = [draw.standard_normal((1, 1, tokens, width)).astype(np.float32) for _ in range(3)]
    bias = draw.standard_normal((1, 2 * tokens - 1)).astype(np.float32)
    gate = draw.uniform(1, 3, (1, 1, tokens)).astype(np.float32)
    mask = np.arange(tokens)[None] < 29_000
    attend = jax.jit(partial(attend_by_blocks, dropout_key=None, dropout_rate=0.0, dtype=jnp.float32))
    found = np.asarray(attend(*arrays, mask, bias, gate))[0, 0, some]
    queries, keys, values = (np.float64(x[0, 0]) for x in arrays)
    rows = np.float64(bias[0])[np.arange(tokens)[None] - some[:, None] + tokens - 1]
    scores = queries[some] @ keys.T + gate[0, 0, some][:, None] * rows
    shares = np.where(mask, np.exp(scores - scores.max(axis=1, keepdims=True)), 0)
    np.testing.assert_allclose(found, shares @ values / shares.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.slow
def test_a_long_clip_through_the_encoder_is_the_same_in_both_forms():
    config = BEATsConfig(
        embed_dim=16, encoder_layers=2, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=4,
        conv_pos_groups=2,
    )  # fmt: skip
    fbank = jax.random.normal(jax.random.key(0), (1, 3200, 128))  # 1600 tokens
    mask = jnp.arange(1600)[None] < 1500
    params = jax.jit(beats.BEATs(config).init)(jax.random.key(1), fbank[:, :32])
    whole_scores = "2,1600,1600"
    found = []
    for form in (Form.PLAIN, Form.AUTO):
        encode: Any = jax.jit(beats.BEATs(config, form=form).apply)
        assert (whole_scores in str(jax.make_jaxpr(encode)(params, fbank, mask))) == (form is Form.PLAIN)
        found.append(encode(params, fbank, mask).features)
    plain, blocked = found
    np.testing.assert_allclose(blocked[:, :1500], plain[:, :1500], atol=1e-5)
