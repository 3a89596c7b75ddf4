"""`evaluate --audit` on two runs with planted wrong labels and a louder class."""

import csv
import json

import numpy as np
import pytest
import soundfile

from beats_jax.config import experiment_from_mapping, to_mapping
from beats_jax.evaluate import main
from beats_jax.evaluation.predictions import build_predictions, write_predictions
from beats_jax.files import write_text
from beats_jax.pipelines.measuring.confounds import BANDS, confound_probabilities, features_of
from beats_jax.pipelines.reviewing.candidates import open_candidates

RATE, CLIPS, WRONG = 2000, 40, (3, 10)


@pytest.fixture
def runs(tmp_path):
    random = np.random.default_rng(0)
    truth = np.arange(CLIPS) % 2
    labels = truth.copy()
    labels[list(WRONG)] = 1 - truth[list(WRONG)]
    files = []
    for i in range(CLIPS):
        files.append(str(tmp_path / f"{i:02}.wav"))
        soundfile.write(files[-1], (0.01 + 0.2 * truth[i]) * random.uniform(-1, 1, RATE), RATE)
    experiment = experiment_from_mapping(
        {"audio": {"filterbank": {"sample_rate": RATE}}, "evaluation": {"bootstrap_resamples": 50}}
    )
    places = []
    for number in (1, 2):
        places.append(tmp_path / f"run_{number}")
        places[-1].mkdir()
        p = np.clip(0.1 + 0.8 * truth + random.uniform(-0.08, 0.08, CLIPS), 0, 1)
        names = [[("noise", "whale")[label]] for label in labels]
        bounds = np.zeros(CLIPS), np.full(CLIPS, np.nan)
        table = build_predictions(
            files, *bounds, names, np.stack([1 - p, p], axis=1), ("noise", "whale"), multi_label=False, threshold=0.5
        )
        write_predictions(places[-1] / "predictions.csv", table)
        write_text(places[-1] / "experiment.json", json.dumps(to_mapping(experiment)))
    return places


def test_planted_errors_come_first_in_a_table_that_review_opens(runs, tmp_path, capsys):
    output = tmp_path / "audit"
    assert main(["--audit", *map(str, runs), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert f"2 of {CLIPS} labels are suspect" in said
    assert "upper bound" in said
    assert "a confound" in said
    with (output / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["file"][-6:-4]) for row in rows} == set(WRONG)
    assert all(row["label"] != row["given_label"] and float(row["end"]) == 1.0 for row in rows)
    candidates = open_candidates(output / "suspects.csv")
    assert len(candidates) == 2
    assert candidates.recording(0).is_file()
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(1 - 2 / CLIPS)
    assert metrics["accuracy_without_suspects"] == 1.0
    assert metrics["auroc_level_and_background"] > 0.9
    assert metrics["suspects:noise"] + metrics["suspects:whale"] == metrics["suspects"] == 2
    assert "<audio" in (output / "report.html").read_text()


def test_other_arguments_and_other_rows_are_refused(runs, tmp_path, capsys):
    assert main(["--audit", str(runs[0]), "--data", str(tmp_path), "--output", str(tmp_path / "a")]) == 2
    assert "belong to --run" in capsys.readouterr().err
    lines = (runs[1] / "predictions.csv").read_text().splitlines()
    (runs[1] / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert main(["--audit", *map(str, runs), "--output", str(tmp_path / "b")]) == 2
    assert "other rows" in capsys.readouterr().err


def test_features_are_level_and_quiet_bands():
    """A tone in the middle tenth of a clip moves the level and not the background."""
    noise = np.random.default_rng(0).normal(size=4000) * 0.01
    loud = noise.copy()
    loud[1800:2200] += np.sin(2 * np.pi * 0.1 * np.arange(400))
    plain, called = features_of(noise), features_of(loud)
    assert plain.shape == (2 + BANDS,)
    assert plain[0] == pytest.approx(10 * np.log10(np.mean(noise**2)), abs=1e-3)
    assert (called - plain)[0] > 10
    assert np.abs((called - plain)[2:]).max() < 2


@pytest.mark.parametrize(
    ("recordings", "measured"),
    [
        (np.arange(40), True),
        (np.arange(40) % 3, True),  # three long recordings with both classes: three folds
        (np.arange(40) // 10, True),  # two recordings a class: two folds
        (np.arange(40) // 20, False),  # each class in one recording of its own
        (np.zeros(40), False),
    ],
)
def test_what_tells_the_classes_apart_is_asked_only_of_other_recordings(recordings, measured):
    labels = np.repeat([0, 1], 20)
    features = np.random.default_rng(0).normal(size=(40, 3)) + 9.0 * labels[:, None]
    found = confound_probabilities(features, labels, recordings.tolist())
    assert (found is not None) is measured
    if found is not None:
        np.testing.assert_array_equal(found.argmax(axis=1), labels)
