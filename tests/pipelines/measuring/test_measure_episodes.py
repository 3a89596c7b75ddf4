"""`evaluate --episodes` and `--few-shot-detection` as a user gives them."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from beats_jax.config import AudioConfig, CNNConfig
from beats_jax.evaluate import main
from beats_jax.inference.model import Model
from beats_jax.models import registry
from beats_jax.models.fewshot.heads import FewShotHead
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.few_shot_head import SavedHead, save_head

RATE = 16_000


def tone(rng, hertz, seconds):
    time = np.arange(int(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * hertz * time + 6 * rng.random()) + 0.02 * rng.normal(size=len(time))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four classes of tones, six clips of each, and one with two; every clip is twice in the table, as two halves."""
    folder, rng, lines = tmp_path_factory.mktemp("clips"), np.random.default_rng(0), ["filename,label,start,end"]
    for name, hertz, number in (("low", 400, 6), ("mid", 900, 6), ("high", 2000, 6), ("top", 4500, 6), ("rare", 3000, 2)):
        for clip in range(number):
            file = f"{name}{clip}.wav"
            soundfile.write(folder / file, tone(rng, hertz * rng.uniform(0.95, 1.05), 0.6), RATE)
            lines += [f"{file},{name},0,0.3", f"{file},{name},0.3,0.6"]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def arguments(clips, output, *more):
    columns = ["--start-column", "start", "--end-column", "end", "--cache", str(clips / "cache")]
    sizes = ["--n-way", "3", "--n-shot", "4", "--n-query", "4", "--n-tasks", "40"]
    return ["--episodes", "filterbank", "--data", str(clips / "labels.csv"), *columns, *sizes, "--output", str(output), *more]


@pytest.mark.slow
def test_a_model_is_measured_on_recordings_apart(clips, tmp_path, capsys):
    more = ("--leave-out-small", "--method", "prototypical,logistic", "--class-draws", "3")
    assert main(arguments(clips, tmp_path / "out", *more)) == 0
    said = capsys.readouterr().out
    assert "Left out, too small for 4 support and 4 query rows: rare (4 rows)." in said
    assert "4 classes and 3 draws of 3 of them" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["accuracy"] == metrics["prototypical_accuracy"] > 0.9
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["accuracy_draws_low"] <= metrics["accuracy"]
    assert (metrics["n"], metrics["classes"], metrics["class_draws"]) == (40, 4, 3)
    with (tmp_path / "out" / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.mean([float(row["model filterbank mean and std prototypical"]) for row in rows]) == pytest.approx(
        metrics["accuracy"], abs=1e-6
    )
    assert "other classes" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covariance", "modulation"])
def test_vectors_without_weights_are_models(clips, tmp_path, name):
    given = ["--episodes", name, *arguments(clips, tmp_path / "out", "--leave-out-small", "--method", "ridge")[2:]]
    assert main(given) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["ridge_accuracy"] > 0.9
    with (tmp_path / "out" / "episodes.csv").open() as file:
        assert f"model {name} mean ridge" in next(csv.reader(file))


def test_the_same_seed_gives_the_same_episodes(clips, tmp_path):
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert main(arguments(clips, tmp_path / name, "--leave-out-small", "--method", "prototypical", "--seed", seed)) == 0
    tables = [(tmp_path / name / "episodes.csv").read_text() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"recordings of their own: rare (4 rows, 2 recordings); give n_query 0"),
        (["--n-way", "6"], "n_way is 6, and there are 5 classes"),
        (["--method", "relation"], "the method 'relation' has weights of its own, and filterbank holds none"),
        (["--method", "protypical"], "method 'protypical' is not known; did you mean 'prototypical'"),
        (["--layers", "3"], "filterbank has one vector"),
        (["--leave-out-small", "--draw-size", "2"], "--draw-size 2 is less than --n-way 3"),
        (["--n-shot", "0"], "n_shot is 0; it must be at least 1"),
        (["--multi-label"], "--multi-label belongs to --probe"),
        (["--folds", "4"], "--folds belongs to --probe"),
    ],
)
def test_what_cannot_be_done_is_refused(clips, tmp_path, capsys, more, message):
    assert main(arguments(clips, tmp_path / "out", *more)) == 2
    assert message.replace("give n_query 0", "give a smaller n_shot") in capsys.readouterr().err


def test_arguments_of_episodes_belong_to_them(tmp_path, capsys):
    assert main(["--run", "x", "--n-way", "5", "--output", str(tmp_path / "a")]) == 2
    assert "--n-way belongs to --episodes" in capsys.readouterr().err
    assert main(["--probe", "x", "--data", "y", "--n-shot", "5", "--output", str(tmp_path / "a")]) == 2
    assert "--n-shot belongs to --few-shot-detection and --episodes" in capsys.readouterr().err


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A recording of 40 s with nine calls, one of them undecided, and its table as DCASE has it."""
    folder, rng = tmp_path_factory.mktemp("night") / "set1", np.random.default_rng(1)
    folder.mkdir()
    sound, lines = 0.02 * rng.normal(size=40 * RATE), ["Audiofilename,Starttime,Endtime,Q"]
    for number in range(9):
        start, seconds = 2 + 4 * number + rng.uniform(0, 1), 0.5
        call = tone(rng, np.linspace(1500, 2500, int(seconds * RATE)), seconds)
        place = int(start * RATE)
        sound[place : place + len(call)] += call
        lines.append(f"n.wav,{start:.3f},{start + seconds:.3f},{'UNK' if number == 7 else 'POS'}")
    soundfile.write(folder / "n.wav", sound, RATE)
    (folder / "n.csv").write_text("\n".join(lines) + "\n")
    return folder.parent


def test_the_first_calls_of_a_recording_find_the_others(night, tmp_path, capsys):
    place = ["--few-shot-detection", "filterbank", "--data", str(night), "--output", str(tmp_path / "out")]
    assert main(place) == 0
    assert "Of 3 events after the first 5 of each class, 3 are found; 0 detections are wrong." in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["f1"], metrics["n"], metrics["tasks"], metrics["subsets"]) == (1.0, 3, 1, 1)
    with (tmp_path / "out" / "tasks.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["subset"], row["true_positives"], row["false_positives"]) == ("set1", "3", "0")
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) == 5  # with the undecided one


def test_too_few_events_are_refused(night, tmp_path, capsys):
    place = ["--few-shot-detection", "filterbank", "--data", str(night), "--output", str(tmp_path / "out")]
    assert main([*place, "--n-shot", "8"]) == 2
    assert "no class with more than 8 events in a recording; give a smaller --n-shot" in capsys.readouterr().err


def write_run(folder, method):
    """A model folder as a run by episodes leaves it, with random weights."""
    head = FewShotHead(method)
    config = CNNConfig(widths=(4, 6), predictor_class=0)
    model = jax.jit(registry.build(config).init)(jax.random.key(0), jnp.zeros((1, 32, 128)))["params"]
    bundle = Bundle(jax.tree.map(np.asarray, model), config, AudioConfig(), (), False, "test")
    Model(bundle).save(folder)
    # Half a second: 48 frames, of which the convolutions leave maps of 12 x 32
    item = (6,) if method == "matching" else (12, 32, 6)
    params = jax.tree.map(np.asarray, head.init(jax.random.key(1), item))
    save_head(folder, SavedHead(method, "mean", 0.5, params))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["matching", "relation"])
def test_a_run_compares_as_it_was_trained(clips, tmp_path, capsys, method):
    write_run(tmp_path / "run", method)
    command = arguments(clips, tmp_path / "out", "--leave-out-small", "--n-tasks", "12")
    command[1] = str(tmp_path / "run")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"model, {method}: accuracy" in said
    assert "own-statistics, simpleshot" in said
    with (tmp_path / "out" / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    place = "mean" if method == "matching" else "map"
    found = [float(row[f"model features {place} {method}"]) for row in rows]
    assert len(found) == 12
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["accuracy"] == metrics[f"{method}_accuracy"] == pytest.approx(np.mean(found), abs=1e-6)
    command[command.index("--output") + 1] = str(tmp_path / "other")
    assert main([*command, "--method", "relation" if method == "matching" else "matching"]) == 2
    assert "has weights of its own" in capsys.readouterr().err
