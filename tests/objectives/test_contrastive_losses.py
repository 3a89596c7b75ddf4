"""Contrastive losses against optax and plain sums; the memory bank against a plain queue."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from beats_jax.errors import UserError
from beats_jax.objectives.candidates import NOBODY, empty_bank, push, require_room
from beats_jax.objectives.losses.contrastive import gathering_losses, normalise, similarities


def test_bank_is_a_queue_of_the_valid_rows():
    """Batches that do not divide the size, and bad files: after every batch it holds what `collections.deque` would."""
    random, bank, queue = np.random.default_rng(0), empty_bank(7, 3), deque(maxlen=7)
    put = jax.jit(push)
    for step in range(9):
        features, valid = random.normal(size=(5, 3)).astype(np.float32), random.random(5) < 0.7
        rows = np.arange(5, dtype=np.int32) + 5 * step
        bank = put(bank, features, rows, valid)
        queue.extend((row, vector / np.linalg.norm(vector)) for row, vector in zip(rows[valid], features[valid], strict=True))
        held = dict(zip(bank.rows.tolist(), np.asarray(bank.features), strict=True))
        held.pop(NOBODY, None)
        assert set(held) == {row for row, _ in queue}
        for row, vector in queue:
            np.testing.assert_allclose(held[row], vector, atol=1e-6)


def test_what_lies_in_the_bank_has_no_gradient():
    def total(features):
        bank = push(empty_bank(4, 2), features, jnp.arange(2), jnp.ones(2, bool))
        return jnp.sum(bank.features)

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 2))), 0)


def test_a_batch_larger_than_the_bank_is_refused():
    with pytest.raises(UserError, match=r"batch_size 9 is larger than objective\.bank_size 8"):
        require_room(8, 9)
    require_room(8, 8)
    require_room(0, 9)


def test_one_positive_is_cross_entropy_and_several_are_its_mean():
    random = np.random.default_rng(1)
    anchors, candidates = (normalise(jnp.asarray(random.normal(size=(n, 8)))) for n in (4, 6))
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
