"""Groups of classes: sums of the confusion of classes, scikit-learn on group labels, and mappings that do not fit."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.class_groups import (
    NATURE_GROUPS,
    SUPER_CATEGORIES,
    evaluate_class_groups,
    group_members,
    mapping_of,
)

NAMES = ["crow", "dog", "hen", "rain", "siren"]
GROUPS = {"hen": "birds", "crow": "birds", "dog": "mammals", "rain": "water"}


def make_case(num_examples=120):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, num_examples)
    return labels, rng.dirichlet(np.ones(5), num_examples) * 0.6 + 0.4 * np.eye(5)[labels] * (rng.random((num_examples, 1)) < 0.6)


def evaluate(labels, probabilities, recordings=None, **settings):
    settings = {"multi_label": False, "resamples": 200, **settings}
    return evaluate_class_groups(labels, probabilities, NAMES, GROUPS, recordings, **settings)


def test_equals_scikit_learn_on_group_labels():
    labels, probabilities = make_case()
    found = evaluate(labels, probabilities)
    place = np.array([0, 1, 0, 2, 3])  # birds, mammals, water, other
    truth, predicted = place[labels], place[probabilities.argmax(axis=1)]
    assert [group.name for group in found.groups] == ["birds", "mammals", "water", "other"]
    np.testing.assert_array_equal(found.confusion, oracle.confusion_matrix(truth, predicted))
    precision, recall, f1, n = oracle.precision_recall_fscore_support(truth, predicted)
    for k, group in enumerate(found.groups):
        values = (group.precision.value, group.recall.value, group.f1.value, group.n)
        assert values == pytest.approx((precision[k], recall[k], f1[k], n[k]), abs=1e-9)
        inside = truth == k
        assert group.accuracy.value == pytest.approx((probabilities.argmax(axis=1) == labels)[inside].mean())
        assert group.predicted == (predicted == k).sum()
        scores = probabilities[:, place == k].sum(axis=1)
        assert group.auroc.value == pytest.approx(oracle.roc_auc_score(inside, scores), abs=1e-9)
        for estimate in (group.accuracy, group.precision, group.recall, group.f1):
            assert estimate.low <= estimate.value <= estimate.high
    assert found.metrics["accuracy"].value == pytest.approx((truth == predicted).mean())
    assert found.metrics["f1_macro"].value == pytest.approx(f1.mean(), abs=1e-9)


def test_group_of_one_class_has_the_numbers_of_the_class():
    labels, probabilities = make_case()
    dog = evaluate(labels, probabilities).groups[1]
    assert dog.classes == ("dog",)
    assert dog.accuracy == dog.recall


def test_interval_of_recall_is_the_binomial_one():
    labels = np.zeros(300, int)
    probabilities = np.eye(5)[np.where(np.arange(300) < 240, 2, 1)]  # hens for crows: the right group, the wrong class
    birds = evaluate(labels, probabilities, resamples=4000).groups[0]
    error = 1.96 * np.sqrt(0.8 * 0.2 / 300)
    assert (birds.recall.low, birds.recall.high) == pytest.approx((0.8 - error, 0.8 + error), abs=0.006)
    assert (birds.accuracy.value, birds.accuracy.low, birds.accuracy.high) == (0, 0, 0)


def test_multi_label_examples_belong_to_several_groups():
    marks = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]])
    probabilities = np.array([[0.9, 0.1, 0.1, 0.1, 0.1], [0.9, 0.1, 0.1, 0.9, 0.1], [0.1, 0.1, 0.1, 0.1, 0.1]])
    found = evaluate(marks, probabilities, multi_label=True)
    birds, mammals, water, other = found.groups
    assert (birds.n, birds.predicted, birds.recall.value, birds.accuracy.value) == (2, 2, 1.0, 0.5)
    assert (mammals.recall.value, mammals.accuracy.value, mammals.precision.value) == (0.0, 0.0, None)
    assert (water.f1.value, other.n, other.recall.value) == (1.0, 0, None)
    np.testing.assert_array_equal(found.confusion[0], [[1, 0], [0, 2]])


def test_nothing_one_recording_and_one_class():
    labels, probabilities = make_case(20)
    empty = evaluate(labels[:0], probabilities[:0])
    assert empty.metrics["accuracy"].value is None
    assert empty.confusion.sum() == 0
    alone = evaluate(labels, probabilities, recordings=["a"] * 20)
    assert alone.metrics["accuracy"].low is None
    only = evaluate(np.zeros(20, int), probabilities)
    assert only.groups[1].recall.value is None


def test_mappings_of_esc50():
    assert len(SUPER_CATEGORIES) == 50
    assert [list(SUPER_CATEGORIES.values()).count(group) for group in dict.fromkeys(SUPER_CATEGORIES.values())] == [10] * 5
    assert set(NATURE_GROUPS) <= set(SUPER_CATEGORIES)
    assert list(dict.fromkeys(NATURE_GROUPS.values())) == ["birds", "water", "wind", "mammals"]
    few = ["chainsaw", "clock_tick", "dog", "rain"]
    assert mapping_of(few, SUPER_CATEGORIES)["dog"] == "animals"
    assert group_members(few, mapping_of(few, NATURE_GROUPS))["other"] == ("chainsaw", "clock_tick")


def test_super_categories_are_those_of_the_targets(real_recordings):
    import csv

    table = (real_recordings / "esc10" / "meta" / "esc50.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert rows
    order = list(dict.fromkeys(SUPER_CATEGORIES.values()))
    for row in rows:
        assert order.index(SUPER_CATEGORIES[row["category"]]) == int(row["target"]) // 10


def test_refuses_mappings_that_do_not_fit():
    with pytest.raises(UserError, match=r"'Crow', which is no class; did you mean 'crow'"):
        group_members(NAMES, {"Crow": "birds"})
    with pytest.raises(UserError, match="rename it"):
        group_members(NAMES, {"crow": "other"})
    with pytest.raises(UserError, match="none of the classes"):
        mapping_of(["robin"], GROUPS)
    with pytest.raises(ValueError, match="5 class names"):
        evaluate(np.zeros(2, int), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 labels"):
        evaluate(np.zeros(2, int), np.zeros((3, 5)))
