"""Masked prediction: it learns, its figures are right, gradients flow where they should, and parts and padding change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict
from tiny_pretraining import MODEL, SAMPLES, TOKENIZER, begun, learnt, make_arrays, make_objective

from beats_jax.config import ASTConfig, AudioConfig, FilterbankConfig, MaskedPredictionConfig, TrainingConfig
from beats_jax.errors import UserError
from beats_jax.models.pretraining import random_projection
from beats_jax.objectives.losses.classification import code_losses
from beats_jax.objectives.metrics import code_usage, used_codes
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

CONFIG = MaskedPredictionConfig(codes=8, code_dim=8, predictor_layers=1, label_smoothing=0.0)
AUDIO = AudioConfig(filterbank=FilterbankConfig(num_mel_bins=32))  # 4 x 2 patches


@pytest.fixture(scope="module")
def objective():
    return make_objective(CONFIG, total_steps=140, audio=AUDIO)


@pytest.fixture(scope="module")
def state(objective):
    return begun(objective)


@pytest.fixture(scope="module")
def evaluate(objective):
    return jax.jit(objective.evaluate)


@pytest.fixture(scope="module")
def update(objective):
    return jax.jit(objective.update)


def test_code_losses_are_those_of_optax():
    draw = np.random.default_rng(0)
    logits = jnp.asarray(draw.standard_normal((3, 5, 7)), jnp.float32)
    codes = jnp.asarray(draw.integers(7, size=(3, 5)), jnp.int32)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, codes)
    np.testing.assert_allclose(code_losses(logits, codes, 0.0), plain, rtol=1e-5)
    smooth = optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(codes, 7), 0.1))
    np.testing.assert_allclose(code_losses(logits, codes, 0.1), smooth, rtol=1e-5)


def test_code_usage_is_counted_over_parts():
    """Of two codebooks, the second of which always has code 2: 3 and 1 different codes, 1.5 and 0 bits."""
    codes, among = jnp.asarray([[0, 1, 1, 5], [3, 3, 3, 3]]), jnp.asarray([[True] * 3 + [False], [True] + [False] * 3])
    codes = jnp.stack([codes, jnp.full_like(codes, 2)], axis=-1)
    parts = [code_usage("x", codes[i : i + 1], among[i : i + 1], 6) for i in (0, 1)]
    figures = used_codes(jax.tree.map(jnp.add, *parts))
    assert {name: float(total / count) for name, (total, count) in figures.items()} == {"x_codes": 2.0, "x_entropy": 0.75}
    nothing = used_codes(code_usage("x", codes, jnp.zeros_like(among), 6))
    assert {name: float(count) for name, (_, count) in nothing.items()} == {"x_codes": 0.0, "x_entropy": 0.0}


@pytest.mark.slow
def test_every_codebook_is_predicted(objective, state, evaluate):
    """Two equal codebooks with equal outputs give the figures of one; two different ones the mean of both."""
    double = make_objective(dataclasses.replace(CONFIG, books=2), total_steps=140, audio=AUDIO)
    drawn, batch = begun(double).tokenizer, make_arrays(0)
    assert drawn.projection.shape[0] == 2
    assert np.any(drawn.projection[0] != drawn.projection[1])

    def figures(order):
        book = {name: getattr(drawn, name)[np.array(order)] for name in ("projection", "codebook")}
        evaluated = (evaluate, 1) if len(order) == 1 else (jax.jit(double.evaluate), 2)
        output = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * evaluated[1], axis=-1), state.params["predictor"]["output"])
        params = {**state.params, "predictor": {**state.params["predictor"], "output": output}}
        found = evaluated[0]({**params, "tokenizer": drawn._replace(**book)}, batch)
        return {name: float(total / count) for name, (total, count) in found.items()}

    one, other, twice, both = figures([0]), figures([1]), figures([0, 0]), figures([0, 1])
    np.testing.assert_allclose([twice[name] for name in one], list(one.values()), rtol=1e-5)
    np.testing.assert_allclose([both[name] for name in one], [(one[name] + other[name]) / 2 for name in one], rtol=1e-5)
    assert abs(one["loss"] - other["loss"]) > 1e-3
    with pytest.raises(UserError, match="books 2 is for the random projection"):
        MaskedPredictionConfig(books=2, tokenizer="runs/tokenizer")


@pytest.mark.slow
def test_the_projection_is_fitted_to_the_first_patches():
    """Against numpy's mean and covariance of the real patches of readable clips."""
    objective = make_objective(dataclasses.replace(CONFIG, components=3), audio=AUDIO)
    batch = make_arrays(0)
    batch["example_mask"][2] = False
    state = jax.jit(objective.init)(jax.random.key(0), batch)
    begun_ = objective.begin(state, None, lambda: iter([batch, make_arrays(1)]))
    pixels = []
    for arrays in (batch, make_arrays(1)):
        fbank, real = (np.asarray(x) for x in jax.jit(lambda b: objective.frontend.without_labels(None, b))(arrays))
        for clip in np.flatnonzero(arrays["example_mask"]):
            cells = fbank[clip, :64].reshape(4, 16, 2, 16).transpose(0, 2, 1, 3).reshape(8, 256)
            pixels.append(cells[real[clip]])
    pixels = np.concatenate(pixels).astype(np.float64)
    np.testing.assert_allclose(begun_.tokenizer.centre, pixels.mean(0), rtol=1e-4, atol=1e-4)
    expected = random_projection.fit_projection(
        jax.device_get(state.tokenizer), pixels.mean(0), np.cov(pixels.T, bias=True), 3
    ).patch_kernel
    np.testing.assert_allclose(begun_.tokenizer.patch_kernel, expected, rtol=2e-2, atol=2e-4)
    with pytest.raises(UserError, match="is for the random projection"):
        MaskedPredictionConfig(components=3, tokenizer="runs/tokenizer")
    silent = {**batch, "example_mask": np.zeros(8, bool)}
    with pytest.raises(UserError, match="hold no sound at all"):
        objective.begin(state, None, lambda: iter([silent]))


@pytest.mark.slow
def test_it_learns_more_than_how_often_codes_occur(objective, state):
    """The loss ends below the entropy of the codes, which is what can be known without looking at the clip."""
    _, history = learnt(objective, state, 140)
    first, last = history[0], {name: np.mean([row[name] for row in history[-15:]]) for name in history[0]}
    assert last["loss"] < 0.9 * np.log(2) * last["target_entropy"]
    assert last["loss"] < 0.5 * first["loss"]
    assert last["masked_accuracy"] > 0.6 > 4 / 8
    assert 2 <= last["predicted_codes"] <= last["target_codes"] <= 8
    assert {name for name in first if not name.startswith("block_")} == {
        "loss", "masked_accuracy", "visible_accuracy", "masked_share", "predicted_codes", "predicted_entropy", "target_codes",
        "target_entropy", "chance_loss", "gradient_norm",
    }  # fmt: skip


@pytest.mark.slow
def test_only_encoder_and_predictor_learn(update, state):
    after, metrics = update(state, make_arrays(0))
    real = real_tokens(make_arrays(0))
    assert float(metrics["masked_share"][1]) == sum(real)
    assert float(metrics["masked_share"][0]) == sum(n - max(1, round(n / 4)) for n in real)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, after.params)
    still = {jax.tree_util.keystr(path) for path, yes in jax.tree_util.tree_flatten_with_path(moved)[0] if not yes}
    assert all("k_proj" in path and "bias" in path for path in still)  # softmax ignores the keys' bias
    jax.tree.map(np.testing.assert_array_equal, state.tokenizer, after.tokenizer)
    assert set(after.weights) == {"model", "predictor", "tokenizer"}


@pytest.mark.slow
def test_every_step_masks_anew_and_evaluation_always_alike(update, evaluate, state):
    batch = make_arrays(0)
    first, second = (update(state.replace(step=jnp.int32(step)), batch)[1]["loss"] for step in (0, 1))
    assert first[0] != second[0]
    first, again = evaluate(state.weights, batch), evaluate(state.weights, batch)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first["loss"][0] != evaluate(state.weights, {**batch, "rows": batch["rows"] + 8})["loss"][0]


@pytest.mark.slow
def test_parts_padding_and_unreadable_rows_change_nothing(objective, update, state):
    """The loss is over the masked tokens of all rows, in however many parts; a spoilt row and longer padding count nothing."""
    batch = make_arrays(3)
    batch["example_mask"][5], batch["waveforms"][5], batch["lengths"][5] = False, 0.0, 0
    _, metrics = update(state, batch)
    _, others = jax.jit(dataclasses.replace(objective, accumulation_steps=2).update)(state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), metrics, others)
    tokens = float(metrics["loss"][1])
    assert tokens == sum(n - max(1, round(n / 4)) for n in real_tokens(batch))


def real_tokens(batch):
    """Tokens whose 16 frames lie wholly inside the sound."""
    frames = 1 + (batch["lengths"][batch["example_mask"]] - 400) // 160
    return (2 * (frames // 16)).tolist()


@pytest.mark.slow
def test_compact_positions_and_zero_masks_are_other_models(evaluate, state):
    batch = make_arrays(0)
    values = {"default": float(evaluate(state.weights, batch)["loss"][0])}
    for name, change in (("compact", {"positions": "compact"}), ("zero", {"mask_token": "zero"})):
        other = make_objective(dataclasses.replace(CONFIG, **change), audio=AUDIO)
        weights = dict(state.weights)
        if name == "zero":
            weights["predictor"] = {k: v for k, v in weights["predictor"].items() if k != "mask_token"}
        values[name] = float(jax.jit(other.evaluate)(weights, batch)["loss"][0])
    assert len({round(value, 3) for value in values.values()}) == 3


def tokenizer_bundle(path, *, usage=None, initted=1.0, audio=None, model=TOKENIZER):
    draw = np.random.default_rng(0)
    flat = {name: 0.3 * draw.standard_normal(shape).astype(np.float32) for name, shape in param_shapes(model).items()}
    flat["quantizer/usage"] = np.full(model.quant_n, 3.0, np.float32) if usage is None else usage
    flat["quantizer/initted"] = np.full(1, initted, np.float32)
    save_bundle(path, Bundle(unflatten_dict(flat, sep="/"), model, audio or AudioConfig(), (), False, "test"))
    return str(path)


@pytest.mark.slow
def test_a_trained_tokenizer_gives_the_codes(tmp_path):
    import beats_jax

    path = tokenizer_bundle(tmp_path / "tokenizer", audio=AUDIO)
    objective = make_objective(dataclasses.replace(CONFIG, tokenizer=path), audio=AUDIO)
    state = begun(objective)
    fbank, token_mask = jax.jit(objective.frontend.evaluation)(make_arrays(0))
    codes = jax.jit(objective.targets)(state.tokenizer, fbank, token_mask)[..., 0]
    padding = ~np.asarray(token_mask)
    assert (~padding).sum(axis=1).tolist() == real_tokens(make_arrays(0))
    model = beats_jax.load(path)
    lengths = np.repeat(np.array(real_tokens(make_arrays(0))) // 2, 64).reshape(8, 64) > np.arange(64)[None, :] // 16
    expected = model.encode_fbank(np.asarray(fbank)[:, :64], ~lengths).codes
    np.testing.assert_array_equal(np.asarray(codes)[~padding], np.asarray(expected)[~padding])


def test_tokenizers_that_do_not_fit_are_refused(tmp_path):
    def refused(message, **options):
        path = tokenizer_bundle(tmp_path / f"{len(list(tmp_path.iterdir()))}", **options)
        with pytest.raises(UserError, match=message):
            make_objective(dataclasses.replace(CONFIG, tokenizer=path))

    dead = np.zeros(16, np.float32)
    dead[:4] = 5.0
    refused(r"12 of the 16 codes .* are dead, more than objective\.largest_dead_share 0\.5", usage=dead)
    refused("never started", initted=0.0)
    refused(r"mean 1\.0 \(the experiment: 15\.41663\)", audio=AudioConfig(filterbank=FilterbankConfig(mean=1.0)))
    refused(r"patches of 32, the experiment of 16", model=dataclasses.replace(TOKENIZER, input_patch_size=32))
    save_bundle(tmp_path / "encoder", Bundle(_zeros(MODEL), MODEL, AudioConfig(), (), False, "test"))
    with pytest.raises(UserError, match="family 'beats'; it must be a tokenizer"):
        make_objective(dataclasses.replace(CONFIG, tokenizer=str(tmp_path / "encoder")))
    with pytest.raises(UserError, match="trains models of the family 'beats', not 'ast'"):
        make_objective(CONFIG, model=ASTConfig())


def _zeros(model):
    return unflatten_dict({name: np.zeros(shape, np.float32) for name, shape in param_shapes(model).items()}, sep="/")


def test_random_targets_depend_on_their_own_seed_only(objective, state):
    for ours, again in zip(state.tokenizer, objective.targets.init(), strict=True):
        np.testing.assert_allclose(ours, again, rtol=1e-6)
    changed = make_objective(dataclasses.replace(CONFIG, tokenizer_seed=43)).targets.init()
    assert np.any(np.asarray(changed.codebook) != np.asarray(state.tokenizer.codebook))


def test_a_checkpoint_is_where_the_encoder_starts():
    training = TrainingConfig(learning_rate=0.003, ema_decay=0.9)
    state = begun(make_objective(CONFIG, training=training), loaded=_zeros(MODEL))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.weights["model"]))
    assert np.any(np.asarray(state.weights["predictor"]["output"]["kernel"]))
    assert SAMPLES == make_arrays(0)["waveforms"].shape[1]
