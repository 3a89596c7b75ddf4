"""What learns: everything, the head, or the head and low-rank changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_problem import make_arrays, make_objective

from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives import adaptation
from beats_jax.objectives.state.state import path_name
from beats_jax.training import optimizer

TARGETS = r"layers_\d/kernel"


def depth_of(path: str) -> int:
    return 3 if path.startswith("predictor") else int(path[7]) + 1 if path.startswith("layers_") else 0


def objective(mode, **settings):
    training = TrainingConfig(mode=mode, learning_rate=0.01, lora_targets=TARGETS, **settings)
    learnt = dataclasses.replace(training, freeze=adaptation.frozen_patterns(training))
    steps = optimizer.build(learnt, 20, adaptation.depth_with_lora(depth_of))
    return make_objective(training, optimizer=steps, adaptation=adaptation.of(training))


def trained(mode, steps=4, **settings):
    made = objective(mode, **settings)
    first = jax.jit(made.init)(jax.random.key(0), make_arrays(0))
    state, update = first, jax.jit(made.update)
    for step in range(steps):
        state, metrics = update(state, make_arrays(step))
    return made, first, state, metrics


def leaves(tree):
    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def changed(first, state):
    before, after = leaves(first.params), leaves(state.params)
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.slow
def test_a_probe_learns_its_head_only():
    made, first, state, _ = trained("probe")
    assert changed(first, state) == {"predictor/kernel", "predictor/bias"}
    gradients = jax.grad(lambda params: made._loss(params, prepared(made), jax.random.key(0))[0])(first.params)
    assert {name for name, leaf in leaves(gradients).items() if leaf.any()} == {"predictor/kernel", "predictor/bias"}


def prepared(made):
    arrays = jax.tree.map(jnp.asarray, make_arrays(0))
    fbank, token_mask = made.frontend.evaluation(arrays)
    return {
        "fbank": fbank, "token_mask": token_mask, "targets": jax.nn.one_hot(arrays["labels"], 4),
        "example_mask": arrays["example_mask"],
    }  # fmt: skip


def test_lora_starts_at_the_model_and_changes_kernels_by_low_rank_only():
    made, first, state, _ = trained("lora", lora_rank=3, lora_alpha=6.0)
    plain = {name: leaf for name, leaf in first.params.items() if name != "lora"}
    jax.tree.map(np.testing.assert_array_equal, made.export_params(first.params), plain)
    factors = {f"lora/layers_{i}.kernel/{name}" for i in (0, 1) for name in ("down", "up")}
    assert changed(first, state) == {"predictor/kernel", "predictor/bias", *factors}
    exported = made.export_params(state.params)
    assert set(exported) == set(plain)
    for layer in ("layers_0", "layers_1"):
        change = np.asarray(exported[layer]["kernel"]) - np.asarray(first.params[layer]["kernel"])
        pair = state.params["lora"][f"{layer}.kernel"]
        np.testing.assert_allclose(change, 2.0 * np.asarray(pair["down"] @ pair["up"]), atol=1e-6)
        assert np.linalg.matrix_rank(change, tol=1e-5) == 3
    arrays = jax.tree.map(jnp.asarray, make_arrays(1))
    whole = dataclasses.replace(made, adaptation=adaptation.Adaptation())
    np.testing.assert_allclose(made.predict(state.params, arrays)["logits"], whole.predict(exported, arrays)["logits"], rtol=1e-6)


def test_a_change_has_the_depth_of_its_kernel():
    depth = adaptation.depth_with_lora(depth_of)
    assert [depth(f"lora/layers_1.kernel/{name}") for name in ("up", "down")] == [2, 2]
    assert depth("predictor/kernel") == 3


@pytest.mark.parametrize(
    ("targets", "message"),
    [("layer/kernel", r"matches no kernel; there are layers_\*/kernel"), (".*", "only matrices"), ("(", "no regular expression")],
)
def test_wrong_targets_are_told(targets, message):
    training = TrainingConfig(mode="lora", lora_targets=targets)
    params = {"layers_0": {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}}
    with pytest.raises(UserError, match=message):
        adaptation.of(training).init(jax.random.key(0), params)


def test_the_keys_of_every_familys_attention_are_found():
    from beats_jax.config import ASTConfig, BEATsConfig, EATConfig
    from beats_jax.weights.architecture import param_shapes

    for config in (BEATsConfig(encoder_layers=2), ASTConfig(num_hidden_layers=2), EATConfig(depth=2)):
        shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in param_shapes(config).items()}
        made = adaptation.of(TrainingConfig(mode="lora"))
        factors = jax.eval_shape(made.init, jax.random.key(0), shapes)["lora"]
        assert len(factors) == (2 if isinstance(config, EATConfig) else 4), list(factors)
