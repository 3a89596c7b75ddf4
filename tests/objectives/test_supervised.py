"""The supervised objective: it learns, masks what cannot be read, and does not depend on parts, padding or order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tiny_problem import AUGMENT, CLASSES, SAMPLES, make_arrays, make_objective

from beats_jax.config import AugmentConfig, SupervisedConfig, TrainingConfig, experiment_from_mapping
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.models.registry import family
from beats_jax.objectives import supervised
from beats_jax.objectives.losses.classification import balanced_weights
from beats_jax.training import optimizer

SGD_LIKE = TrainingConfig(learning_rate=0.01, warmup_fraction=0, clip_norm=0, weight_decay=0)


def mean(metrics, name):
    total, count = metrics[name]
    return float(total) / float(count)


def on_device(arrays):
    return jax.tree.map(jnp.asarray, arrays)


def start(objective, arrays):
    return objective.init(jax.random.key(0), on_device(arrays))  # op by op: compiled pieces are shared between the tests


def run(objective, steps, arrays, jit=False):
    state = start(objective, arrays)
    update = jax.jit(objective.update) if jit else objective.update
    for _ in range(steps):
        state, metrics = update(state, on_device(arrays))
    return state, metrics


@pytest.mark.parametrize("multi_label", [False, True])
def test_overfits_eight_clips(multi_label):
    objective = make_objective(TrainingConfig(learning_rate=0.03), total_steps=120, multi_label=multi_label)
    arrays = make_arrays(0, multi_label=multi_label)
    state, metrics = run(objective, 120, arrays, jit=True)
    assert mean(metrics, "loss") < 0.02
    logits = objective.predict(state.params, on_device(arrays))["logits"]
    np.testing.assert_array_equal(logits.argmax(-1), make_arrays(0)["labels"])


@pytest.mark.slow
def test_an_ast_overfits_and_learns_all_but_the_keys_bias():
    """Built from settings, from random weights: special tokens, positions and both norms of the head are in the gradients."""
    settings = {
        "model": {
            "family": "ast", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "max_length": 26, "num_mel_bins": 26, "patch_size": 16,
        },
        "audio": {"filterbank": {"window": "hanning", "num_mel_bins": 26, "mean": 0.0, "std": 8.0, "target_frames": 26}},
        "training": {"learning_rate": 0.01, "weight_decay": 0.0, "warmup_fraction": 0.0},
    }  # fmt: skip
    experiment = experiment_from_mapping(settings)
    steps = optimizer.build(experiment.training, 60, family(experiment.model).depth_of)
    objective = supervised.build(experiment, LabelVocabulary(("low", "high")), steps, None)
    tones = np.sin(2 * np.pi * np.array([[400.0], [3000.0]]) * np.arange(4400) / 16_000).astype(np.float32)
    arrays = {
        "waveforms": tones, "lengths": np.array([4400, 2400], np.int32), "labels": np.array([0, 1], np.int32),
        "positions": np.arange(2, dtype=np.int32), "example_mask": np.ones(2, bool),
    }  # fmt: skip
    first = jax.jit(objective.init)(jax.random.key(0), arrays)
    state, update = first, jax.jit(objective.update)
    for _ in range(60):
        state, metrics = update(state, arrays)
    assert mean(metrics, "loss") < 0.05
    before, after = flatten_dict(first.params, sep="/"), flatten_dict(state.params, sep="/")
    assert {path for path in before if np.array_equal(before[path], after[path])} == {"blocks_0/attention/k_proj/bias"}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_accumulated_step_equals_the_whole_batch(parts):
    config = SupervisedConfig(label_smoothing=0.1, augment=dataclasses.replace(AUGMENT, mixup_probability=0.0))
    arrays = make_arrays(3)
    arrays["example_mask"][[0, 1, 4]] = False  # unevenly over the parts
    # float32 sums in another order, and squares of them in the second moments
    whole, whole_metrics = run(make_objective(SGD_LIKE, config=config), 1, arrays)
    split, split_metrics = run(make_objective(SGD_LIKE, config=config, accumulation_steps=parts), 1, arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-6, atol=1e-6), whole.opt_state, split.opt_state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole_metrics, split_metrics)


def test_unreadable_rows_count_for_nothing():
    config = SupervisedConfig(augment=AugmentConfig(mixup_probability=1.0))
    arrays = make_arrays(0)
    arrays["example_mask"][2:5] = False
    other = {name: array.copy() for name, array in arrays.items()}
    arrays["waveforms"][2:5], arrays["lengths"][2:5], arrays["labels"][2:5] = 0, 0, 0
    other["waveforms"][2:5], other["labels"][2:5] = 100, 1
    objective = make_objective(config=config)
    (a, a_metrics), (b, _) = run(objective, 2, arrays), run(objective, 2, other)
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert float(a_metrics["loss"][1]) == 5
    assert float(a_metrics["accuracy"][1]) == 5


def test_a_batch_without_a_readable_row_changes_nothing_but_the_step():
    arrays = make_arrays(0)
    arrays["example_mask"][:] = False
    arrays["waveforms"][:], arrays["lengths"][:] = 0, 0
    objective = make_objective(dataclasses.replace(SGD_LIKE, ema_decay=0.9))
    state, metrics = run(objective, 1, arrays)
    jax.tree.map(np.testing.assert_array_equal, state.params, start(objective, arrays).params)
    assert float(metrics["loss"][1]) == 0
    assert int(state.step) == 1


def test_predict_does_not_see_padding():
    arrays = make_arrays(0)
    padded = {**arrays, "waveforms": np.pad(arrays["waveforms"], ((0, 0), (0, SAMPLES)))}
    objective = make_objective(dropout=0.5)
    params = start(objective, arrays).params
    plain, longer = (objective.predict(params, on_device(one))["logits"] for one in (arrays, padded))
    np.testing.assert_allclose(plain, longer, rtol=1e-5, atol=1e-6)


def test_weighted_loss_is_a_weighted_mean_of_the_rows():
    from sklearn.metrics import log_loss

    arrays = on_device(make_arrays(0))
    weights = balanced_weights(np.array([5, 1, 2, 9]))
    objective = make_objective(class_weights=weights)
    state = start(objective, arrays)
    p = np.asarray(jax.nn.softmax(objective.predict(state.params, arrays)["logits"]), np.float64)
    _, metrics = objective.update(state, arrays)
    labels = np.asarray(arrays["labels"])
    expected = log_loss(labels, p / p.sum(1, keepdims=True), sample_weight=weights[labels], labels=np.arange(CLASSES))
    np.testing.assert_allclose(mean(metrics, "loss"), expected, rtol=1e-5)


def test_augmentation_goes_by_position_not_by_place():
    """Reversing a batch, positions and all, gives the same step: what a change in the number of hosts does."""
    config = SupervisedConfig(augment=dataclasses.replace(AUGMENT, mixup_probability=0.0))
    objective, arrays = make_objective(SGD_LIKE, config=config), make_arrays(0)
    reverse = {name: array[::-1].copy() for name, array in arrays.items()}
    (a, _), (b, _) = run(objective, 1, arrays), run(objective, 1, reverse)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a.opt_state, b.opt_state)
    moved, _ = run(objective, 1, {**arrays, "positions": arrays["positions"] + 100})
    assert not np.allclose(a.params["predictor"]["kernel"], moved.params["predictor"]["kernel"], atol=1e-6)


@pytest.mark.parametrize("domain", ["waveform", "fbank"])
def test_mixup_mixes_targets_as_it_mixes_sounds(domain):
    augment = AugmentConfig(mixup_probability=1.0, mixup_domain=domain)
    objective, arrays = make_objective(config=SupervisedConfig(augment=augment)), make_arrays(0)
    arrays["lengths"][:] = SAMPLES
    # Every clip is the constant of its class: the level of the mixture tells the shares, and so do the targets.
    arrays["waveforms"] = np.repeat(2.0 ** arrays["labels"][:, None], SAMPLES, axis=1).astype(np.float32)
    targets = jax.nn.one_hot(arrays["labels"], CLASSES)
    fbank, _, mixed = objective.frontend.training(jax.random.key(1), on_device(arrays), targets)
    np.testing.assert_allclose(mixed.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(fbank[:, 0, 0] / 16, mixed @ (2.0 ** np.arange(CLASSES)), rtol=1e-5)
    assert np.any((mixed > 0.01) & (mixed < 0.99))


def test_dropout_differs_between_steps_but_not_between_runs():
    objective, arrays = make_objective(SGD_LIKE, dropout=0.5), on_device(make_arrays(0))
    state = start(objective, arrays)
    update = objective.update
    first = update(state, arrays)[1]["loss"][0]
    again = update(state, arrays)[1]["loss"][0]
    later = update(state.replace(step=jnp.ones((), jnp.int32)), arrays)[1]["loss"][0]
    assert first == again
    assert first != later
