"""Contrastive learning: it learns, the bank matters and is kept, what must not be compared is not, parts and views are right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_pretraining import begun, learnt, make_arrays, make_objective

from beats_jax.config import AugmentConfig, ContrastiveConfig, DataConfig, TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives.candidates import NOBODY, standardisation
from beats_jax.objectives.inputs import crop
from beats_jax.objectives.metrics import embedding_rank, embedding_spread

pytestmark = pytest.mark.slow  # gradients of whole networks

AUGMENT = AugmentConfig(gain_db=6.0, time_masks=1, time_mask_fraction=0.3)
CONFIG = ContrastiveConfig(bank_size=20, projection_dim=8, augment=AUGMENT)
FIGURES = {"loss", "chance_loss", "retrieval", "similarity", "embedding_spread", "embedding_rank"}
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.fixture(scope="module")
def objective():
    return make_objective(CONFIG, total_steps=60)


@pytest.fixture(scope="module")
def state(objective):
    return begun(objective)


@pytest.fixture(scope="module")
def update(objective):
    return jax.jit(objective.update)


@pytest.fixture(scope="module")
def gradients(objective):
    return jax.jit(objective.gradients)


@pytest.fixture(scope="module")
def filled(update, state):
    """The state after three batches of 8 into a bank of 20."""
    for step in range(3):
        state, _ = update(state, make_arrays(step))
    return state


def without_bank(state):
    empty = dataclasses.replace(state.bank, rows=jnp.full_like(state.bank.rows, NOBODY))
    return state.replace(bank=empty)


def test_it_learns_to_tell_recordings_apart(update, state):
    """Eight recordings of one tone each, at other levels and with holes."""
    batch, history = make_arrays(0), []
    tones = np.sin(2 * np.pi * np.geomspace(200, 6000, 8)[:, None] * np.arange(batch["waveforms"].shape[1]) / 16_000)
    batch["waveforms"] = np.where(batch["waveforms"] != 0, 0.3 * tones, 0.0).astype(np.float32)
    for _ in range(60):
        state, metrics = update(state, batch)
        history.append({name: float(total / count) for name, (total, count) in metrics.items()})
    first, last = history[0], {name: np.mean([row[name] for row in history[-5:]]) for name in history[0]}
    assert last["loss"] < 0.7 * history[2]["loss"]  # with a full bank
    assert last["retrieval"] > 0.6
    assert last["bank_filled"] == 1
    assert 2 < last["embedding_rank"] <= 8
    assert {name for name in first if not name.startswith("block_")} == {*FIGURES, "bank_filled", "gradient_norm"}


def test_the_bank_changes_loss_and_gradient(gradients, filled):
    batch = make_arrays(3)
    with_bank, figures, _ = gradients(filled, batch)
    without, others, _ = gradients(without_bank(filled), batch)
    assert figures["loss"][0] > 1.2 * others["loss"][0]  # more to be told apart from
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), with_bank["projection"], without["projection"])
    assert min(jax.tree.leaves(difference)) > 0.01


def test_the_loss_is_that_of_plain_sums(objective, gradients, filled):
    """Against the formula in numpy over the very embeddings, with a bank, negatives and gathered clips."""
    batch = make_arrays(3)
    batch["gathered"] = np.arange(8) >= 6
    batch["rows"][1] = batch["rows"][0]  # two windows of one recording
    batch["rows"][2] = int(filled.bank.rows[3])  # and one that is in the bank
    batch["example_mask"][4] = False
    batch |= {f"negative_{name}": x[:4] for name, x in make_arrays(9).items()}
    _, metrics, bank = gradients(filled, batch)
    prepared = jax.jit(objective._prepare)(jax.random.fold_in(filled.key, filled.step), batch)
    project = jax.jit(lambda params, x: objective.project(params, x["fbank"], x["token_mask"]))

    def standardised(params, *more):
        """Both views of all clips by this network, [8, 2, P], in units of the valid ones, and `more` in the same."""
        z = np.stack([project(params, jax.tree.map(lambda x: x[:, v], views_of(prepared))) for v in (0, 1)], 1)  # noqa: B023
        real = z[batch["example_mask"]].reshape(-1, 8)
        units = [(np.asarray(x) - real.mean(0)) / np.sqrt(real.var(0) + 1e-5) for x in (z, *(project(params, x) for x in more))]
        return [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in units]

    (z,), (compared, negative) = standardised(filled.params), standardised(filled.keys, views_of(prepared["negative"]))
    losses = []
    for i in (0, 1, 2, 3, 5, 6, 7):
        for view in (0, 1):
            similar = lambda other: float(z[i, view] @ other) / 0.1  # noqa: B023, E731
            near = [similar(compared[i, 1 - view])]
            near += [similar(compared[j, v]) for j in (6, 7) for v in (0, 1) if i in (6, 7) and j != i]
            far = [
                similar(compared[j, v]) for j in (0, 1, 2, 3, 5, 6, 7) for v in (0, 1)
                if batch["rows"][j] != batch["rows"][i] and not {i, j} <= {6, 7}
            ]  # fmt: skip
            far += [similar(x) for x, row in zip(filled.bank.features, filled.bank.rows, strict=True) if row != batch["rows"][i]]
            far += [similar(x) for x in negative]
            losses.append(np.log(np.exp([*near, *far]).sum()) - np.mean(near))
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], np.mean(losses), rtol=1e-4)
    assert float(metrics["loss"][1]) == 14
    place = int(np.flatnonzero(bank.rows == batch["rows"][5])[0])
    np.testing.assert_allclose(bank.features[place], compared[5, 1], rtol=1e-4, atol=1e-5)  # the average's view goes in
    entered = set(bank.rows.tolist()) - set(filled.bank.rows.tolist())
    assert entered == set(batch["rows"][[0, 3, 5]].tolist())  # not the unreadable one, not the gathered ones


def views_of(prepared):
    return {name: prepared[name] for name in ("fbank", "token_mask")}


def test_what_all_clips_share_is_not_compared():
    """Standardised, the channels of the valid rows have mean 0 and variance 1, whatever a bad row holds; else it is 0 and 1."""
    x = jnp.asarray(np.random.default_rng(0).normal(5.0, 2.0, size=(6, 3)), jnp.float32).at[2].set(1e6)
    valid = jnp.arange(6) != 2
    mean, scale = standardisation(x, valid)
    found = np.asarray((x - mean) * scale)[np.asarray(valid)]
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(0), 1, rtol=1e-4)


def test_spread_and_rank_tell_a_point_a_line_and_a_sphere():
    valid = jnp.arange(400) != 7
    points = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    line = np.sign(points[:, :1]) * np.full((1, 16), 0.25, np.float32)
    for rows, spread, rank in ((points, 1.0, 15.5), (line, 1.0, 1.0), (np.ones_like(points) / 4, 0.0, 0.0)):
        rows[7] = 1e3  # not valid
        assert float(embedding_spread(jnp.asarray(rows), valid)[0]) == pytest.approx(spread, abs=0.02)
        assert float(embedding_rank(jnp.asarray(rows), valid)[0]) == pytest.approx(rank, abs=0.5)
    assert float(embedding_rank(jnp.asarray(points), jnp.zeros(400, bool))[1]) == 0  # nothing was seen


def test_standardising_is_a_setting(gradients, state):
    plain = make_objective(dataclasses.replace(CONFIG, standardise=False))
    one, other = gradients(state, make_arrays(0))[1], jax.jit(plain.gradients)(state, make_arrays(0))[1]
    assert one["similarity"][0] < other["similarity"][0]  # the common part of all embeddings is gone


def test_what_is_compared_with_follows_the_network(objective, gradients, filled):
    """keys <- 0.99 keys + 0.01 params after the step; without momentum there are none, and both views are of one network."""
    gradient, metrics, bank = gradients(filled, make_arrays(3))
    after = jax.jit(objective.advance)(filled, gradient, bank)
    jax.tree.map(
        lambda new, old, params: np.testing.assert_allclose(new, 0.99 * old + 0.01 * params, **CLOSE),
        after.keys, filled.keys, after.params,
    )  # fmt: skip
    alone = make_objective(dataclasses.replace(CONFIG, momentum=0.0))
    assert jax.eval_shape(alone.init, jax.random.key(0), make_arrays(0)).keys is None
    same = jax.jit(alone.gradients)(filled.replace(keys=None), make_arrays(3))[1]
    assert abs(float(same["loss"][0] - metrics["loss"][0])) > 1e-3
    np.testing.assert_allclose(same["embedding_spread"], metrics["embedding_spread"], rtol=1e-5)  # anchors are alike


def test_the_bank_wraps_and_holds_the_newest(filled):
    rows = filled.bank.rows.tolist()
    assert rows == [*range(20, 24), *range(4, 20)]
    np.testing.assert_allclose(np.linalg.norm(filled.bank.features, axis=1), 1.0, rtol=1e-5)


def test_parts_fill_the_bank_alike_and_see_themselves_only(filled):
    """Units are left out: each part has its own."""
    batch, plain = make_arrays(3), make_objective(dataclasses.replace(CONFIG, standardise=False))
    halves = dataclasses.replace(plain, accumulation_steps=2)
    _, whole, whole_bank = jax.jit(plain.gradients)(filled, batch)
    gradient, metrics, bank = jax.jit(halves.gradients)(filled, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), bank, whole_bank)
    np.testing.assert_allclose(metrics["similarity"], whole["similarity"], rtol=1e-4)
    assert 0 < float(metrics["loss"][0]) < float(whole["loss"][0])  # half as much of the batch to be told apart from
    assert all(np.any(g) for g in jax.tree.leaves(gradient["projection"]))


def test_evaluation_needs_no_bank_and_is_always_the_same(objective, filled):
    evaluate = jax.jit(objective.evaluate)
    one, two = (evaluate(filled.weights, make_arrays(0)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert set(one) == FIGURES


def test_crops_are_real_sound_of_the_wanted_length():
    batch = make_arrays(0)
    compiled = jax.jit(crop, static_argnums=2)
    cut = jax.tree.map(np.asarray, compiled(jax.random.key(0), batch, 4000))
    starts = set()
    for i in range(8):
        assert int(cut["lengths"][i]) == 4000
        places = np.flatnonzero(batch["waveforms"][i, : batch["lengths"][i] - 3999] == cut["waveforms"][i, 0])
        matching = [s for s in places if np.array_equal(batch["waveforms"][i, s : s + 4000], cut["waveforms"][i])]
        assert matching
        starts.add(matching[0])
    assert len(starts) > 4
    short = compiled(jax.random.key(0), {**batch, "lengths": np.full(8, 1500, np.int32)}, 4000)
    np.testing.assert_array_equal(short["lengths"], 1500)
    np.testing.assert_array_equal(short["waveforms"], batch["waveforms"][:, :4000])


def test_crops_take_a_step():
    config = dataclasses.replace(CONFIG, views="crops", crop_seconds=0.25, augment=AugmentConfig(), projection_dim=0, bank_size=0)
    objective = make_objective(config, data=DataConfig(window_seconds=0.665))
    state, history = learnt(objective, begun(objective), 1)
    assert state.bank is None
    assert set(state.params) == {"model"}
    assert np.isfinite(history[0]["loss"])


def test_an_average_of_the_weights_is_kept(state):
    averaging = make_objective(CONFIG, training=TrainingConfig(learning_rate=0.003, ema_decay=0.9))
    before = state.replace(ema=state.params, opt_state=averaging.optimizer.init(state.params))
    after = jax.jit(averaging.advance)(before, jax.tree.map(jnp.ones_like, state.params), state.bank)
    jax.tree.map(lambda old, new, mean: np.testing.assert_allclose(mean, 0.1 * old + 0.9 * new, **CLOSE), before.params,
                 after.params, after.weights)  # fmt: skip


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(UserError, match=r"both views of a clip would be the same"):
        ContrastiveConfig(augment=AugmentConfig())
    with pytest.raises(UserError, match=r"no labels to mix"):
        ContrastiveConfig(augment=AugmentConfig(gain_db=3.0, mixup_probability=0.5))
    with pytest.raises(UserError, match=r"batch_size 16 is larger than objective\.bank_size 8"):
        make_objective(dataclasses.replace(CONFIG, bank_size=8))
    crops = dataclasses.replace(CONFIG, views="crops", crop_seconds=12.0)
    with pytest.raises(UserError, match=r"shorter than data\.window_seconds 10"):
        make_objective(crops)
    with pytest.raises(UserError, match=r"needs objective\.views 'crops'"):
        ContrastiveConfig(crop_seconds=1.0)
    objective = make_objective(CONFIG)
    with pytest.raises(UserError, match=r"batch_size 24 is larger"):
        objective.init(jax.random.key(0), {"positions": jnp.arange(24)})
    assert isinstance(objective.optimizer, optax.GradientTransformation)
