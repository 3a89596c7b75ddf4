"""Rounds, the sweep and the choice, against a loop written out with scikit-learn."""

from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beats_jax.errors import UserError
from beats_jax.evaluation.probes import sweep as sweeps
from beats_jax.evaluation.probes.kinds import KINDS, find_kind, usable_settings
from beats_jax.evaluation.probes.nested import averages, best, best_of
from beats_jax.evaluation.probes.rounds import pair_rounds, single_rounds

CLASSES, FOLDS = 3, np.array([0] * 8 + [1] * 7 + [2] * 9 + [3] * 6 + [-1] * 2)
DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, CLASSES, len(FOLDS))
EMBEDDINGS = np.stack(
    [(size * DRAW.standard_normal((CLASSES, 6))[LABELS] + DRAW.standard_normal((len(FOLDS), 6))) for size in (0.2, 1.0)]
).astype(np.float32)
TARGETS = np.eye(CLASSES, dtype=np.float32)[LABELS]
SETTINGS = (0.01, 1.0)


@cache
def fitted(embedding, setting, rows):
    """scikit-learn's pipeline on the rows with these numbers."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=setting, tol=1e-8, max_iter=10_000))
    return model.fit(EMBEDDINGS[embedding][list(rows)].astype(float), LABELS[list(rows)])


def by_hand(embedding, setting, training, held):
    """Accuracy and loss of scikit-learn's pipeline, and the share of answers that are nearly ties."""
    model = fitted(embedding, setting, tuple(np.flatnonzero(training)))
    found = model.predict_proba(EMBEDDINGS[embedding][held].astype(float))
    loss = -np.mean(np.log(found[np.arange(held.sum()), LABELS[held]]))
    ordered = np.sort(found, axis=1)
    return np.mean(found.argmax(1) == LABELS[held]), loss, np.mean(ordered[:, -1] - ordered[:, -2] < 0.01)


def test_rounds_hold_out_what_they_say():
    for rounds, number in ((single_rounds(FOLDS), 4), (pair_rounds(FOLDS), 6)):
        assert len(rounds.train) == number
        for train, weights, held, part, folds in zip(*rounds, strict=True):
            out = np.isin(FOLDS, folds)
            assert sorted(train[weights > 0]) == list(np.flatnonzero((FOLDS >= 0) & ~out))
            assert sorted(held[part >= 0]) == list(np.flatnonzero(out))
            np.testing.assert_array_equal(folds[part[part >= 0]], FOLDS[held[part >= 0]])
    with pytest.raises(UserError, match="at least 3"):
        pair_rounds(np.array([0, 1, 1]))
    with pytest.raises(UserError, match="fold 2 of 3 has no example"):
        single_rounds(np.array([0, 2, 2]))


@pytest.mark.slow
@pytest.mark.parametrize("elements", [1, 2**20])
def test_a_sweep_is_the_loop(monkeypatch, elements):
    """Every score of every round; one at a time, and many at once."""
    monkeypatch.setattr(sweeps, "_ELEMENTS_AT_A_TIME", elements)
    rounds = pair_rounds(FOLDS)
    scores = sweeps.sweep(EMBEDDINGS, TARGETS, rounds, "logistic", SETTINGS, False)
    for j in range(2):
        for r, setting in enumerate(SETTINGS):
            for s, (first, second) in enumerate(rounds.folds):
                training = (FOLDS >= 0) & (FOLDS != first) & (FOLDS != second)
                for p, fold in enumerate((first, second)):
                    accuracy, loss, ties = by_hand(j, setting, training, fold == FOLDS)
                    assert scores.score[j, r, s, p] == pytest.approx(accuracy, abs=ties + 1e-6)
                    assert scores.loss[j, r, s, p] == pytest.approx(loss, abs=5e-3)
                    assert rounds.number[s, p] == (fold == FOLDS).sum()


def test_the_choice_for_a_test_fold_never_looks_at_it():
    rounds = pair_rounds(FOLDS)
    plain = sweeps.sweep(EMBEDDINGS, TARGETS, rounds, "logistic", SETTINGS, False)
    spoilt = EMBEDDINGS.copy()
    spoilt[:, FOLDS == 2] = 1e6 * DRAW.standard_normal((2, 9, 6))
    others = np.where((FOLDS == 2)[:, None], np.roll(TARGETS, 1, axis=1), TARGETS)
    changed = sweeps.sweep(spoilt, others, rounds, "logistic", SETTINGS, False)
    before, after = (averages(scores, rounds, test_fold=2) for scores in (plain, changed))
    np.testing.assert_array_equal(before.score, after.score)
    assert not np.array_equal(averages(plain, rounds, 1).score, averages(changed, rounds, 1).score)
    expected, ties = np.zeros((2, 2)), np.zeros((2, 2))
    for fold in (0, 1, 3):
        training, share = (FOLDS >= 0) & (FOLDS != 2) & (FOLDS != fold), (fold == FOLDS).sum() / 21
        found = np.array([[by_hand(j, setting, training, fold == FOLDS) for setting in SETTINGS] for j in range(2)])
        expected, ties = expected + share * found[:, :, 0], ties + share * found[:, :, 2]
    assert (np.abs(before.score - expected) <= ties + 1e-6).all()


def test_equal_scores_go_by_loss_then_the_simpler_setting():
    class Means:
        score = np.array([[0.5, 0.9], [0.9, 0.9]])
        loss = np.array([[0.1, 0.7], [0.4, 0.4]])

    assert best("logistic", Means)[1:3] == (1, 0)
    choices = {name: best(name, Means) for name in ("ridge", "logistic")}
    assert best_of(choices).kind == "ridge"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in KINDS if KINDS[name].multi_label])
def test_several_labels(kind):
    """mAP of each round's answers, measured again by scikit-learn."""
    targets = (DRAW.random((len(FOLDS), 2)) < 0.4).astype(np.float32)
    targets[FOLDS == 0, 1] = 0  # a class without examples does not count
    rounds = single_rounds(FOLDS)
    settings = usable_settings(kind, 20)[-2:]
    found = sweeps.sweep(EMBEDDINGS, targets, rounds, kind, settings, True)
    for s in range(4):
        answer = sweeps.refit(
            EMBEDDINGS[1], targets, rounds.train[s], rounds.weights[s], rounds.held[s], kind=kind, settings=settings,
            multi_label=True,
        )  # fmt: skip
        rows = rounds.part[s] >= 0
        truth, scores = targets[rounds.held[s][rows]], np.asarray(answer)[:, rows]
        assert np.isfinite(scores).all()
        for r in range(2):
            if len(np.unique(scores[r])) < scores[r].size:  # scikit-learn takes equal scores together
                continue
            precision = [average_precision_score(truth[:, k], scores[r, :, k]) for k in range(2) if truth[:, k].any()]
            assert found.score[1, r, s, 0] == pytest.approx(np.mean(precision), abs=1e-5)


def test_kinds_by_name():
    with pytest.raises(UserError, match="did you mean 'logistic'"):
        find_kind("logistics")
    assert usable_settings("knn", 12) == (5, 3, 1)
    assert usable_settings("knn", 1) == (1,)
    assert usable_settings("ridge", 1) == KINDS["ridge"].settings
