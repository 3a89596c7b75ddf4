"""The probe that `evaluate --probe` saves: it predicts as another library does, by every door, and only on its own encoder."""

import shutil

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from tiny_beats import TINY_BEATS

from beats_jax.audio.io import read, write_wav
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.evaluate import main as evaluate
from beats_jax.evaluation.probes.fitted import fit_probe, probe_answer
from beats_jax.inference.model import Model
from beats_jax.pipelines.detecting.detector import open_detector
from beats_jax.pipelines.probing.saved import HEAD_FILE, ProbedModel, load, read_head
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle

RATE = 16_000
PITCHES = {"high": 4000.0, "low": 500.0, "middle": 1500.0}


def _sample(multi_label=False):
    draw = np.random.default_rng(3)
    classes = np.arange(60) % 3
    vectors = draw.normal(0, 1, (60, 8)).astype(np.float32) * draw.uniform(0.1, 30, 8).astype(np.float32)
    vectors += 2 * np.eye(3, 8, dtype=np.float32)[classes] * vectors.std(axis=0) + 5
    targets = np.eye(3, dtype=np.float32)[classes]
    if multi_label:
        targets[::4, 0] = 1
    return vectors, targets, (vectors - vectors.mean(axis=0, dtype=np.float64)) / vectors.std(axis=0, dtype=np.float64)


def _answer(kind, setting, vectors, targets, multi_label=False):
    arrays = fit_probe(kind, setting, vectors, targets, multi_label)
    return np.asarray(probe_answer(kind, setting, arrays, vectors, multi_label=multi_label))


def test_ridge_is_that_of_scikit_learn():
    vectors, targets, standardised = _sample()
    theirs = Ridge(alpha=10.0).fit(standardised, targets).predict(standardised)
    np.testing.assert_allclose(_answer("ridge", 10.0, vectors, targets), 4 * theirs - 2, atol=1e-5)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_logistic_is_that_of_scikit_learn(strength):
    vectors, targets, standardised = _sample()
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=2000).fit(standardised, targets.argmax(axis=1))
    ours = _answer("logistic", strength, vectors, targets)
    logits = standardised @ theirs.coef_.T + theirs.intercept_
    np.testing.assert_allclose(ours - ours.mean(axis=1, keepdims=True), logits - logits.mean(axis=1, keepdims=True), atol=2e-4)
    probabilities = np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(standardised), atol=1e-5)


def test_logistic_of_several_labels_is_one_problem_a_class():
    vectors, targets, standardised = _sample(multi_label=True)
    ours = _answer("logistic", 0.1, vectors, targets, multi_label=True)
    for place in range(3):
        theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=2000).fit(standardised, targets[:, place])
        np.testing.assert_allclose(ours[:, place], standardised @ theirs.coef_[0] + theirs.intercept_[0], atol=2e-4)


def test_neighbours_and_prototypes_are_those_of_others():
    vectors, targets, standardised = _sample()
    classes = targets.argmax(axis=1)
    votes = KNeighborsClassifier(7, metric="cosine").fit(standardised, classes).predict_proba(standardised)
    ours = _answer("knn", 7, vectors, targets)
    np.testing.assert_allclose(np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True), votes, atol=1e-3)  # the tie break
    means = np.stack([standardised[classes == place].mean(axis=0) for place in range(3)])
    cosine = standardised @ means.T / np.linalg.norm(standardised, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(_answer("prototype", "cosine", vectors, targets), 10 * cosine, atol=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    draw = np.random.default_rng(0)
    for label, pitch in PITCHES.items():
        (root / "sounds" / label).mkdir(parents=True)
        for k in range(6):
            time = np.arange(int(RATE * draw.uniform(0.4, 0.6))) / RATE
            wave = 0.2 * np.sin(2 * np.pi * pitch * draw.uniform(0.97, 1.03) * time) + 0.05 * draw.standard_normal(len(time))
            write_wav(root / "sounds" / label / f"{k}.wav", wave.astype(np.float32), RATE)
    for name in ("encoder", "other"):
        params = {path: draw.normal(0, 0.1, shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
        Model(Bundle(unflatten_dict(params, sep="/"), TINY_BEATS, AudioConfig(), (), False, "test")).save(root / name)
    return root


@pytest.fixture(scope="module", params=["ridge", pytest.param("attentive", marks=pytest.mark.slow)])
def probe(place, request):
    arguments = ["--probe", str(place / "encoder"), "--data", str(place / "sounds"), "--cache", str(place / "cache")]
    output = place / request.param
    assert evaluate([*arguments, "--folds", "3", "--probe-kinds", request.param, "--output", str(output)]) == 0
    return output


@pytest.mark.slow
def test_every_door_gives_the_same_scores(place, probe):
    model = load(probe)
    assert isinstance(model, ProbedModel)
    assert (model.labels, model.head.kind) == (("high", "low", "middle"), probe.name)
    files = sorted((place / "sounds").rglob("*.wav"))
    table = model.predict_files(files)
    waves = [read(file, sample_rate=RATE) for file in files]
    # Embeddings of random weights hardly differ: their deviation divides the rounding that the padding of a batch changes
    np.testing.assert_allclose(table[list(model.labels)].to_numpy(), np.asarray(model.predict(waves)), atol=1e-3)
    detector = open_detector(str(probe / "probe"), dtype="float32", window=None, hop=None)
    assert detector.labels == model.labels
    assert set(detector.thresholds) == set(model.labels)  # of the rows that did not train
    values = detector.program(detector.program.params, model._sound(waves, None, None))
    np.testing.assert_allclose(detector.scores(values["logits"]), np.asarray(model.predict(waves)), atol=1e-5)
    assert detector.program.identity()["head_sha256"]


def test_the_head_on_disk_is_the_formula(place, probe):
    head, model = read_head(probe / "probe"), load(probe)
    files = sorted((place / "sounds").rglob("*.wav"))
    waves = [read(file, sample_rate=RATE) for file in files]
    logits = np.asarray(model.logits(waves))
    if head.kind == "ridge":
        encoder = load(place / "encoder")
        vectors = np.asarray(encoder.embed(waves, pooling=head.pooling, layer=head.layer), np.float64)
        arrays = {name: array.astype(np.float64) for name, array in head.arrays.items()}
        expected = ((vectors - arrays["mean"]) * arrays["scale"]) @ arrays["kernel"] + arrays["bias"]
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    truth = [file.parent.name for file in files]
    assert np.mean([model.labels[place] == label for place, label in zip(logits.argmax(axis=1), truth, strict=True)]) > 0.8


def test_another_encoder_and_a_damaged_head_are_refused(place, probe, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(probe, moved)
    kept = place / "kept"
    shutil.move(place / "encoder", kept)
    try:
        shutil.copytree(place / "other", place / "encoder")
        with pytest.raises(UserError, match=r"weights were others; give evaluate --probe again") as refusal:
            load(moved)
        assert "\n" not in str(refusal.value)
    finally:
        shutil.rmtree(place / "encoder")
        shutil.move(kept, place / "encoder")
    file = moved / "probe" / HEAD_FILE
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load(moved)


def test_a_mask_in_place_of_lengths_is_refused(probe):
    with pytest.raises(UserError, match="give lengths"):
        load(probe).predict(np.zeros((1, RATE), np.float32), padding_mask=np.zeros((1, RATE), bool))
