"""The sentences of the report say what the numbers say."""

import numpy as np

from beats_jax.config.schema import EvaluationConfig
from beats_jax.evaluation.metrics.result import evaluate_predictions
from beats_jax.evaluation.report.findings import findings


def evaluate(labels, predicted, names, groups=None):
    probabilities = np.eye(len(names))[predicted]
    return evaluate_predictions(
        np.array(labels), probabilities, names, groups, False, EvaluationConfig(bootstrap_resamples=50), 0
    )


def sentences(result, history=(), errors=(), folds=()):
    return "\n".join(findings(result, history, errors, folds))


def test_baseline_confusion_and_small_classes():
    labels = [0] * 12 + [1] * 4
    found = sentences(evaluate(labels, [0] * 12 + [0, 0, 0, 1], ["crow", "owl", "rain"], np.arange(16) // 2), errors=[("a", "b")])
    assert "Of 16 examples from 8 recordings, a share of 0.812 was classified correctly" in found
    assert "most frequent class would give 0.750" in found
    assert "Best recognised by F1: crow 0.89 [" in found
    assert "Weakest: owl 0.40 [" in found
    assert "] (n = 4). The intervals of the best and the weakest" in found
    assert "Most frequent confusions: owl taken for crow, 3 of 4 (100% of all errors)." in found
    assert "owl has fewer than 10 examples" in found
    assert "rain has no example" in found
    assert "1 file could not be used" in found


def test_perfect_result_warns_of_the_interval():
    found = sentences(evaluate([0, 1] * 10, [0, 1] * 10, ["crow", "owl"]))
    assert "No example was misclassified." in found
    assert "understates the uncertainty" in found


def test_multi_label_counts_misses():
    marks = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    scores = np.array([[0.9, 0.1], [0.2, 0.9], [0.7, 0.3], [0.1, 0.1]])
    result = evaluate_predictions(marks, scores, ["crow", "owl"], None, True, EvaluationConfig(bootstrap_resamples=0), 0)
    assert "1 false alarm and 2 missed labels" in sentences(result)
    assert "random scores would give about 0.500" in sentences(result)


def test_history_and_folds():
    result = evaluate([0, 1], [0, 1], ["crow", "owl"])
    falling = [{"step": 1, "val/loss": 2.0}, {"step": 2, "val/loss": 1.0}]
    rising = [*falling, {"step": 3, "val/loss": 1.5}]
    assert "longer training may still help" in sentences(result, falling)
    assert "lowest at step 2 of 3" in sentences(result, rising)
    assert "overfit" in sentences(result, rising)
    folds = [{"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": None}]
    assert "Over 2 folds accuracy is 0.850 on average, standard deviation 0.071." in sentences(result, folds=folds)


def test_nothing_to_evaluate():
    empty = evaluate_predictions(np.zeros(0, int), np.zeros((0, 2)), ["a", "b"], None, False, EvaluationConfig(), 0)
    assert findings(empty, [], [], ()) == ["There was no example to evaluate."]


def test_classes_whose_intervals_lie_apart_and_pairs_that_go_both_ways_are_told():
    labels = np.repeat([0, 1, 2], 40)
    predictions = np.concatenate([np.zeros(40), np.tile([1, 2], 20), np.tile([2, 2, 1], 14)[:40]]).astype(int)
    found = sentences(evaluate(labels, predictions, ["crow", "owl", "rain"]))
    assert "lie apart" in found
    assert "owl and rain are taken for each other" in found
