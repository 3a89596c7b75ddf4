"""The evaluation result: what is in it, how it is summed up, and its degenerate cases."""

import json

import numpy as np
import pytest

from beats_jax.config.schema import EvaluationConfig
from beats_jax.evaluation.metrics.result import evaluate_predictions, summary_lines

CONFIG = EvaluationConfig(bootstrap_resamples=100)


def evaluate(labels, probabilities, groups=None, multi_label=False, config=CONFIG):
    names = [f"class {i}" for i in range(np.shape(probabilities)[1])]
    return evaluate_predictions(np.array(labels), np.array(probabilities), names, groups, multi_label, config, 0)


def test_by_hand():
    result = evaluate([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    flat = result.flat()
    assert flat["n"] == 4
    assert flat["accuracy"] == flat["f1_macro"] == flat["balanced_accuracy"] == 0.5
    assert flat["auroc"] == 0.75
    assert flat["accuracy_low"] <= 0.5 <= flat["accuracy_high"]
    assert result.confusion.tolist() == [[1, 1], [1, 1]]
    assert [(error.index, error.wrong_class, error.probability) for error in result.worst_errors] == [
        (3, "class 0", 0.7),
        (1, "class 1", 0.6),
    ]
    assert (result.classes[0].n, result.classes[0].predicted) == (2, 2)
    assert set(flat) >= {f"{name}{end}" for name in ("accuracy", "f1_macro", "mAP", "auroc") for end in ("", "_low", "_high")}


def test_multi_label_errors_count_misses_and_false_alarms():
    result = evaluate([[1, 0], [1, 0], [0, 1]], [[0.9, 0.2], [0.05, 0.1], [0.6, 0.8]], multi_label=True)
    assert [(error.index, error.wrong_class) for error in result.worst_errors] == [(1, "class 0"), (2, "class 0")]
    assert result.worst_errors[0].probability == pytest.approx(0.95)
    assert result.confusion.tolist() == [[[0, 1], [1, 1]], [[2, 0], [0, 1]]]
    assert any(line.startswith("exact match") for line in summary_lines(result))
    assert "balanced_accuracy" not in result.flat()


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups"),
    [
        (np.zeros(0, int), np.zeros((0, 3)), None),
        ([0, 0, 0], [[1.0, 0.0]] * 3, None),
        ([0], [[1.0]], None),
        ([0, 1, 1], [[0.5, 0.5]] * 3, ["one"] * 3),
    ],
)
def test_degenerate_results_hold_null_never_nan(labels, probabilities, groups):
    result = evaluate(labels, probabilities, groups)
    json.dumps(result.flat(), allow_nan=False)
    assert "nan" not in "\n".join(summary_lines(result))
    if result.num_groups < 2:
        assert all(value is None for name, value in result.flat().items() if name.endswith(("_low", "_high")))
        assert "No intervals" in summary_lines(result)[-1]


def test_an_undefined_metric_is_null_with_its_interval():
    flat = evaluate([0, 0, 0], [[1.0, 0.0]] * 3).flat()
    assert (flat["auroc"], flat["auroc_low"], flat["auroc_classes"]) == (None, None, 0)
    assert (flat["mAP"], flat["mAP_classes"]) == (1.0, 1)


def test_summary_is_aligned_and_says_n():
    rng = np.random.default_rng(0)
    lines = summary_lines(evaluate(rng.integers(0, 3, 80), rng.dirichlet(np.ones(3), 80), groups=np.arange(80) // 4))
    assert lines[0].startswith("n = 80 examples, 3 classes")
    assert len({line.index("[") for line in lines[1:-1]}) == 1
    assert lines[-1] == "Intervals: 95 %, bootstrap over 20 recordings."
    assert not any("micro" in line for line in lines)


def test_config_is_obeyed():
    marks, probabilities = [[1, 0], [0, 1]], [[0.4, 0.1], [0.2, 0.9]]
    assert evaluate(marks, probabilities, multi_label=True).flat()["accuracy"] == 0.5
    low = evaluate(marks, probabilities, multi_label=True, config=EvaluationConfig(threshold=0.3, bootstrap_resamples=0))
    assert low.flat()["accuracy"] == 1.0
    assert low.flat()["accuracy_low"] is None
    assert "switched off" in summary_lines(low)[-1]


def test_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="1 class names for 2"):
        evaluate_predictions(np.array([0]), np.array([[1.0, 0.0]]), ["a"], None, False, CONFIG, 0)
