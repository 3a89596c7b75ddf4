"""EAT pre-training as an objective: it learns, the teacher follows, padding and parts change nothing, sizes are checked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_pretraining import make_arrays
from tiny_views import EAT, EAT_MODEL, make_objective

from beats_jax.config import BEATsConfig, EATObjectiveConfig, Experiment, TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives.losses.eat import teacher_targets
from beats_jax.objectives.registry import build


@pytest.fixture(scope="module")
def objective():
    return make_objective("eat", steps=60)


@pytest.fixture(scope="module")
def state(objective):
    return jax.jit(objective.init)(jax.random.key(0), make_arrays(0))


@pytest.fixture(scope="module")
def update(objective):
    return jax.jit(objective.update)


@pytest.mark.slow
def test_it_learns_and_the_teacher_follows(objective, update, state):
    """A slow teacher is a fixed target: the loss falls; nothing collapses meanwhile; positions are never learnt by name."""
    history, before = [], state
    for step in range(60):
        state, metrics = update(state, make_arrays(step % 4))
        history.append({name: float(total / count) for name, (total, count) in metrics.items()})
    first, last = history[0], {name: np.mean([row[name] for row in history[-5:]]) for name in history[0]}
    assert last["frame_loss"] < 0.7 * first["frame_loss"]
    assert last["target_spread"] > 0.3
    assert last["hidden_share"] == pytest.approx(0.8, abs=0.02)
    assert {name for name in first if not name.startswith("block_")} == {
        "loss", "frame_loss", "utterance_loss", "hidden_share", "target_spread", "estimate_spread", "teacher_decay",
        "gradient_norm",
    }  # fmt: skip
    assert set(state.weights) == {"model", "student", "decoder", "teacher"}
    kernel = lambda tree: np.asarray(tree["blocks_0"]["fc1"]["kernel"])  # noqa: E731
    moved, behind = kernel(state.params["model"]) - kernel(before.teacher), kernel(state.teacher) - kernel(before.teacher)
    assert 0 < np.linalg.norm(behind) < np.linalg.norm(moved)


@pytest.mark.slow
def test_one_update_moves_the_teacher_by_its_share(update, state):
    after, _ = update(state, make_arrays(0))
    decay = float(0.99 - (0.99 - 0.9) * (1 - 1 / 100_000))
    expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.teacher, after.params["model"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.teacher, expected)


def test_teacher_can_be_what_is_exported(state):
    exported = state.replace(teacher=jax.tree.map(lambda x: x + 1, state.teacher), exports="teacher").weights
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), exported["model"], exported["student"])


@pytest.mark.slow
def test_parts_and_unreadable_rows_change_nothing(objective, state):
    batch = make_arrays(3)
    batch["example_mask"][5], batch["waveforms"][5], batch["lengths"][5] = False, 0.0, 0
    whole = dataclasses.replace(objective, optimizer=optax.sgd(1.0))
    one, metrics, _ = jax.jit(whole.gradients)(state, batch)
    two, others, _ = jax.jit(dataclasses.replace(whole, accumulation_steps=2).gradients)(state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one, two)
    for name in ("loss", "frame_loss", "utterance_loss", "hidden_share"):
        np.testing.assert_allclose(metrics[name], others[name], rtol=1e-5)
    assert float(metrics["loss"][1]) == 7


@pytest.mark.slow
def test_evaluation_always_has_the_same_masks(objective, state):
    evaluate = jax.jit(objective.evaluate)
    one, two = (evaluate(state.weights, make_arrays(0)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert "teacher_decay" not in one


def test_padding_can_be_hidden(state):
    """With `mask_padding` what lies behind a clip's end changes neither targets nor loss."""
    hiding = make_objective("eat", model=dataclasses.replace(EAT_MODEL, mask_padding=True))
    fbank, token_mask = hiding.frontend.evaluation(make_arrays(0))
    assert token_mask is not None
    assert not token_mask.all()
    spoilt = jnp.where(jnp.repeat(token_mask[:, 1::8], 16, axis=1)[:, :, None], fbank, 100.0)
    visible = jnp.broadcast_to(jnp.arange(6, dtype=jnp.int32)[None, None], (8, 2, 6))
    keys = jax.random.split(jax.random.key(0), 8)
    compare = jax.jit(lambda x: hiding.compare(state.params, state.teacher, x, token_mask, visible, keys, deterministic=True))
    one, two = compare(fbank), compare(spoilt)
    np.testing.assert_allclose(one.utterance, two.utterance, rtol=1e-5)
    np.testing.assert_allclose(one.frame, two.frame, rtol=1e-5)
    assert not np.any(one.hidden & ~one.real[:, None])


def test_targets_are_normalised_over_real_patches():
    random = np.random.default_rng(0)
    branches = [jnp.asarray(random.normal(size=(2, 6, 4)), jnp.float32) for _ in range(2)]
    real = jnp.asarray([[True] * 6, [True] * 4 + [False] * 2])
    found = teacher_targets(branches, real)
    short = teacher_targets([x[1:, :4] for x in branches], jnp.ones((1, 4), bool))
    np.testing.assert_allclose(found[1, :4], short[0], atol=1e-6)


def test_settings_that_cannot_work_are_refused():
    def refused(message, config=EAT, model=EAT_MODEL, **training):
        experiment = Experiment(objective=config, model=model, training=TrainingConfig(**training))
        with pytest.raises(UserError, match=message):
            build(experiment, None, optax.sgd(0.1), None)

    refused("trains models of the family 'eat', not 'beats'", model=BEATsConfig())
    refused(r"embed_dim 16 is not a multiple of objective\.decoder_groups 5", dataclasses.replace(EAT, decoder_groups=5))
    refused(r"decoder_width 6 is not a multiple", dataclasses.replace(EAT, decoder_width=6))
    refused(r"average_layers is 3; the model has 2", dataclasses.replace(EAT, average_layers=3))
    refused("keeps its own average", ema_decay=0.5)
    with pytest.raises(UserError, match="it must be odd"):
        EATObjectiveConfig(decoder_kernel=4)
