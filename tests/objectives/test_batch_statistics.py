"""Batch statistics in training: moved by sound alone, averaged with the weights, the same on one device and on eight."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from beats_jax.config import experiment_from_mapping
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.models.registry import family
from beats_jax.models.statistics import NAMES
from beats_jax.objectives import registry, supervised
from beats_jax.objectives.adaptation import frozen_patterns
from beats_jax.objectives.state.state import average
from beats_jax.parallel.mesh import make_mesh, put_batch
from beats_jax.training import optimizer
from beats_jax.training.loop import compile_update

pytestmark = pytest.mark.slow  # gradients of whole networks

SETTINGS = {
    "model": {"family": "cnn", "widths": (4, 6), "stem_kernel": 3},
    "audio": {"filterbank": {"num_mel_bins": 8, "std": 8.0}},
    "training": {"learning_rate": 0.01, "warmup_fraction": 0.0, "ema_decay": 0.5},
}
SAMPLES = 1680  # nine frames: two time steps
VOCABULARY = LabelVocabulary(("low", "high"))


def make(**training):
    experiment = experiment_from_mapping({**SETTINGS, "training": {**SETTINGS["training"], **training}})
    frozen = frozen_patterns(experiment.training, family(experiment.model).constants)
    rule = optimizer.build(dataclasses.replace(experiment.training, freeze=frozen), 60, family(experiment.model).depth_of)
    return supervised.build(experiment, VOCABULARY, rule, None)


def clips(count=16, unread=()):
    draw = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) // 2 % 2
    tones = np.sin(2 * np.pi * np.where(labels, 3000, 400)[:, None] * np.arange(SAMPLES) / 16_000)
    read = ~np.isin(np.arange(count), unread)
    waveforms = (0.1 * (tones + draw.normal(size=tones.shape))).astype(np.float32)
    return {
        "waveforms": np.where(read[:, None], waveforms, 0.5).astype(np.float32),
        "lengths": np.where(read, np.where(labels, SAMPLES, 1040), SAMPLES).astype(np.int32),
        "labels": labels,
        "positions": np.arange(count, dtype=np.int32),
        "rows": np.arange(count, dtype=np.int32),
        "example_mask": read,
    }


def flat(tree):
    leaves: dict[str, Any] = flatten_dict(tree, sep="/")
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def one_step(objective, arrays):
    state = jax.jit(objective.init)(jax.random.key(0), arrays)
    return state, *jax.jit(objective.update)(state, arrays)


def test_statistics_move_by_what_was_read_and_are_averaged_with_the_weights():
    objective, arrays = make(), jax.tree.map(jnp.asarray, clips(unread=(3, 8)))
    before, after, _ = one_step(objective, arrays)
    rows = np.flatnonzero(np.asarray(arrays["example_mask"]))
    _, alone, _ = one_step(objective, {name: value[rows] for name, value in arrays.items()})
    found, expected, start = flat(after.params), flat(alone.params), flat(before.params)
    statistics = {path for path in found if path.rsplit("/", 1)[1] in NAMES}
    assert len(statistics) == 6
    for path in statistics:
        np.testing.assert_allclose(found[path], expected[path], atol=5e-4, err_msg=path)
        assert not np.array_equal(found[path], start[path]), path
    assert found["stem_norm/count"] == 1
    averaged = flat(average(before.ema, after.params, before.step, 0.5))
    for path, value in flat(after.ema).items():
        np.testing.assert_allclose(value, averaged[path], atol=1e-6, err_msg=path)


def test_one_device_and_eight_move_them_alike():
    # Plain descent: Adam turns the rounding of a gradient near zero into a whole step.
    objective, ends = dataclasses.replace(make(accumulation_steps=2), optimizer=optax.sgd(0.1)), []
    for devices in (1, 8):
        mesh = make_mesh(devices, 1, devices=jax.devices()[:devices])
        state = jax.jit(objective.init)(jax.random.key(0), put_batch(mesh, clips(unread=(5,))))
        update = compile_update(objective, mesh, state)
        with jax.set_mesh(mesh):
            for _ in range(2):
                state, _ = update(state, put_batch(mesh, clips(unread=(5,))))
        ends.append(flat(state.params))
    for path, value in ends[0].items():
        np.testing.assert_allclose(ends[1][path], value, atol=2e-6, err_msg=path)


@pytest.mark.parametrize("plain", [True, False], ids=["few optimisations of XLA", "all"])
def test_a_compiled_gradient_is_the_gradient(plain):
    """Through norm, ReLU and maximum: with `jnp.max` the compiled one lost up to half of what arrives at the first kernel."""
    objective, arrays = make(), jax.tree.map(jnp.asarray, clips(unread=(5,)))
    state = jax.jit(objective.init)(jax.random.key(0), arrays)
    with jax.disable_jit():
        expected = flat(objective.gradients(state, arrays)[0])
    before = jax.config.values["jax_disable_most_optimizations"]
    try:
        jax.config.update("jax_disable_most_optimizations", plain)
        found = flat(jax.jit(objective.gradients)(state, arrays)[0])
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, atol=1e-6, err_msg=path)


def test_what_is_frozen_keeps_its_statistics():
    arrays = jax.tree.map(jnp.asarray, clips())
    for changes, still in ({"freeze": ("stem_norm/.*",)}, "stem_norm"), ({"mode": "probe"}, ""):
        before, after, _ = one_step(make(**changes), arrays)
        found, start = flat(after.params), flat(before.params)
        paths = [path for path in found if path.startswith(still) and not path.startswith("predictor")]
        assert len(paths) >= 5
        for path in paths:
            np.testing.assert_array_equal(found[path], start[path], err_msg=path)


def test_it_learns_and_objectives_without_statistics_refuse_it():
    objective, arrays = make(), jax.tree.map(jnp.asarray, clips())
    state, update = jax.jit(objective.init)(jax.random.key(0), arrays), jax.jit(objective.update)
    for _ in range(40):
        state, _ = update(state, arrays)
    logits = objective.predict(state.weights, arrays)["logits"]
    np.testing.assert_array_equal(np.argmax(logits, axis=1), arrays["labels"])
    experiment = experiment_from_mapping({**SETTINGS, "objective": {"name": "contrastive"}})
    with pytest.raises(UserError, match=r"does not train a 'cnn'.*supervised"):
        registry.build(experiment, None, objective.optimizer, None)
