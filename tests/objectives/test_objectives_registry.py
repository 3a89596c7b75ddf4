"""The registry: every entry can be imported and built; an unknown name is refused with the nearest known one."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from beats_jax.config import (
    BEATsConfig,
    DataConfig,
    EATConfig,
    Experiment,
    GenerativeConfig,
    ImageConfig,
    ObjectiveConfig,
    SupervisedConfig,
    TokenizerConfig,
    to_mapping,
)
from beats_jax.config.objectives import OBJECTIVE_CONFIGS
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.objectives.objective import SelfSupervised
from beats_jax.objectives.registry import OBJECTIVES, build
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

VOCABULARY = LabelVocabulary(("ara", "pica", "strix"))
TINY = BEATsConfig(
    encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, embed_dim=16, conv_pos_groups=2
)


MODELS = {"eat": EATConfig(embed_dim=16, depth=1, num_heads=2)}  # of objectives that train other models than BEATs


def objective_and_batch(name, folder):
    """An objective of the real rooms, with the defaults of its settings, and a batch of two clips, or of one episode."""
    model = MODELS.get(name, TINY)
    settings: dict[str, Any] = {"n_way": 2, "n_shot": 1, "n_query": 1} if name == "episodic" else {}
    clips = 4 if name == "episodic" else 2
    config = OBJECTIVE_CONFIGS[name](**settings)
    if isinstance(config, GenerativeConfig):
        config = dataclasses.replace(config, width=8, image=ImageConfig(frames=16, bands=16))
    experiment = Experiment(model=model, data=DataConfig(batch_size=clips), objective=config)
    if name == "tokenizer":
        halves = unflatten_dict({path: np.full(shape, 0.5, np.float32) for path, shape in param_shapes(TINY).items()}, sep="/")
        save_bundle(folder / "teacher", Bundle(halves, TINY, experiment.audio, (), False, "test"))
        teacher = dataclasses.replace(experiment.objective, teacher=str(folder / "teacher"))
        model = TokenizerConfig(**{**to_mapping(TINY), "family": "beats_tokenizer", "quant_n": 8, "quant_dim": 4})
        experiment = dataclasses.replace(experiment, objective=teacher, model=model)
    objective = build(experiment, VOCABULARY, optax.sgd(0.1), None)
    batch = {
        "waveforms": np.random.default_rng(0).normal(size=(clips, 8000)).astype(np.float32),
        "lengths": np.tile(np.array([8000, 4000], np.int32), clips // 2),
        "labels": np.tile(np.array([0, 2], np.int32), clips // 2),
        "positions": np.arange(clips, dtype=np.int32),
        "rows": np.arange(clips, dtype=np.int32),
        "example_mask": np.ones(clips, bool),
    }
    if isinstance(config, GenerativeConfig):
        batch = {"images": np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.float32), "labels": batch["labels"]}
    if name == "joint":
        batch |= {f"labeled_{key}": array for key, array in batch.items()}
    return objective, batch


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_traces_a_step_that_keeps_its_state_s_shape(name, tmp_path):
    """Nothing is compiled, which would take ten seconds for each; the slow test below takes the steps."""
    objective, batch = objective_and_batch(name, tmp_path)

    def step(key, batch):
        state = objective.init(key, batch)
        after, metrics = objective.update(state, batch)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return jax.tree.leaves(state), jax.tree.leaves(after), metrics

    before, after, metrics = jax.eval_shape(step, jax.random.key(0), batch)
    assert [(x.shape, x.dtype) for x in after] == [(x.shape, x.dtype) for x in before]
    assert "loss" in metrics
    assert {x.shape for x in jax.tree.leaves(metrics)} == {()}


@pytest.mark.parametrize(
    "name", [name if name == "supervised" else pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES]
)
def test_every_objective_takes_a_step_with_the_real_rooms(name, tmp_path):
    objective, batch = objective_and_batch(name, tmp_path)
    state = jax.jit(objective.init)(jax.random.key(0), batch)
    if isinstance(objective, SelfSupervised):
        state = objective.begin(state, None, lambda: itertools.repeat(batch))
    after, metrics = jax.jit(objective.update)(state, batch)
    assert int(after.step) == 1
    assert np.isfinite(float(metrics["loss"][0]))
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, after.params)
    assert any(jax.tree.leaves(changed))


def test_unknown_name_is_refused():
    experiment = Experiment(objective=ObjectiveConfig(name="supervized"))
    with pytest.raises(UserError, match="did you mean 'supervised'"):
        build(experiment, VOCABULARY, optax.sgd(0.1), None)


def test_balanced_weights_need_counts():
    experiment = dataclasses.replace(Experiment(model=TINY), objective=SupervisedConfig(class_weights="balanced"))
    with pytest.raises(UserError, match="not counted"):
        build(experiment, VOCABULARY, optax.sgd(0.1), None)
    weights = build(experiment, VOCABULARY, optax.sgd(0.1), np.array([1, 1, 2])).class_weights
    np.testing.assert_allclose(weights, np.array([1, 1, 0.5]) / (2.5 / 3), rtol=1e-6)
