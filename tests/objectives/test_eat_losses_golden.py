"""EAT pre-training against the published code: masks, targets, decoder, losses, gradients, the teacher's step."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from beats_jax.config import AugmentConfig, EATObjectiveConfig
from beats_jax.models.cpu import Form
from beats_jax.models.eat import EAT
from beats_jax.models.eat_decoder import Decoder, grouped_conv
from beats_jax.objectives.eat import EATPretraining, fill_hidden, is_visible
from beats_jax.objectives.eat_masks import block_plan, block_union, clone_masks
from beats_jax.objectives.inputs import Frontend
from beats_jax.objectives.losses.eat import spread, teacher_decay
from beats_jax.objectives.state.state import ema_update
from beats_jax.weights.families import eat, eat_files
from beats_jax.weights.families.key_map import to_params
from beats_jax.weights.raw import read_raw

DECODER = eat.DECODER


@pytest.fixture(scope="module")
def golden(golden_files):
    return np.load(golden_files / "eat_tiny_pretrain.npz")


@pytest.fixture(scope="module")
def published(golden_files):
    """Student, teacher and decoder of the golden file, and an objective of its sizes."""
    raw = read_raw(golden_files / "eat_tiny_pretrain.pt")
    student, teacher = (
        eat_files.read_pretraining(raw),
        eat_files.read_pretraining(replace(raw, state_dict=raw.state_dict["_ema"])),
    )
    groups = 48 // raw.state_dict[f"{DECODER}blocks.0.0.weight"].shape[1]
    objective = EATPretraining(
        model=EAT(student.model),
        decoder=Decoder(48, 48, 3, 3, groups),
        frontend=Frontend(lambda waveforms, lengths: (waveforms, lengths), lambda mask: None, AugmentConfig(), 16_000),
        optimizer=optax.sgd(0.1),
        config=EATObjectiveConfig(clones=2, utterance_weight=4.0),
    )
    params = {"model": student.params, "decoder": decoder_params(raw.state_dict)}
    params, teacher_params = jax.tree.map(jnp.asarray, (params, teacher.params))
    return SimpleNamespace(objective=objective, params=params, teacher=teacher_params, config=student.model)


def decoder_params(tensors):
    layers = {
        f"layers_{i}": {
            "kernel": tensors[f"{DECODER}blocks.{i}.0.weight"].transpose(2, 3, 1, 0),
            "bias": tensors[f"{DECODER}blocks.{i}.0.bias"],
        }
        for i in range(3)
    }
    return {**layers, "proj": {"kernel": tensors[f"{DECODER}proj.weight"].T, "bias": tensors[f"{DECODER}proj.bias"]}}


@pytest.fixture(scope="module")
def step(golden, published):
    """Losses and gradients of the golden batch, with its masks and its noise."""
    masks = golden["mask"].reshape(2, 2, 128).astype(bool)
    visible = jnp.asarray(np.stack([[np.flatnonzero(~row) for row in clip] for clip in masks]), jnp.int32)
    noise = np.zeros((2, 2, 128, 48), np.float32)
    noise[masks] = golden["mask_tokens"]

    def total(params):
        found = published.objective.compare(
            params, published.teacher, jnp.asarray(golden["fbank"]), None, visible, None, jnp.asarray(noise), deterministic=True
        )
        return jnp.mean(found.frame + 4.0 * found.utterance), found

    gradients, found = jax.jit(jax.grad(total, has_aux=True))(published.params)
    return SimpleNamespace(found=found, gradients=gradients, visible=visible, noise=jnp.asarray(noise), masks=masks)


def test_targets_are_the_published_ones(golden, step):
    np.testing.assert_allclose(step.found.targets, golden["teacher_targets"], atol=2e-5)


def test_student_and_decoder(golden, published, step):
    features = published.objective.student(
        published.params["model"], jnp.asarray(golden["fbank"]), None, step.visible, deterministic=True
    )
    order = np.argsort(golden["ids_keep"], axis=1)
    expected = np.take_along_axis(golden["student_out"][:, 1:], order[:, :, None], axis=1)
    np.testing.assert_allclose(features[:, 1:], expected, atol=2e-5)
    np.testing.assert_allclose(features[:, 0], golden["student_out"][:, 0], atol=2e-5)
    np.testing.assert_allclose(fill_hidden(features[:, 1:], step.visible, step.noise), golden["decoder_in"], atol=2e-5)
    np.testing.assert_allclose(step.found.estimates.reshape(4, 128, 48), golden["decoder_out"], atol=2e-5)


def test_losses_by_their_reductions(golden, step):
    size = golden["sample_size"]
    np.testing.assert_array_equal(step.found.hidden, step.masks)
    np.testing.assert_allclose(jnp.mean(step.found.frame), golden["frame_loss_sum"] / size, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(step.found.utterance), golden["utterance_loss_sum"] / size, rtol=1e-6)
    loss = jnp.mean(step.found.frame + 4.0 * step.found.utterance)
    np.testing.assert_allclose(loss, golden["total_loss_per_sample_size"], rtol=1e-6)


def test_gradients(golden, published, step):
    theirs = {key.removeprefix("grad/"): golden[key] for key in golden if key.startswith("grad/")}
    decoder = flatten_dict(decoder_params({key: theirs.pop(key) for key in list(theirs) if key.startswith(DECODER)}), sep="/")
    positions = np.zeros((1, 512, 48), np.float32)  # never learnt: not in the file
    theirs["modality_encoders.IMAGE.fixed_positional_encoder.positions"] = positions
    expected = flatten_dict(to_params(theirs, eat.key_table(published.config, eat.PRETRAINING), published.config), sep="/")
    found = {
        **flatten_dict(step.gradients["model"], sep="/"),
        **{f"decoder/{k}": v for k, v in flatten_dict(step.gradients["decoder"], sep="/").items()},
    }
    expected |= {f"decoder/{k}": v for k, v in decoder.items()}
    assert found.keys() == expected.keys()
    for path, gradient in expected.items():
        if path.endswith("qkv/bias"):  # that of the keys is rounding, and ours is not learnt
            gradient, found[path] = (np.delete(np.asarray(x), np.s_[48:96]) for x in (gradient, found[path]))
        np.testing.assert_allclose(found[path], gradient, atol=1e-4 * max(np.abs(gradient).max(), 1e-3), err_msg=path)


def test_spread_is_the_published_monitor(golden, step):
    hidden = step.found.hidden
    np.testing.assert_allclose(spread(step.found.estimates, hidden), golden["pred_var"], rtol=1e-5)
    wide = jnp.broadcast_to(step.found.targets[:, None], step.found.estimates.shape)
    np.testing.assert_allclose(spread(wide, hidden), golden["target_var"], rtol=1e-5)


def test_the_teacher_moves_as_published(golden, published):
    after = flatten_dict(ema_update(published.teacher, published.params["model"], jnp.float32(0.9)), sep="/")
    table = eat.key_table(published.config, eat.PRETRAINING)
    for key in [key for key in golden if key.startswith("ema_after")]:
        path, rule = table[key.split("/", 1)[1]]
        np.testing.assert_allclose(after[path], rule.to_ours(golden[key]), atol=1e-6)
    for step_, value in zip(golden["ema_decay_steps"], golden["ema_decay_values"], strict=True):
        np.testing.assert_allclose(teacher_decay(jnp.asarray(step_), 0.9998, 0.99999, 100_000), value, atol=1e-7)


def test_blocks_are_the_published_ones(golden):
    plan = block_plan((64, 8), 0.8, 0.07, 5)
    assert (plan.centres, plan.visible) == (5, 102)
    union = jax.vmap(lambda centres: block_union(centres, plan))(golden["blockmask_64x8_centers"])
    np.testing.assert_array_equal(union, golden["blockmask_64x8_kept_before_adjust"])


@pytest.mark.parametrize(("grid", "centres", "visible"), [((32, 8), 2, 51), ((16, 8), 1, 25), ((8, 8), 0, 12), ((1, 2), 0, 1)])
def test_counts_of_other_grids(grid, centres, visible):
    plan = block_plan(grid, 0.8, 0.07, 5)
    assert (plan.centres, plan.visible) == (centres, visible)


def test_masks_are_drawn_as_published(golden):
    """The same number visible in all; blocks first: how often a cell is visible follows the golden draws; clones differ."""
    plan = block_plan((64, 8), 0.8, 0.07, 5)
    masks = jax.jit(lambda keys: is_visible(clone_masks(keys, 16, plan), 512))(jax.random.split(jax.random.key(0), 8))
    assert masks.shape == (8, 16, 512)
    np.testing.assert_array_equal(masks.sum(-1), 102)
    flat = np.asarray(masks).reshape(-1, 64, 8)
    assert len(np.unique(flat.reshape(-1, 512), axis=0)) == len(flat)
    neighbours = (flat[:, 1:] & flat[:, :-1]).sum() / flat[:, 1:].sum()
    shown = golden["blockmask_64x8_final"].reshape(-1, 64, 8) == 0
    expected = (shown[:, 1:] & shown[:, :-1]).sum() / shown[:, 1:].sum()
    assert abs(neighbours - expected) < 0.06
    assert expected > 0.6  # random cells would give 0.2


@pytest.mark.parametrize("size", [3, 5])
def test_forms_of_the_grouped_convolution_agree(size):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, 6, 4, 8)), random.normal(size=(size, size, 2, 12))
    forms = {
        form: grouped_conv(jnp.asarray(x), jnp.asarray(kernel), groups=4, form=form, dtype=jnp.float32)
        for form in (Form.PLAIN, Form.LOOPED, Form.PORTABLE)
    }
    np.testing.assert_allclose(forms[Form.LOOPED], forms[Form.PLAIN], atol=1e-5)
    np.testing.assert_allclose(forms[Form.PORTABLE], forms[Form.PLAIN], atol=1e-5)
