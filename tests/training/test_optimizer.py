"""The optimizer against optax's parts and closed forms, leaf by leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_problem import depth_of

from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.training.optimizer import build, decays, learning_rate

PARAMS = {
    "patch_embedding": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full(3, 0.5)},
    "layers_0": {"kernel": jnp.full((3, 3), 0.5), "grep_a": jnp.full((1, 3, 1, 1), 0.5)},
    "layers_1": {"kernel": jnp.full((3, 3), 0.5)},
    "layer_norm": {"scale": jnp.full(3, 0.5), "weight": jnp.full((3, 3), 0.5)},
    "predictor": {"kernel": jnp.full((3, 2), 0.5), "out_bias": jnp.full((2, 2), 0.5)},
}
GRADIENTS = jax.tree.map(lambda p: jnp.asarray(np.random.default_rng(p.size).normal(size=p.shape), jnp.float32), PARAMS)
CONSTANT = {"warmup_fraction": 0.0, "clip_norm": 0.0, "learning_rate": 0.1, "min_learning_rate": 0.1}


def updates_of(steps=3, **settings):
    optimizer = build(TrainingConfig(**{**CONSTANT, **settings}), 10, depth_of)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_schedule_is_warm_up_then_cosine():
    rate = learning_rate(TrainingConfig(learning_rate=1.0, min_learning_rate=0.2, warmup_fraction=0.25), 40)
    values = np.array([rate(t) for t in range(41)])
    np.testing.assert_allclose(values[:10], np.arange(1, 11) / 10, rtol=1e-6)
    cosine = optax.cosine_decay_schedule(1.0, 30, alpha=0.2)
    np.testing.assert_allclose(values[10:], [cosine(t) for t in range(31)], rtol=1e-5)
    np.testing.assert_allclose(values[40], 0.2, rtol=1e-6)


def test_one_cycle_is_optaxs():
    rate = learning_rate(TrainingConfig(learning_rate=3e-3, schedule="one_cycle", warmup_fraction=0.3), 50)
    expected = optax.cosine_onecycle_schedule(50, 3e-3, pct_start=0.3, div_factor=25, final_div_factor=1e9)
    np.testing.assert_allclose([rate(t) for t in range(50)], [expected(t) for t in range(50)], rtol=1e-4, atol=1e-9)


def test_steps_are_those_of_multi_step_lr():
    """AST's ESC-50 recipe: `MultiStepLR(milestones=range(5, 26), gamma=0.85)`, advanced after every epoch of 34 updates."""
    training = TrainingConfig(learning_rate=1e-5, schedule="step", warmup_fraction=0.0, decay_start_epochs=5, decay_factor=0.85)
    rate = learning_rate(training, 25 * 34, steps_per_epoch=34)
    expected = [1e-5 * 0.85 ** sum(milestone <= t // 34 for milestone in range(5, 26)) for t in range(25 * 34)]
    np.testing.assert_allclose([rate(t) for t in range(0, 25 * 34, 11)], expected[::11], rtol=1e-5)
    np.testing.assert_allclose([rate(169), rate(170)], [1e-5, 0.85e-5], rtol=1e-6)
    slow = TrainingConfig(learning_rate=1.0, schedule="step", warmup_fraction=0.1, decay_start_epochs=10, decay_every_epochs=5,
                          decay_factor=0.5, min_learning_rate=0.2)  # fmt: skip
    rate = learning_rate(slow, 40)
    np.testing.assert_allclose([rate(t) for t in (0, 3, 9, 10, 14, 15, 20, 39)], [0.25, 1, 1, 0.5, 0.5, 0.25, 0.2, 0.2])


def test_adam_takes_the_decay_into_the_gradient_of_every_parameter():
    """By the formulas of `torch.optim.Adam`, biases and norms included."""
    params, _ = updates_of(optimizer="adam", weight_decay=0.3, beta1=0.95, beta2=0.999)
    for path, gradient in _paths(GRADIENTS).items():
        value, first, second = np.asarray(_paths(PARAMS)[path], np.float64), 0.0, 0.0
        for t in (1, 2, 3):
            g = np.asarray(gradient, np.float64) + 0.3 * value
            first, second = 0.95 * first + 0.05 * g, 0.999 * second + 0.001 * g**2
            value = value - 0.1 * (first / (1 - 0.95**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(_paths(params)[path], value, rtol=5e-5)


@pytest.mark.parametrize(("settings", "steps"), [({"min_learning_rate": 1.0}, 10), ({}, 0)])
def test_schedules_that_make_no_sense_are_refused(settings, steps):
    with pytest.raises(UserError, match=r"min_learning_rate 1|has 0 steps"):
        learning_rate(TrainingConfig(**settings), steps)


def test_without_extras_it_is_optaxs_adamw():
    expected, state = PARAMS, (adamw := optax.adamw(0.1, b1=0.9, b2=0.98, eps=1e-8, weight_decay=0.03, mask=decays)).init(PARAMS)
    for _ in range(3):
        updates, state = adamw.update(GRADIENTS, state, expected)
        expected = optax.apply_updates(expected, updates)
    params, _ = updates_of(weight_decay=0.03)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)


def test_weight_decay_falls_on_matrices_only():
    decayed = {path for path, value in _paths(decays(PARAMS)).items() if value}
    assert decayed == {"patch_embedding/kernel", "layers_0/kernel", "layers_1/kernel", "predictor/kernel"}


def test_layer_decay_scales_every_leaf_by_its_depth():
    plain, _ = updates_of(steps=1)
    scaled, _ = updates_of(steps=1, layer_decay=0.5)
    for path, expected in {"predictor": 1.0, "layers_1": 0.5, "layers_0": 0.25, "patch_embedding": 0.125}.items():
        before, one, other = (np.asarray(tree[path]["kernel"]) for tree in (PARAMS, plain, scaled))
        np.testing.assert_allclose(other - before, expected * (one - before), rtol=1e-4)


def test_frozen_leaves_stay_and_have_no_moments():
    params, state = updates_of(weight_decay=0.1, freeze=("layers_0/.*", "patch_embedding/bias"), layer_decay=0.5)
    frozen = {"layers_0/kernel", "layers_0/grep_a", "patch_embedding/bias"}
    before, after = _paths(PARAMS), _paths(params)
    for path in before:
        assert np.array_equal(before[path], after[path]) == (path in frozen), path
    full = sum(leaf.size for leaf in jax.tree.leaves(updates_of()[1]))
    left = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert full - left == 2 * (9 + 3 + 3)


def test_clipping_is_by_the_norm_of_what_learns():
    """Adam forgets the scale of a constant gradient, so the moments are looked at: mu = (1 - b1) * clipped gradient."""
    _, state = updates_of(steps=1, clip_norm=0.01, freeze=("layers_0/.*",))
    moments = [leaf for path, leaf in _paths(state).items() if "/mu/" in path]
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in moments))
    np.testing.assert_allclose(norm, 0.1 * 0.01, rtol=1e-5)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("layer_0/.*", "matches no parameter; nearest: layers_0/"),
        ("layers_0", "matches no parameter"),  # whole paths only
        ("(", "is no regular expression"),
        (".*", "nothing is left to train"),
    ],
)
def test_wrong_freeze_patterns_are_refused(pattern, message):
    with pytest.raises(UserError, match=message):
        build(TrainingConfig(freeze=(pattern,)), 10, depth_of).init(PARAMS)


def test_layer_decay_needs_layers():
    with pytest.raises(UserError, match="no layers to tell apart"):
        build(TrainingConfig(layer_decay=0.5), 10)


def _paths(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_cautious_adamw_follows_the_published_trajectory(golden_files):
    golden = np.load(golden_files / "bdl_losses.npz")
    settings = {"optimizer": "cautious_adamw", "learning_rate": 0.01, "min_learning_rate": 0.01, "weight_decay": 0.05}
    optimizer = build(TrainingConfig(**{**CONSTANT, **settings, "beta2": 0.999, "epsilon": 1e-6}), 10)
    params = {"kernel": jnp.asarray(golden["opt_p0"])}
    state = optimizer.init(params)
    for i in range(5):
        updates, state = optimizer.update({"kernel": golden[f"opt_grad{i}"]}, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["kernel"], golden[f"opt_p{i + 1}"], atol=1e-6)
