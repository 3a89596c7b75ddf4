"""The figures are valid pictures that show what they were given, repeat bit for bit and leave matplotlib's settings alone."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from beats_jax.config.schema import EvaluationConfig
from beats_jax.evaluation.metrics.result import evaluate_predictions
from beats_jax.evaluation.report.figures import curves, sound
from beats_jax.evaluation.report.figures import metrics as figures
from beats_jax.evaluation.report.figures.canvas import GREEN

HISTORY = [
    {"step": 20, "val/accuracy": 0.5, "val/loss": 1.0},
    {"step": 10, "train/loss": 2.0},
    {"step": 20, "train/loss": 1.5},
    {"step": 40, "val/accuracy": 0.75, "val/loss": None},
]
NAMES = ("crow", "日本 <owl> & $x$", "a name that is far too long for any axis")


def decode(uri, mime):
    head, body = uri.split(",", 1)
    assert head == f"data:{mime};base64"
    return base64.b64decode(body)


def learning_curves(history):
    return curves.curve_panels(curves.learning_panels(history))


def svg_texts(uri):
    root = ElementTree.fromstring(decode(uri, "image/svg+xml"))
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def make_result(num_classes=3, names=NAMES):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, 30)
    probabilities = rng.dirichlet(np.ones(num_classes), 30)
    return evaluate_predictions(labels, probabilities, names, None, False, EvaluationConfig(bootstrap_resamples=20), 0)


def test_history_is_sorted_and_gaps_are_passed_over():
    steps, values = curves.history_series(HISTORY, "train/loss")
    assert (steps.tolist(), values.tolist()) == ([10, 20], [2.0, 1.5])
    steps, values = curves.history_series(HISTORY, "val/loss")
    assert (steps.tolist(), values.tolist()) == ([20], [1.0])


def test_learning_curves_show_what_there_is():
    texts = svg_texts(learning_curves(HISTORY))
    assert {"Loss", "training", "validation", "Validation metrics", "accuracy", "step"} <= set(texts)
    assert "mAP" not in texts
    assert "Validation metrics" not in svg_texts(learning_curves(HISTORY[1:3]))
    assert curves.learning_panels([]) == []
    assert curves.learning_panels([{"step": 1, "learning_rate": 0.1}]) == []


def test_confusion_shows_counts_and_shares():
    texts = svg_texts(figures.confusion_pictures(np.array([[3, 1], [0, 7]]), ["crow", "owl"]))
    assert {"3", "1", "7", "0.75", "0.25", "1.00", "crow", "owl", "true", "predicted"} <= set(texts)


def test_many_classes_are_labelled_without_numbers():
    names = [f"class {i}" for i in range(50)]
    texts = svg_texts(figures.confusion_pictures(np.eye(50, dtype=int) * 137, names))
    assert all(texts.count(name) == 4 for name in names)
    assert "137" not in texts


def test_class_bars_carry_names_and_counts():
    result = make_result()
    texts = svg_texts(figures.class_bars(result.classes))
    assert [text for text in texts if text.startswith("crow")] == [f"crow  ({result.classes[0].n})"]
    assert any(text.startswith("日本 <owl> & $x$") for text in texts)
    assert not any("far too long for any" in text for text in texts)


def test_class_bars_without_intervals_or_numbers():
    empty = evaluate_predictions(np.zeros(0, int), np.zeros((0, 3)), NAMES, None, False, EvaluationConfig(), 0)
    svg_texts(figures.class_bars(empty.classes))


def test_class_balance_shows_totals():
    texts = svg_texts(figures.class_balance({"train": {"crow": 5, "owl": 2}, "test": {"owl": 9}}))
    assert {"crow", "owl", "5", "11", "train", "test"} <= set(texts)


@pytest.mark.parametrize("num_samples", [0, 100, 8000, 160_000])
def test_spectrogram_of_any_length(num_samples):
    picture = Image.open(io.BytesIO(decode(sound.spectrogram(np.zeros(num_samples, np.float32), 16_000), "image/png")))
    assert picture.size == (345, 182)


def test_spectrogram_puts_a_high_tone_above_a_low_one():
    seconds = np.arange(32_000) / 16_000

    def brightest_row(hz):
        picture = Image.open(io.BytesIO(decode(sound.spectrogram(np.sin(2 * np.pi * hz * seconds), 16_000), "image/png")))
        column = np.asarray(picture.convert("RGB"), int)[:, 250]
        orange = np.where(column.sum(axis=1) < 740, column[:, 0], 0)  # brightest of the map, not the white margin
        return int(orange.argmax())

    assert brightest_row(4000) < brightest_row(500) - 40


def test_same_figure_same_bytes():
    counts = make_result().confusion
    assert figures.confusion_pictures(counts, NAMES) == figures.confusion_pictures(counts, NAMES)
    assert learning_curves(HISTORY) == learning_curves(HISTORY)


def test_global_settings_of_matplotlib_stay():
    before = dict(matplotlib.rcParams)
    learning_curves(HISTORY)
    assert dict(matplotlib.rcParams) == before


def test_a_flat_curve_stays_below_the_upper_edge():
    """matplotlib's own margin is a share of the data's range, which is next to nothing here, while the axis starts at 0."""
    root = ElementTree.fromstring(
        decode(curves.curve_panels([curves.Panel("Loss", [("a", np.arange(50), np.full(50, 1.6))])]), "image/svg+xml")
    )
    paths = {
        node.get("id"): node.find(".//{http://www.w3.org/2000/svg}path") for node in root.iter("{http://www.w3.org/2000/svg}g")
    }
    background, line = paths["patch_2"].get("d"), [node for name, node in paths.items() if name and name.startswith("line2d")][-2]
    top = min(float(part) for part in background.replace("\n", " ").split()[2::3])
    assert float(line.get("d").split()[2]) > top + 5


def test_boxes_stand_where_they_belong():
    """Columns of the first colour are the sides of the box; seconds are those of the recording."""
    waveform = 0.1 * np.random.default_rng(0).standard_normal(4 * 16_000)
    boxes = np.array([[11.0, 12.0, 1000.0, 4000.0, 30.0]])

    def columns(start_seconds: float) -> np.ndarray:
        uri = sound.regions_on_spectrogram(waveform, 16_000, boxes, boxes + 0.5, start_seconds)
        pixels = np.asarray(Image.open(io.BytesIO(decode(uri, "image/png"))).convert("RGB"), int)
        green = np.array([int(GREEN[place : place + 2], 16) for place in (1, 3, 5)])
        return np.flatnonzero((np.abs(pixels - green).sum(axis=2) < 60).sum(axis=0) > 30)

    early, late = columns(10.0), columns(9.0)
    assert len(early) >= 2
    second = early.max() - early.min()  # the box lasts one
    assert late.min() - early.min() == pytest.approx(second, abs=3)
    assert len(columns(0.0)) == 0  # after the end of the picture
