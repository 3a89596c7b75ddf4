"""Nested cross-validation: no leak, the right rows, an honest figure where there is nothing to learn."""

import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.evaluation.probes.nested import TEST, EmbeddingProbe, study

DRAW = np.random.default_rng(0)
LABELS = np.arange(48) % 2
TARGETS = np.eye(2, dtype=np.float32)[LABELS]
FOLDS = np.arange(48) // 2 % 3


def probe_on(embeddings, targets=TARGETS):
    return {"ridge": EmbeddingProbe("ridge", (100.0, 1.0), embeddings, targets, False)}


def test_chance_stays_chance_however_many_candidates():
    """The best of 60 candidates looks good on the folds that chose it; nested figures stay near one half."""
    noise = DRAW.standard_normal((30, 48, 4)).astype(np.float32)
    found = study(probe_on(noise), FOLDS, 2)
    right = np.mean(found.logits.argmax(1) == LABELS)
    assert found.final.score > 0.62
    assert right < found.final.score - 0.05
    assert right < 0.65


def test_a_layer_that_tells_is_chosen_in_every_fold():
    values = DRAW.standard_normal((3, 48, 4)).astype(np.float32)
    values[1, :, 2] += 6 * LABELS
    found = study(probe_on(values), FOLDS, 2)
    assert {choice.embedding for choice in (found.final, *found.choices)} == {1}
    assert len(found.choices) == 3
    assert np.mean(found.logits.argmax(1) == LABELS) > 0.95
    assert np.isfinite(found.logits).all()


def test_a_test_split_is_used_once():
    values = DRAW.standard_normal((2, 48, 4)).astype(np.float32)
    values[1, :, 2] += 6 * LABELS
    folds = np.where(np.arange(48) < 12, TEST, FOLDS)
    found = study(probe_on(values), folds, 2)
    assert found.choices == (found.final,)
    np.testing.assert_array_equal(np.isfinite(found.logits).all(axis=1), folds == TEST)
    assert np.mean(found.logits[:12].argmax(1) == LABELS[:12]) > 0.9
    spoilt = np.where((folds == TEST)[None, :, None], 100 * DRAW.standard_normal((2, 48, 4)), values).astype(np.float32)
    again = study(probe_on(spoilt, np.where((folds == TEST)[:, None], TARGETS[:, ::-1], TARGETS)), folds, 2)
    assert again.final == found.final
    np.testing.assert_array_equal(again.kinds["ridge"].table.score, found.kinds["ridge"].table.score)


def test_too_few_folds():
    with pytest.raises(UserError, match="at least 3"):
        study(probe_on(np.zeros((1, 48, 2), np.float32)), FOLDS % 2, 2)
