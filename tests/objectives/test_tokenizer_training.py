"""The self-distilled tokenizer: it learns its teacher, its codes follow the published rule, and nothing else touches them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tiny_pretraining import MODEL, TOKENIZER, arrays_from, begun, learnt, make_arrays, make_objective, save_teacher

from beats_jax.config import AudioConfig, FilterbankConfig, TokenizerObjectiveConfig, TrainingConfig
from beats_jax.errors import UserError
from beats_jax.models.pretraining import quantizer
from beats_jax.objectives.tokenizer import _candidates
from beats_jax.weights.architecture import check_params


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def config(teacher):
    return TokenizerObjectiveConfig(teacher=teacher, estimator_layers=1, kmeans_batches=2)


@pytest.fixture(scope="module")
def objective(config):
    return make_objective(config, model=TOKENIZER, total_steps=60)


@pytest.fixture(scope="module")
def state(objective):
    return begun(objective)


@pytest.fixture(scope="module")
def update(objective):
    return jax.jit(objective.update)


def test_the_codebook_starts_from_several_batches(objective, state):
    book = jax.device_get(state.codebook)
    assert float(book.initted[0]) == 1.0
    np.testing.assert_allclose(np.linalg.norm(book.embedding, axis=1), 1.0, rtol=1e-5)
    real = [int(8 * ((1 + (n - 400) // 160) // 16)) for step in (0, 1) for n in make_arrays(step)["lengths"]]
    assert float(book.cluster_size.sum()) == min(sum(real), 64 * 16)
    assert len(np.unique(book.embedding.round(4), axis=0)) == 16


@pytest.mark.slow
def test_it_learns_its_teacher(objective, state):
    after, history = learnt(objective, state, 60)
    first, last = history[0], {name: np.mean([row[name] for row in history[-10:]]) for name in history[0]}
    assert last["cosine"] > first["cosine"] + 0.3
    assert last["loss"] < 0.4 * first["loss"]
    assert last["loss"] == pytest.approx(1 - last["cosine"] + last["commitment"], rel=1e-4)
    assert last["used_codes"] > 6
    assert 2 < last["used_entropy"] < 4
    assert {name for name in first if not name.startswith("block_")} == {
        "loss", "cosine", "commitment", "used_codes", "used_entropy", "gradient_norm", "dead_codes",
    }  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, state.teacher, after.teacher)


@pytest.mark.slow
def test_codes_move_by_the_published_rule_and_nothing_else_moves_them(objective, update, state):
    batch = make_arrays(2)
    batch["example_mask"][1] = False
    after, metrics = update(state, batch)
    fbank, mask = jax.jit(objective.frontend.evaluation)(batch)
    real = mask & batch["example_mask"][:, None]

    @jax.jit
    def expected():
        variables = {"params": state.params}
        _, codes, projected = objective.module.apply(variables, fbank, mask, state.codebook.embedding)
        quantized = quantizer.quantize(projected, state.codebook.embedding, real)
        return quantizer.update_codebook(state.codebook, projected, codes, real), quantized.loss

    book, commitment = expected()
    np.testing.assert_allclose(after.codebook.embedding, book.embedding, atol=1e-6)
    np.testing.assert_allclose(after.codebook.usage, book.usage, rtol=1e-6)
    np.testing.assert_allclose(metrics["commitment"][0] / metrics["commitment"][1], commitment, rtol=1e-5)
    assert "quantizer" not in state.params["model"]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, after.params)
    still = {jax.tree_util.keystr(path) for path, yes in jax.tree_util.tree_flatten_with_path(moved)[0] if not yes}
    assert all("k_proj" in path and "bias" in path for path in still)  # straight through: the encoder learns from the estimator


def test_the_estimators_gradient_reaches_the_encoder_straight_through(objective, state):
    """Without a commitment the only way to the encoder leads through the codes."""
    fbank, mask = jax.jit(objective.frontend.evaluation)(make_arrays(0))

    def estimated(params, embedding):
        estimate, _, _ = objective.module.apply({"params": params}, fbank, mask, embedding)
        return jnp.sum(jnp.sin(estimate))

    gradients, on_codes = jax.jit(jax.grad(estimated, argnums=(0, 1)))(state.params, state.codebook.embedding)
    assert np.any(gradients["model"]["patch_embedding"]["kernel"])
    assert not np.any(on_codes)


@pytest.mark.slow
def test_parts_make_the_same_step_codes_included(objective, update, state):
    batch = make_arrays(3)
    one, metrics = update(state, batch)
    two, others = jax.jit(dataclasses.replace(objective, accumulation_steps=2).update)(state, batch)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)  # noqa: E731
    jax.tree.map(close, (one.codebook, metrics), (two.codebook, others))


@pytest.mark.slow
def test_dead_codes_start_again_when_asked(config, state):
    objective = make_objective(dataclasses.replace(config, restart_below=0.5), model=TOKENIZER)
    far = state.codebook.embedding.at[:8].set(-state.codebook.embedding[8])  # where no vector is
    usage = jnp.where(jnp.arange(16) < 8, 0.0, 10.0)
    state = state.replace(codebook=state.codebook._replace(embedding=far, usage=usage))
    update = jax.jit(objective.update)
    early, _ = update(state.replace(step=jnp.asarray(42)), make_arrays(0))
    np.testing.assert_allclose(early.codebook.embedding[:8], far[:8], atol=1e-6)
    due, metrics = update(state.replace(step=jnp.asarray(99)), make_arrays(0))
    assert np.abs(due.codebook.embedding[:8] - far[:8]).max(axis=1).min() > 0.1
    np.testing.assert_allclose(due.codebook.embedding[8:], early.codebook.embedding[8:], atol=1e-6)
    assert float(due.codebook.usage[:8].min()) > 1.0
    assert float(metrics["dead_codes"][0]) == 0.0
    np.testing.assert_allclose(np.linalg.norm(due.codebook.embedding, axis=1), 1.0, rtol=1e-5)


def test_candidates_are_different_real_tokens():
    real = jnp.arange(6)[None, :] < jnp.asarray([[6], [3], [0]])
    chosen = np.asarray(jax.jit(lambda: _candidates(jax.random.split(jax.random.key(0), 3), real, 4))())
    assert sorted(chosen[chosen >= 0].tolist()) == [0, 1, 2, 3]
    assert (chosen[~np.asarray(real)] == -1).all()
    few = np.asarray(jax.jit(lambda: _candidates(jax.random.split(jax.random.key(0), 3), real, 99))())
    assert sorted(few[few >= 0].tolist()) == list(range(9))


def test_logits_of_a_fine_tuned_teacher_are_a_target(tmp_path, config):
    labels = ("ara", "pica", "strix")
    path = save_teacher(tmp_path / "model", dataclasses.replace(MODEL, predictor_class=3), labels=labels)
    objective = make_objective(dataclasses.replace(config, teacher=path, target="logits"), model=TOKENIZER)
    teacher = jax.tree.map(jnp.asarray, objective.teacher.loaded)
    fbank, mask = jax.jit(objective.frontend.evaluation)(make_arrays(0))
    said = np.asarray(jax.jit(objective.teacher)(teacher, fbank, mask))
    assert said.shape == (8, 32, 3)
    import beats_jax

    kept = np.asarray(mask)[:, :, None]
    expected = beats_jax.load(path).logits(make_arrays(0)["waveforms"], lengths=make_arrays(0)["lengths"])
    np.testing.assert_allclose((said * kept).sum(axis=1) / kept.sum(axis=1), expected, atol=2e-5)


def test_teachers_that_do_not_fit_are_refused(tmp_path, config, teacher):
    def refused(message, model=TOKENIZER, **changes):
        with pytest.raises(UserError, match=message):
            make_objective(dataclasses.replace(config, **changes), model=model)

    refused("objective.teacher is empty", teacher="")
    refused("has no head", target="logits")
    other = save_teacher(tmp_path / "a", audio=AudioConfig(filterbank=FilterbankConfig(mean=1.0, num_mel_bins=64)))
    refused(r"num_mel_bins 64 \(the experiment: 128\), mean 1\.0 \(the experiment: 15\.41663\)", teacher=other)
    coarse = save_teacher(tmp_path / "b", dataclasses.replace(MODEL, input_patch_size=32))
    refused("patches of 32, the experiment of 16", teacher=coarse)
    refused("is of the family 'beats_tokenizer'; it must be 'beats'", teacher=save_teacher(tmp_path / "c", TOKENIZER))
    refused("trains the family 'beats_tokenizer', not 'beats'", model=MODEL)


def test_a_trained_tokenizer_goes_on_with_its_codes(config, state):
    training = TrainingConfig(learning_rate=0.003, ema_decay=0.9)
    objective = make_objective(config, model=TOKENIZER, training=training)
    loaded = jax.device_get(state.weights["model"])
    check_params(flatten_dict(loaded, sep="/"), TOKENIZER, "what a run exports")
    fresh = jax.jit(objective.init)(jax.random.key(5), make_arrays(0))
    again = objective.begin(fresh, loaded, lambda: pytest.fail("no batch is needed"))
    jax.tree.map(np.testing.assert_array_equal, again.weights["model"], loaded)


def test_silence_cannot_start_a_codebook(objective):
    def silent():
        for batch in arrays_from(0):
            yield {**batch, "example_mask": np.zeros(8, bool)}

    fresh = jax.jit(objective.init)(jax.random.key(0), make_arrays(0))
    with pytest.raises(UserError, match="no sound at all"):
        objective.begin(fresh, None, silent)
