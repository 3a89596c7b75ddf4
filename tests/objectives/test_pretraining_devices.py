"""Self-supervised objectives give the same on one device and on eight, codebook and masks included."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_pretraining import MODEL, TOKENIZER, make_arrays, make_objective, save_teacher

from beats_jax.config import MaskedPredictionConfig, TokenizerObjectiveConfig
from beats_jax.parallel.mesh import make_mesh, put_batch, state_shardings
from beats_jax.training.loop import compile_update

pytestmark = pytest.mark.slow  # whole runs, each compiled anew


def losses(objective, mesh, steps=10):
    arrays = put_batch(mesh, make_arrays(0))
    shardings = state_shardings(mesh, jax.eval_shape(objective.init, jax.random.key(0), arrays))
    state = jax.jit(objective.init, out_shardings=shardings)(jax.random.key(0), arrays)
    with jax.set_mesh(mesh):
        state = objective.begin(state, None, lambda: (put_batch(mesh, make_arrays(step)) for step in range(3)))
    update, found = compile_update(objective, mesh, state), []
    for step in range(steps):
        with jax.set_mesh(mesh):
            state, metrics = update(state, put_batch(mesh, make_arrays(step)))
        total, count = metrics.fetch()["loss"]
        found.append(total / count)
    return found, jax.device_get(getattr(state, "codebook", None))


@pytest.mark.parametrize("name", ["masked_prediction", "tokenizer"])
def test_one_device_and_eight_agree(name, tmp_path):
    if name == "tokenizer":
        teacher = save_teacher(tmp_path / "teacher")
        config = TokenizerObjectiveConfig(teacher=teacher, estimator_layers=1, kmeans_batches=2, restart_below=0.3)
        objective = make_objective(config, model=TOKENIZER)
    else:
        config = MaskedPredictionConfig(codes=16, code_dim=8, predictor_layers=1)
        objective = make_objective(config, model=dataclasses.replace(MODEL, dropout=0.1, encoder_layerdrop=0.05))
    one, book = losses(objective, make_mesh(devices=jax.devices()[:1]))
    eight, others = losses(objective, make_mesh(4, 2))
    np.testing.assert_allclose(one, eight, rtol=1e-5)
    if book is not None:
        np.testing.assert_allclose(book.embedding, others.embedding, atol=1e-5)
        np.testing.assert_allclose(book.usage, others.usage, rtol=1e-5)
