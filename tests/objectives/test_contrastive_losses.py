"""Contrastive losses against the predecessor's golden numbers, optax and plain sums; the memory bank against a plain queue."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from beats_jax.errors import UserError
from beats_jax.objectives.losses.contrastive import (
    gathering_losses,
    normalise,
    published_bank_update,
    published_contrastive,
    published_supervised_contrastive,
    share_a_label,
    similarities,
)
from beats_jax.objectives.state import memory_bank


@pytest.fixture(scope="module")
def golden(golden_files):
    return np.load(golden_files / "bdl_losses.npz")


@pytest.mark.parametrize("features", ["f2", "f3"])
@pytest.mark.parametrize("case", ["plain", "bank", "neg", "bank_neg"])
def test_published_losses_and_gradients(golden, features, case):
    given = {"bank": golden["bank"] if "bank" in case else None, "negatives": golden["neg"] if "neg" in case else None}
    loss, gradient = jax.value_and_grad(lambda x: published_contrastive(x, **given))(golden[features])
    np.testing.assert_allclose(loss, golden[f"contrastive_{features}_{case}_loss"], rtol=1e-5, atol=2e-7)
    np.testing.assert_allclose(gradient, golden[f"contrastive_{features}_{case}_grad"], rtol=1e-4, atol=1e-6)


def test_the_published_bank_changes_nothing_and_the_mended_one_does(golden):
    def value(bank, as_published):
        return jax.value_and_grad(lambda x: published_contrastive(x, bank, as_published=as_published))(golden["f2"])

    jax.tree.map(np.testing.assert_array_equal, value(golden["bank"], True), value(None, True))
    (loss, gradient), (plain, plain_gradient) = value(golden["bank"], False), value(None, False)
    assert loss > 100 * plain
    assert np.abs(gradient - plain_gradient).max() > 0.01


def test_published_supervised_loss(golden):
    sets = [set(text.split(",")) for text in golden["supcon_labels"]]
    names = sorted(set().union(*sets))
    labels = jnp.asarray([[float(name in row) for name in names] for row in sets])
    loss, gradient = jax.value_and_grad(lambda x: published_supervised_contrastive(x, share_a_label(labels)))(golden["f2"])
    np.testing.assert_allclose(loss, golden["supcon_loss"], rtol=1e-6)
    np.testing.assert_allclose(gradient, golden["supcon_grad"], rtol=1e-4, atol=1e-5)


def test_published_bank_never_fills_its_end_and_ours_does(golden):
    bank, pointer = jnp.asarray(golden["mb_init"]), 0
    ours = memory_bank.empty(10, 4)
    for i in range(4):
        bank, pointer = published_bank_update(bank, pointer, golden[f"mb_feat{i}"])
        np.testing.assert_allclose(bank, golden[f"mb_after{i}"], atol=1e-6)
        assert pointer == golden["mb_pointers"][i + 1]
        ours = memory_bank.push(ours, golden[f"mb_feat{i}"], jnp.arange(4 * i, 4 * i + 4), jnp.ones(4, bool))
    np.testing.assert_array_equal(bank[8:], golden["mb_init"][8:])
    np.testing.assert_array_equal(ours.rows, [10, 11, 12, 13, 14, 15, 6, 7, 8, 9])


def test_bank_is_a_queue_of_the_valid_rows():
    """Batches that do not divide the size, and bad files: after every batch it holds what `collections.deque` would."""
    random, bank, queue = np.random.default_rng(0), memory_bank.empty(7, 3), deque(maxlen=7)
    put = jax.jit(memory_bank.push)
    for step in range(9):
        features, valid = random.normal(size=(5, 3)).astype(np.float32), random.random(5) < 0.7
        rows = np.arange(5, dtype=np.int32) + 5 * step
        bank = put(bank, features, rows, valid)
        queue.extend((row, vector / np.linalg.norm(vector)) for row, vector in zip(rows[valid], features[valid], strict=True))
        held = dict(zip(bank.rows.tolist(), np.asarray(bank.features), strict=True))
        held.pop(memory_bank.NOBODY, None)
        assert set(held) == {row for row, _ in queue}
        for row, vector in queue:
            np.testing.assert_allclose(held[row], vector, atol=1e-6)


def test_what_lies_in_the_bank_has_no_gradient():
    def total(features):
        bank = memory_bank.push(memory_bank.empty(4, 2), features, jnp.arange(2), jnp.ones(2, bool))
        return jnp.sum(bank.features)

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 2))), 0)


def test_a_batch_larger_than_the_bank_is_refused():
    with pytest.raises(UserError, match=r"batch_size 9 is larger than objective\.bank_size 8"):
        memory_bank.require_room(8, 9)
    memory_bank.require_room(8, 8)
    memory_bank.require_room(0, 9)


def test_one_positive_is_cross_entropy_and_several_are_its_mean():
    random = np.random.default_rng(1)
    anchors, candidates = normalise(random.normal(size=(4, 8))), normalise(random.normal(size=(6, 8)))
    scores = similarities(anchors, candidates, 0.2)
    chosen = np.array([0, 3, 5, 2])
    found = gathering_losses(scores, jnp.eye(6, dtype=bool)[chosen], jnp.ones((4, 6), bool))
    expected = optax.softmax_cross_entropy_with_integer_labels(scores, chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    two = jnp.eye(6, dtype=bool)[chosen] | jnp.eye(6, dtype=bool)[np.ones(4, int)]
    other = optax.softmax_cross_entropy_with_integer_labels(scores, np.array([1, 1, 1, 1]))
    np.testing.assert_allclose(gathering_losses(scores, two, jnp.ones((4, 6), bool)), (expected + other) / 2, rtol=1e-5)


def test_candidates_that_are_not_allowed_count_for_nothing():
    scores = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5)), jnp.float32)
    positives, allowed = jnp.eye(3, 5, dtype=bool), jnp.ones((3, 5), bool).at[:, 3].set(False).at[2, 2].set(False)
    found = gathering_losses(scores, positives, allowed)
    gradient = jax.grad(lambda s: jnp.sum(gathering_losses(s, positives, allowed)))(scores.at[:, 3].set(1e30))
    np.testing.assert_allclose(found[:2], gathering_losses(scores[:, [0, 1, 2, 4]], positives[:, :4], jnp.ones((3, 4), bool))[:2])
    assert found[2] == 0  # its positive is not allowed
    assert np.isfinite(gradient).all()
    assert not gradient[:, 3].any()
    assert not gradient[2].any()
