"""Joint learning: both losses add up, labels are learnt, any base with two halves will do, what cannot work is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_pretraining import MODEL
from tiny_views import CLASSES, VOCABULARY, arrays, make_objective

from beats_jax.config import (
    AugmentConfig,
    DataConfig,
    Experiment,
    JointConfig,
    MaskedPredictionConfig,
    SupervisedConfig,
    TokenizerObjectiveConfig,
)
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.errors import UserError
from beats_jax.objectives.joint import label_contrast
from beats_jax.objectives.losses.contrastive import normalise
from beats_jax.objectives.registry import build


@pytest.fixture(scope="module")
def joint():
    """Labelled clips as they are: masks and noise leave too little of such short ones to learn within 60 steps."""
    return make_objective("joint", steps=60, augment=AugmentConfig())


def means(metrics):
    return {name: float(total / count) for name, (total, count) in metrics.items() if float(count)}


@pytest.mark.slow
def test_it_learns_the_labels_beside_the_base(joint):
    batch = arrays(0)
    state = jax.jit(joint.init)(jax.random.key(0), batch)
    update, history = jax.jit(joint.update), []
    for _ in range(60):
        state, metrics = update(state, batch)
        history.append(means(metrics))
    first, last = history[0], history[-1]
    for row in (first, last):
        assert row["loss"] == pytest.approx(row["base_loss"] + 0.3 * row["supervised_loss"], rel=1e-5)
    assert last["supervised_loss"] < 0.6 * first["supervised_loss"]
    rows = {name.removeprefix("labeled_"): x for name, x in batch.items() if name.startswith("labeled_")}
    found = jax.jit(joint.predict)(state.weights, rows)["logits"]
    right = np.asarray(found).argmax(-1) == batch["labeled_labels"].argmax(-1)
    assert right.mean() > 0.7 > 1 / len(CLASSES)
    figures = set(jax.jit(joint.evaluate)(state.weights, batch))
    assert figures == {"loss", "chance_loss", "retrieval", "similarity", "embedding_spread", "embedding_rank"}


def test_label_contrast_is_equation_2_of_the_paper():
    random = np.random.default_rng(0)
    z = np.asarray(normalise(jnp.asarray(random.normal(size=(5, 6)))))
    targets = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]], np.float32)
    valid = np.array([True, True, True, True, False])
    found = label_contrast(jnp.asarray(z), jnp.asarray(targets), jnp.asarray(valid), 0.2)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        scores = {j: z[i] @ z[j] / 0.2 for j in others}
        near = [scores[j] for j in others if targets[i] @ targets[j] > 0]
        expected = np.log(sum(np.exp(s) for s in scores.values())) - np.mean(near) if near else 0.0
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["eat", "masked_prediction"])
def test_other_bases_take_a_step_and_their_encoder_gets_the_head(base):
    if base == "eat":
        objective = make_objective("joint_eat")
    else:
        config = JointConfig(base=MaskedPredictionConfig(codes=16, code_dim=8, predictor_layers=1))
        experiment = Experiment(objective=config, model=MODEL, data=DataConfig(multi_label=True))
        objective = build(experiment, VOCABULARY, optax.sgd(0.1), None)
    state = jax.jit(objective.init)(jax.random.key(0), arrays(0))
    after, metrics = jax.jit(objective.update)(state, arrays(0))
    row = means(metrics)
    assert row["loss"] == pytest.approx(row["base_loss"] + 0.3 * row["supervised_loss"], rel=1e-5)
    before, now = (one.params["model"]["predictor"] for one in (state, after))
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, now)
    assert any(jax.tree.leaves(changed))
    assert "predictor" in after.weights["model"]


def test_bases_that_cannot_be_joined_are_refused():
    for base in (SupervisedConfig(), TokenizerObjectiveConfig(), JointConfig()):
        message = f"objective.base.name is '{base.name}'; labels can be joined with contrastive, eat, masked_prediction"
        with pytest.raises(UserError, match=message):
            JointConfig(base=base)
    with pytest.raises(UserError, match="needs labelled recordings"):
        build(Experiment(objective=JointConfig(), model=MODEL), LabelVocabulary(()), optax.sgd(0.1), None)
