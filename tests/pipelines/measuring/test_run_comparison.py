"""Two tables of predictions against each other, through the verb."""

import json
import re

import numpy as np
import pytest

from beats_jax.evaluate import main
from beats_jax.evaluation.metrics.comparison import compare_predictions
from beats_jax.evaluation.predictions import build_predictions, write_predictions
from beats_jax.pipelines.measuring.compare import compare_runs

NAMES = ("crow", "owl", "rain")


def write_run(folder, seed, *, rows=60, skill=0.5, files=None, multi_label=False, order=None):
    """A run's folder with predictions.csv, recordings.csv (pairs of files) and experiment.json."""
    random = np.random.default_rng(7)
    labels = random.integers(0, 3, rows)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(3), rows) + skill * np.eye(3)[labels]
    probabilities /= probabilities.sum(1, keepdims=True)
    files = files or [f"{row}.wav" for row in range(rows)]
    order = np.arange(rows) if order is None else order
    texts = [(NAMES[label], "rain") if multi_label else NAMES[label] for label in labels]
    unknown = np.full(rows, np.nan)
    columns = [files[i] for i in order], unknown, unknown, [texts[i] for i in order], probabilities[order]
    table = build_predictions(*columns, NAMES, multi_label=multi_label, threshold=0.5)
    folder.mkdir()
    write_predictions(folder / "predictions.csv", table)
    (folder / "recordings.csv").write_text("recording\n" + "".join(f"{i // 2}\n" for i in order))
    settings = {
        "data": {"multi_label": multi_label},
        "evaluation": {"bootstrap_resamples": 300, "threshold": 0.5},
        "training": {"seed": seed},
    }
    (folder / "experiment.json").write_text(json.dumps(settings))
    return labels, probabilities


def test_the_page_has_the_numbers_of_the_comparison(tmp_path, capsys):
    labels, one = write_run(tmp_path / "plain", 0)
    _, two = write_run(tmp_path / "better", 1, skill=2.0, order=np.random.default_rng(0).permutation(60))
    assert main(["--compare", str(tmp_path / "plain"), str(tmp_path / "better"), "--output", str(tmp_path / "out")]) == 0
    expected = compare_predictions(labels, one, two, np.arange(60) // 2, multi_label=False, resamples=300)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    change = expected.metrics["accuracy"]
    assert found["metrics"]["accuracy"] == pytest.approx(
        {name: getattr(change, name) for name in ("first", "second", "difference", "low", "high", "p")}
    )
    assert found["groups"] == 30
    out = capsys.readouterr().out
    assert f"accuracy: {change.first:.3f} in plain, {change.second:.3f} in better" in out
    assert "better is better" in out
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert f"{change.difference:+.3f} [{change.low:+.3f}, {change.high:+.3f}]" in page
    assert "training.seed: plain 0, better 1" in page


def test_markdown_and_multi_label(tmp_path):
    for seed, name in enumerate(("a", "b")):
        write_run(tmp_path / name, seed, multi_label=True)
    compare_runs(tmp_path / "a", tmp_path / "b", tmp_path / "out", page="md")
    page = (tmp_path / "out" / "COMPARISON.md").read_text(encoding="utf-8")
    assert "| mAP |" in page
    assert "McNemar" not in page
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["mcnemar"] is None


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"rows": 59}, "measured on other rows: 1 of 60 are missing"),
        ({"files": [f"x{row}.wav" for row in range(60)]}, "60 of 60 are missing"),
        (None, r"holds no predictions\.csv"),
    ],
)
def test_runs_on_other_rows_are_refused(tmp_path, capsys, second, message):
    write_run(tmp_path / "a", 0)
    if second is not None:
        write_run(tmp_path / "b", 1, **second)
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_arguments_that_do_not_go_together_are_refused(tmp_path, capsys):
    assert main(["--compare", "a", "b", "--output", "c", "--strict"]) == 2
    assert main(["--compare", "a", "b", "--run", "c", "--output", "d"]) == 2
    assert main(["--output", "d"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def _replaced(name, old, new):
    def damage(run):
        data = (run / name).read_bytes()
        assert old in data
        (run / name).write_bytes(data.replace(old, new, 1))

    return damage


DAMAGES = {
    "a list of settings": lambda run: (run / "experiment.json").write_text("[]"),
    "a text": lambda run: (run / "experiment.json").write_text('"x"'),
    "a number": lambda run: (run / "experiment.json").write_text("-5"),
    "deep settings": lambda run: (run / "experiment.json").write_text("[" * 100_000 + "]" * 100_000),
    "too many resamples": _replaced("experiment.json", b"300", b"1000000000"),
    "a threshold that is no number": _replaced("experiment.json", b'"threshold": 0.5', b'"threshold": NaN'),
    "recordings in no encoding": lambda run: (run / "recordings.csv").write_bytes(b"recording\n\xff\xfe\n"),
    "fewer recordings": lambda run: (run / "recordings.csv").write_text("recording\n0\n"),
    "an unknown label": _replaced("predictions.csv", b",,owl,", b",,oml,"),
    "a probability that is no number": _replaced("predictions.csv", b",0.", b",nan 0."),
    "a probability that is NaN": lambda run: (run / "predictions.csv").write_text(
        re.sub(r",[0-9.e-]+\n", ",nan\n", (run / "predictions.csv").read_text())
    ),
    "predictions in no encoding": _replaced("predictions.csv", b"3.wav", b"\xff.wav"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_one_line(tmp_path, capsys, damage):
    for seed, name in enumerate(("a", "b")):
        write_run(tmp_path / name, seed)
    DAMAGES[damage](tmp_path / "a")
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert str(tmp_path / "a") in message
    assert message.count("\n") == 1
    assert len(message) < 600
