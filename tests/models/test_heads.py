"""Pooling over real tokens against numpy on each clip's own tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import ModelConfig, from_mapping
from beats_jax.config.models import MODEL_FAMILIES
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.heads import AttentiveHead, masked_mean, pool

TINY = {
    "beats": {
        "embed_dim": 8, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_layers": 1, "encoder_attention_heads": 2,
        "conv_pos": 3, "conv_pos_groups": 1, "num_buckets": 8, "max_distance": 16,
    },
    "eat": {"embed_dim": 8, "depth": 1, "num_heads": 2, "mel_bins": 32},
    "ast": {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_length": 32,
        "num_mel_bins": 32,
    },
    "cnn": {"widths": (4, 8)},
    "resnet": {"width": 2},
}  # fmt: skip

DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(4, 6, 3)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
RULES = {
    "mean": lambda x: x.mean(0),
    "max": lambda x: x.max(0),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "std": lambda x: x.std(0),
}


@pytest.mark.parametrize("pooling", list(RULES))
def test_only_real_tokens_count(pooling):
    garbage = np.where(MASK[:, :, None], FEATURES, np.nan)
    pooled = np.asarray(pool(jnp.asarray(garbage), jnp.asarray(MASK), pooling))
    for i in range(3):
        np.testing.assert_allclose(pooled[i], RULES[pooling](FEATURES[i][MASK[i]]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pooled[3], 0)


def test_mean_of_nothing_is_zero_and_unknown_poolings_are_told():
    assert not np.asarray(masked_mean(jnp.asarray(FEATURES), jnp.zeros((4, 6), bool))).any()
    with pytest.raises(UserError, match="median"):
        pool(jnp.asarray(FEATURES), jnp.asarray(MASK), "median")


def test_the_attentive_head_starts_at_the_mean_and_hears_real_tokens_only():
    """With all scores 0 it is linear in the mean of the values; garbage under the mask, NaN included, changes nothing."""
    head = AttentiveHead(num_classes=5, num_heads=3, dtype=jnp.float32)
    features = np.random.default_rng(1).normal(size=(3, 6, 6)).astype(np.float32)
    mask = MASK[:3]
    variables = jax.jit(head.init)(jax.random.key(0), jnp.asarray(features), jnp.asarray(mask))
    params, apply = variables["params"], jax.jit(head.apply)
    logits = np.asarray(apply(variables, jnp.where(mask[:, :, None], features, np.nan), jnp.asarray(mask)))
    for i in range(3):
        tokens = features[i][mask[i]]
        normed = (tokens - tokens.mean(1, keepdims=True)) / np.sqrt(tokens.var(1, keepdims=True) + 1e-5)
        read = (normed @ params["values"]["kernel"]).mean(0)
        np.testing.assert_allclose(logits[i], read @ params["linear"]["kernel"], rtol=1e-4, atol=1e-6)
    scores = jnp.asarray(np.random.default_rng(2).normal(size=(6, 3)), jnp.float32)
    learnt = {"params": {**params, "scores": {"kernel": scores}}}
    parts = [(jnp.asarray(features[i : i + 1, : mask[i].sum()]), jnp.ones((1, mask[i].sum()), bool)) for i in (0, 1)]
    alone = np.concatenate([apply(learnt, *part) for part in parts])
    np.testing.assert_allclose(apply(learnt, jnp.asarray(features), jnp.asarray(mask))[:2], alone, rtol=1e-5, atol=1e-6)
    assert np.abs(alone - logits[:2]).max() > 1e-4


@pytest.mark.parametrize("family", sorted(MODEL_FAMILIES.keys() - {"beats_tokenizer"}))
def test_every_family_takes_an_attentive_head(family):
    config = from_mapping(ModelConfig, {"family": family, **TINY[family], "predictor_class": 3, "head": "attentive"}, "model")
    fbank = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32)), jnp.float32)
    module = registry.build(config)
    variables = jax.eval_shape(module.init, jax.random.key(0), fbank)
    assert set(variables["params"]["predictor"]) == {"norm", "scores", "values", "linear"}
    assert jax.eval_shape(module.apply, variables, fbank).logits.shape == (2, 3)
