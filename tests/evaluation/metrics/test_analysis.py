"""What validation rows decide, what it gives on test rows, and the pages that say so."""

import json
import re

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from beats_jax.config import EvaluationConfig
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.analysis import analyse
from beats_jax.evaluation.metrics.operating_point import OperatingPoint, choose_operating_point
from beats_jax.evaluation.metrics.result import evaluate_predictions
from beats_jax.evaluation.report import html, markdown
from beats_jax.evaluation.report.run import run_page

NAMES = ("crow", "owl|x", "<b>rain")
CONFIG = EvaluationConfig(bootstrap_resamples=200, threshold_goal="precision", threshold_wanted=0.9)


def make_rows(seed, number=300, sharpness=3.0):
    """Logits three times too sharp: labels are drawn from softmax(logits)."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(number, 3)) * 1.5
    labels = np.array([random.choice(3, p=p) for p in softmax(logits, axis=1)])
    return labels, softmax(sharpness * logits, axis=1)


@pytest.fixture(scope="module")
def analysis():
    point = choose_operating_point(*make_rows(0), NAMES, multi_label=False, config=CONFIG)
    labels, probabilities = make_rows(1)
    groups = {"kinds": {"crow": "birds", "owl|x": "birds"}}
    found = analyse(
        labels, probabilities, NAMES, np.arange(300), groups, point, multi_label=False, config=CONFIG, seed=0
    )  # fmt: skip
    return found, labels, probabilities


def test_validation_finds_the_temperature_and_test_rows_gain_by_it(analysis):
    found, _, _ = analysis
    assert found.point.temperature == pytest.approx(3.0, rel=0.2)
    assert found.calibrated.nll < found.plain.nll
    assert found.calibrated.ece < found.plain.ece / 2
    flat = found.flat()
    assert set(flat) == {"ece", "nll", "brier", "ece_calibrated", "nll_calibrated", "brier_calibrated", "temperature"}
    assert flat["ece"] == found.plain.ece


def test_thresholds_of_validation_are_applied_to_test_rows(analysis):
    found, labels, probabilities = analysis
    validation_labels, scores = make_rows(0)
    for column, (limit, here) in enumerate(zip(found.point.thresholds, found.thresholds, strict=True)):
        chosen = scores[:, column] >= limit
        assert np.mean(validation_labels[chosen] == column) >= 0.9
        given = probabilities[:, column] >= limit
        assert here.found == given.sum()
        assert here.precision == pytest.approx(np.mean(labels[given] == column))


def test_the_operating_point_survives_json_and_belongs_to_its_classes(analysis):
    point = analysis[0].point
    settings = json.loads(json.dumps(point.to_mapping()))
    assert OperatingPoint.from_mapping(settings, NAMES) == point
    with pytest.raises(UserError, match="of other classes than the model, or damaged"):
        OperatingPoint.from_mapping(settings, ("a", "b", "c"))
    damages = (
        *({"temperature": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": "1"}, {"n": 1.5}, {"n": 0}),
        *({"thresholds": [0.5]}, {"thresholds": [7.0] * len(NAMES)}, {"thresholds": ["a"] * len(NAMES)}, {"thresholds": None}),
        *({"reasons": []}, {"reasons": [1] * len(NAMES)}, {"goal": "f2"}, {"goal": None}, {"at_limit": 0}, {"wanted": "x"}),
    )
    for damage in damages:
        with pytest.raises(UserError, match=r"the operating point is .*damaged.*train the run again"):
            OperatingPoint.from_mapping({**settings, **damage}, NAMES)
    with pytest.raises(UserError, match="the operating point is damaged"):
        OperatingPoint.from_mapping({"goal": "f1"}, NAMES)


def arguments(analysis):
    found, labels, probabilities = analysis
    result = evaluate_predictions(labels, probabilities, NAMES, None, False, CONFIG, 0)
    both = {f"{way}_{name}{end}": 0.5 for way in ("last_epoch", "selected") for name in ("accuracy", "f1_macro", "mAP", "auroc")
            for end in ("", "_low", "_high")}  # fmt: skip
    metrics = {"last_epoch_step": 30, "selected_step": 20, **both}
    common = {"history": [], "errors": [("a.wav", "torn")], "command": "train", "versions": {"jax": "0.10"}}
    return {"title": "a | <run>", "result": result, "analysis": found, "metrics": metrics, **common}


def test_the_page_has_sections_for_all_of_it(analysis):
    page = html.render(run_page(**arguments(analysis)))
    for heading in ("Which weights", "Groups of classes: kinds", "Calibration", "Thresholds"):
        assert f"<h2>{heading}</h2>" in page
    assert "a precision of 0.9 on 300 validation rows" in page
    assert f"temperature {analysis[0].point.temperature:.2f}" in page
    assert "<b>rain" not in page


def test_markdown_holds_the_same_numbers_and_no_markup_from_outside(analysis):
    given = arguments(analysis)
    page = markdown.render(run_page(**given, settings={"name": "a\n```<b>"}))
    accuracy = given["result"].metrics["accuracy"]
    assert f"| accuracy | {accuracy.value:.3f} | [{accuracy.low:.3f}, {accuracy.high:.3f}] |" in page
    assert "# a \\| &lt;run>" in page
    assert "owl\\|x" in page
    outside = "".join(re.split("^```$", page, flags=re.MULTILINE)[::2])
    assert "<b>" not in outside
    assert "name: a ```<b>" in page
    for heading in ("Which weights", "Groups of classes: kinds", "Calibration", "Confusions", "Bad files"):
        assert f"## {heading}" in page
    lines = page.splitlines()
    header = next(i for i, row in enumerate(lines) if row.startswith("| class | n |"))
    assert {row.replace("\\|", "").count("|") for row in lines[header : header + 5]} == {9}


def test_two_classes_have_figures_at_the_threshold_in_metrics_json():
    """By scikit-learn; the threshold is that of validation, and the interval holds the figure."""
    random = np.random.default_rng(3)
    labels = random.integers(2, size=400)
    scores = 1 / (1 + np.exp(-2 * (2 * labels - 1) + 2 * random.normal(size=400)))
    probabilities, names = np.stack([1 - scores, scores], axis=1), ("noise", "whale")
    rules = {"multi_label": False, "config": EvaluationConfig(bootstrap_resamples=200)}
    point = choose_operating_point(labels[:200], probabilities[:200], names, **rules)
    flat = analyse(labels[200:], probabilities[200:], names, np.arange(200), {}, point, seed=0, **rules).flat()
    assert flat["threshold:whale"] == point.thresholds[1]
    assert flat["f1:whale"] == pytest.approx(f1_score(labels[200:], scores[200:] >= point.thresholds[1]))
    assert flat["f1:whale_low"] < flat["f1:whale"] < flat["f1:whale_high"]
    assert {f"{name}:{kind}" for name in ("threshold", "f1", "precision", "recall") for kind in names} <= flat.keys()
