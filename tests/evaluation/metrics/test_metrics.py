"""Every metric against scikit-learn, with ties, weights and the cases where a quotient is undefined."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from beats_jax.evaluation.metrics.classification import (
    Evaluator,
    compute_metrics,
    confusion_matrix,
    predicted_matrix,
    truth_matrix,
)
from beats_jax.evaluation.metrics.result import METRIC_TITLES

TOLERANCE = 1e-9


def make_case(name):
    """(labels, probabilities, multi_label)"""
    rng = np.random.default_rng(sum(map(ord, name)))
    if name == "plain":
        return rng.integers(0, 5, 200), rng.dirichlet(np.ones(5), 200), False
    if name == "ties":
        return rng.integers(0, 4, 150), rng.integers(0, 3, (150, 4)) / 2, False
    if name == "class_never_true":
        return rng.integers(0, 3, 90), rng.dirichlet(np.ones(5), 90), False
    if name == "class_neither_true_nor_predicted":
        probabilities = rng.dirichlet(np.ones(4), 60)
        probabilities[:, 3] = 0
        return rng.integers(0, 3, 60), probabilities, False
    if name == "one_class_only":
        return np.zeros(30, int), rng.dirichlet(np.ones(3), 30), False
    if name == "constant_scores":
        return rng.integers(0, 3, 40), np.full((40, 3), 1 / 3), False
    if name == "one_example":
        return np.array([1]), np.array([[0.2, 0.8]]), False
    if name == "multi":
        return rng.integers(0, 2, (120, 6)), rng.random((120, 6)), True
    if name == "multi_ties":
        return rng.integers(0, 2, (120, 6)), rng.integers(0, 5, (120, 6)) / 4, True
    marks = rng.integers(0, 2, (50, 4))
    marks[:, 1], marks[:, 2] = 0, 1
    return marks, rng.random((50, 4)), True


CASES = (
    "plain",
    "ties",
    "class_never_true",
    "class_neither_true_nor_predicted",
    "one_class_only",
    "constant_scores",
    "one_example",
    "multi",
    "multi_ties",
    "multi_class_without_positives_or_negatives",
)


def oracle_metrics(labels, probabilities, multi_label, weights):
    """The same names from scikit-learn; macro averages over the classes in truth or prediction with weight."""
    num_classes = probabilities.shape[1]
    if multi_label:
        truth, predicted = labels, (probabilities >= 0.5).astype(int)
        known_truth, known_predicted = truth, predicted
    else:
        known_truth, known_predicted = labels, probabilities.argmax(1)
        truth, predicted = (np.eye(num_classes, dtype=int)[known] for known in (known_truth, known_predicted))
    used = [i for i in range(num_classes) if (weights * (truth[:, i] + predicted[:, i])).sum() > 0]
    expected = {"accuracy": oracle.accuracy_score(known_truth, known_predicted, sample_weight=weights)}
    for average in ("macro", "micro"):
        values = oracle.precision_recall_fscore_support(
            known_truth,
            known_predicted,
            labels=used if average == "macro" or multi_label else None,
            average=average,
            sample_weight=weights,
            zero_division=0,
        )
        expected |= {f"{kind}_{average}": value for kind, value in zip(("precision", "recall", "f1"), values, strict=False)}
    has, lacks = truth.T @ weights > 0, (1 - truth).T @ weights > 0
    aps = [oracle.average_precision_score(truth[:, i], probabilities[:, i], sample_weight=weights) for i in np.flatnonzero(has)]
    aurocs = [oracle.roc_auc_score(truth[:, i], probabilities[:, i], sample_weight=weights) for i in np.flatnonzero(has & lacks)]
    expected |= {"mAP": np.mean(aps), "auroc": np.mean(aurocs) if aurocs else np.nan}
    if not multi_label:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it mentions classes that are predicted but never true
            expected["balanced_accuracy"] = oracle.balanced_accuracy_score(known_truth, known_predicted, sample_weight=weights)
    return expected


@pytest.mark.parametrize("weighting", ["ones", "integers", "floats"])
@pytest.mark.parametrize("name", CASES)
def test_equals_scikit_learn(name, weighting):
    labels, probabilities, multi_label = make_case(name)
    rng = np.random.default_rng(7)
    weights = {
        "ones": np.ones(len(labels)),
        "integers": rng.integers(1, 4, len(labels)),
        "floats": rng.random(len(labels)) + 0.1,
    }[weighting]
    given = None if weighting == "ones" else weights
    found = compute_metrics(labels, probabilities, multi_label=multi_label, weights=given)
    expected = oracle_metrics(labels, probabilities, multi_label, weights)
    assert set(found) == set(expected) == set(METRIC_TITLES) - ({"balanced_accuracy"} if multi_label else set())
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=TOLERANCE, nan_ok=True), metric


@pytest.mark.parametrize("name", ["plain", "ties", "multi", "multi_ties"])
def test_whole_weights_are_repetitions(name):
    labels, probabilities, multi_label = make_case(name)
    weights = np.random.default_rng(3).integers(0, 4, len(labels))
    evaluator = Evaluator(labels, probabilities, multi_label=multi_label)
    weighted = evaluator.metrics(np.stack([np.ones_like(weights), weights], axis=1))
    repeated = Evaluator(
        np.repeat(labels, weights, axis=0), np.repeat(probabilities, weights, axis=0), multi_label=multi_label
    ).metrics()
    alone = evaluator.metrics()
    for part in ("overall", "classes"):
        for metric, values in getattr(weighted, part).items():
            np.testing.assert_allclose(values[..., 1], getattr(repeated, part)[metric], atol=TOLERANCE, err_msg=metric)
            np.testing.assert_allclose(values[..., 0], getattr(alone, part)[metric], atol=TOLERANCE, err_msg=metric)


@pytest.mark.parametrize("name", CASES)
def test_classes_equal_scikit_learn(name):
    labels, probabilities, multi_label = make_case(name)
    num_classes = probabilities.shape[1]
    truth = truth_matrix(labels, num_classes, multi_label)
    predicted = predicted_matrix(probabilities, multi_label)
    classes = Evaluator(labels, probabilities, multi_label=multi_label).metrics().classes
    for i in range(num_classes):
        for kind, function in (("precision", oracle.precision_score), ("recall", oracle.recall_score), ("f1", oracle.f1_score)):
            expected = function(truth[:, i], predicted[:, i], zero_division=np.nan)
            assert classes[kind][i] == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)
        if not truth[:, i].any():
            assert np.isnan([classes["ap"][i], classes["auroc"][i]]).all()
        else:
            assert classes["ap"][i] == pytest.approx(
                oracle.average_precision_score(truth[:, i], probabilities[:, i]), abs=TOLERANCE
            )
        if truth[:, i].all():
            assert np.isnan(classes["auroc"][i])


@pytest.mark.parametrize("multi_label", [False, True])
def test_empty_set_is_undefined(multi_label):
    labels = np.zeros((0, 3) if multi_label else 0, int)
    found = compute_metrics(labels, np.zeros((0, 3)), multi_label=multi_label)
    assert np.isnan(list(found.values())).all()


def test_ties_go_to_the_lowest_class_and_threshold_is_inclusive():
    assert predicted_matrix(np.array([[0.4, 0.4, 0.2]]), False).tolist() == [[True, False, False]]
    assert predicted_matrix(np.array([[0.5, 0.49, 0.7]]), True, 0.5).tolist() == [[True, False, True]]


def test_multi_label_accuracy_is_the_exact_match():
    found = compute_metrics(np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.1], [0.9, 0.1]]), multi_label=True)
    assert found["accuracy"] == 0.5


def test_confusion_equals_scikit_learn():
    labels, probabilities, _ = make_case("plain")
    found = confusion_matrix(truth_matrix(labels, 5, False), predicted_matrix(probabilities, False), multi_label=False)
    np.testing.assert_array_equal(found, oracle.confusion_matrix(labels, probabilities.argmax(1), labels=range(5)))
    labels, probabilities, _ = make_case("multi")
    found = confusion_matrix(truth_matrix(labels, 6, True), predicted_matrix(probabilities, True), multi_label=True)
    np.testing.assert_array_equal(found, oracle.multilabel_confusion_matrix(labels, probabilities >= 0.5))


@pytest.mark.parametrize(
    ("labels", "probabilities", "multi_label", "message"),
    [
        ([0, 3], np.zeros((2, 3)), False, "0..2"),
        ([-1, 0], np.zeros((2, 3)), False, "0..2"),
        ([0], np.zeros((2, 3)), False, "1 labels"),
        ([0, 1], np.array([[0, np.nan], [0, 1]]), False, "NaN"),
        ([[0, 2]], np.zeros((1, 2)), True, "other than 0 and 1"),
        ([0, 1], np.zeros((2, 2)), True, "shape"),
        ([[0, 1]], np.zeros((1, 2)), False, "shape"),
        ([0], np.zeros(1), False, "shape"),
    ],
)
def test_refuses_what_does_not_fit(labels, probabilities, multi_label, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(np.array(labels), probabilities, multi_label=multi_label)
