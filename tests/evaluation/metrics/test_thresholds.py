"""Thresholds against scikit-learn's precision-recall curve; ties, what cannot be reached, and classes without examples."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from beats_jax.evaluation.metrics.thresholds import apply_thresholds, choose_thresholds, threshold_results


def one_class(truth, scores, goal, wanted=None):
    marks = np.array(truth)[:, None]
    return choose_thresholds(marks, np.array(scores, float)[:, None], multi_label=True, goal=goal, wanted=wanted)[0]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("goal", "wanted"), [("precision", 0.6), ("precision", 0.9), ("recall", 0.8), ("recall", 1.0), ("f1", None)]
)
def test_equals_the_best_point_of_the_curve(goal, wanted, tied):
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 2, (80, 5))
    scores = rng.random((80, 5)) + marks * 0.5
    scores = np.round(scores * 8) / 8 if tied else scores
    for i, found in enumerate(choose_thresholds(marks, scores, multi_label=True, goal=goal, wanted=wanted)):
        precision, recall = (values[:-1] for values in precision_recall_curve(marks[:, i], scores[:, i])[:2])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        reached, best = {
            "precision": (precision >= (wanted or 0), recall),
            "recall": (recall >= (wanted or 0), precision),
            "f1": (np.ones(len(f1), bool), f1),
        }[goal]
        expected = best[reached].max()
        assert {"precision": found.recall, "recall": found.precision, "f1": found.f1}[goal] == pytest.approx(expected, abs=1e-12)
        predicted = scores[:, i] >= found.threshold
        assert found.precision == pytest.approx(precision_score(marks[:, i], predicted), abs=1e-12)
        assert found.recall == pytest.approx(recall_score(marks[:, i], predicted), abs=1e-12)
        assert found.found == predicted.sum()


def test_ties_come_together():
    # alone the first 0.8 would be a precision of 1, but the three of 0.8 are one step: 2 of 3
    found = one_class([1, 1, 0, 0], [0.8, 0.8, 0.8, 0.1], "precision", 0.6)
    assert (found.threshold, found.found, found.recall) == (0.8, 3, 1.0)
    never = one_class([1, 1, 0, 0], [0.8, 0.8, 0.8, 0.1], "precision", 0.7)
    assert never.threshold is None
    assert never.why == "the highest precision is 0.667"
    assert (never.recall, never.found) == (0.0, 0)


def test_of_equals_the_highest_threshold():
    assert one_class([1, 0, 0], [0.9, 0.5, 0.4], "precision", 0.3).threshold == 0.9
    assert one_class([1, 1, 0], [0.9, 0.5, 0.4], "recall", 0.5).threshold == 0.9
    assert one_class([1, 0, 0, 1], [0.9, 0.5, 0.4, 0.3], "f1").threshold == 0.9  # both F1 are 2 / 3


def test_a_share_that_rounding_would_miss_is_reached():
    found = one_class([1] * 9 + [0], [1.0] * 10, "precision", 0.9)
    assert found.threshold == 1.0
    assert one_class([1] * 10, np.arange(10), "recall", 0.7).recall == pytest.approx(0.7)


def test_classes_without_examples_or_without_others():
    labels = np.array([0, 0, 0])
    scores = np.array([[0.9, 0.1], [0.4, 0.2], [0.7, 0.3]])
    only, absent = choose_thresholds(labels, scores, multi_label=False, goal="recall", wanted=1.0)
    assert (only.threshold, only.precision, only.recall) == (0.4, 1.0, 1.0)
    assert absent.threshold is None
    assert absent.why == "no example of the class in the validation data"
    nothing = choose_thresholds(labels[:0], scores[:0], multi_label=False, goal="f1")
    assert [found.threshold for found in nothing] == [None, None]


def test_what_they_give_on_test():
    labels = np.array([0, 1, 1, 0])
    scores = np.array([[0.6, 0.4], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8]])
    first, never = threshold_results(labels, scores, [0.5, None], multi_label=False)
    assert (first.n, first.found, first.precision, first.recall, first.f1) == (2, 2, 0.5, 0.5, 0.5)
    assert (never.n, never.found, never.precision, never.recall, never.f1) == (2, 0, None, 0.0, 0.0)
    empty, _ = threshold_results(labels[:0], scores[:0], [0.5, 0.5], multi_label=False)
    assert (empty.precision, empty.recall, empty.f1) == (None, None, None)
    assert apply_thresholds(scores, [0.5, None]).tolist() == [[True, False], [True, False], [False, False], [False, False]]


def test_a_threshold_from_float32_scores_finds_its_own_example():
    scores = np.array([[0.1], [0.7], [0.3]], np.float32)
    found = choose_thresholds(np.array([[0], [1], [1]]), scores, multi_label=True, goal="recall", wanted=1.0)[0]
    assert apply_thresholds(scores, [found.threshold]).ravel().tolist() == [False, True, True]
    assert found.found == 2


@pytest.mark.parametrize(
    ("goal", "wanted", "message"),
    [
        ("accuracy", 0.5, "known: precision"),
        ("precision", None, "wanted"),
        ("f1", 0.5, "wanted"),
        ("recall", 0.0, "above 0"),
        ("recall", 1.1, "at most at 1"),
    ],
)
def test_refuses_goals_that_make_no_sense(goal, wanted, message):
    with pytest.raises(ValueError, match=message):
        choose_thresholds(np.array([0]), np.array([[0.5, 0.5]]), multi_label=False, goal=goal, wanted=wanted)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one per class"):
        apply_thresholds(np.zeros((3, 2)), [0.5])
    with pytest.raises(ValueError, match="without NaN"):
        choose_thresholds(np.array([0]), np.array([[np.nan, 0.5]]), multi_label=False, goal="f1")
    with pytest.raises(ValueError, match="2 labels"):
        choose_thresholds(np.array([0, 1]), np.array([[0.5, 0.5]]), multi_label=False, goal="f1")
