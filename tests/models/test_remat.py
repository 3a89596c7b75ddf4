"""`training.remat`: the same losses and gradients from less that is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import ASTConfig, BEATsConfig, CNNConfig, EATConfig, Experiment, TrainingConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.pipelines.planning.cost import count_flops
from beats_jax.training.compilation import compiler_options

HEAD = {"predictor_class": 3}
SMALL = {
    "beats": BEATsConfig(
        embed_dim=16, encoder_layers=1, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_attention_heads=4, conv_pos=8,
        conv_pos_groups=4, dropout=0.1, attention_dropout=0.1, encoder_layerdrop=0.2, **HEAD,
    ),
    "ast": ASTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, max_length=64,
        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, **HEAD,
    ),
    "eat": EATConfig(embed_dim=32, depth=1, num_heads=4, drop_path_rate=0.2, **HEAD),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["beats", pytest.param("ast", marks=pytest.mark.slow), pytest.param("eat", marks=pytest.mark.slow)]
)
def test_equal_losses_and_gradients_with_dropout(name):
    fbank, plain = jax.random.normal(jax.random.key(1), (2, 64, 128)), registry.build(SMALL[name])
    params = jax.jit(plain.init)(jax.random.key(0), fbank)
    found, operations = {}, {}
    for remat in ("none", "attention", "block"):
        module = registry.build(SMALL[name], form=registry.form_for(SMALL[name], "auto", "float32", remat))

        def loss(params, module=module):
            rngs = {"dropout": jax.random.key(3), "layerdrop": jax.random.key(5)}
            return jnp.sum(module.apply(params, fbank, deterministic=False, rngs=rngs).logits ** 2)

        traced = jax.jit(jax.value_and_grad(loss)).trace(params)
        found[remat], operations[remat] = traced.lower().compile()(params), count_flops(traced.jaxpr)
    for remat in ("attention", "block"):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6), found[remat], found["none"])
    assert operations["none"] < operations["attention"] < operations["block"] < 4 / 3 * operations["none"]


def test_a_compiled_step_keeps_less():
    """XLA could merge what is computed twice, and keep it all."""

    def block(x, kernel):
        return jnp.cos(jnp.sin(jnp.tanh(x @ kernel) @ kernel) @ kernel)

    def work_memory(remat):
        again = block if remat == "none" else jax.checkpoint(block)

        def loss(kernels, x):
            for kernel in kernels:
                x = again(x, kernel)
            return jnp.sum(x)

        step = jax.jit(jax.grad(loss), compiler_options=compiler_options(remat))
        shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        return step.lower([shape] * 6, jax.ShapeDtypeStruct((512, 64), jnp.float32)).compile().memory_analysis()

    jax.config.update("jax_disable_most_optimizations", False)
    try:
        assert work_memory("block").temp_size_in_bytes < 0.5 * work_memory("none").temp_size_in_bytes
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def test_convolutional_networks_refuse():
    with pytest.raises(UserError, match=r"training\.remat is 'block'; it is for transformers"):
        Experiment(model=CNNConfig(), training=TrainingConfig(remat="block"))
